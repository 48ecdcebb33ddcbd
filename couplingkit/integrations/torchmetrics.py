"""A `CouplingMonitor` in, a metric of torchmetrics out (`pip install 'couplingkit[torchmetrics]'`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ..errors import ArgumentError
from ..study.monitor import CouplingMonitor, Read

__all__ = ["CouplingMetric"]


class CouplingMetric(Metric):  # type: ignore[misc]
    """The coupling of a network as a metric: `update(network)` looks at it, `compute()` gives the last look's numbers.

    It is of the network and not of a batch, so that nothing is gathered over batches or processes: each process has
    the same network and gets the same numbers.

    Args:
        monitor: what is looked at.
        read: (network, normalised images) -> features (B, D, h, w).
        more: as `torchmetrics.Metric` takes it.
    """

    full_state_update = False

    def __init__(self, monitor: CouplingMonitor, read: Read, **more: Any):
        super().__init__(**more)
        self.monitor, self.read = monitor, read
        self.found: dict[str, float] = {}

    def update(self, network: nn.Module) -> None:
        """Look at a network."""
        self.found = self.monitor(network, self.read)

    def compute(self) -> dict[str, Tensor]:
        """Return the numbers of the last look.

        Raises:
            ArgumentError: nothing was looked at.
        """
        if not self.found:
            raise ArgumentError("update must be called with a network before compute.")
        return {name: torch.tensor(value) for name, value in self.found.items()}

    def reset(self) -> None:
        """Forget the last look."""
        super().reset()
        self.found = {}
