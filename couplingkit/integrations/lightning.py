"""A `CouplingMonitor` in, a callback of Lightning out (`pip install 'couplingkit[lightning]'`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ..study.monitor import CouplingMonitor, Read

__all__ = ["CouplingCallback"]


class CouplingCallback(Callback):  # type: ignore[misc]
    """Logs the coupling of a module's backbone after every `monitor.every` optimizer steps, on the first process.

    Args:
        monitor: what is looked at.
        read: (network, normalised images) -> features (B, D, h, w).
        network: module -> the network that is read; the module itself by default.
    """

    def __init__(
        self, monitor: CouplingMonitor, read: Read, *, network: Callable[[LightningModule], nn.Module] | None = None
    ):
        self.monitor, self.read = monitor, read
        self.network = network or (lambda module: module)
        self._seen = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look where a step is done; of accumulated gradients only the last batch does one."""
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        if trainer.is_global_zero and self.monitor.due(self._seen - 1):
            found = self.monitor(self.network(pl_module), self.read)
            pl_module.log_dict(found, rank_zero_only=True)
