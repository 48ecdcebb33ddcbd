"""What a run tells whoever looks at it while it trains: numbers, and its networks as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from .engine import LogLine

__all__ = ["TensorBoard", "Watch"]


@dataclass(frozen=True)
class Watch:
    """What looks at a run while it goes on; it sees files and numbers, and changes nothing.

    Attributes:
        line: called with each line of the log.
        look: called with the steps that are done and the weights file of the network that the method is evaluated by,
            which is there for as long as the call lasts.
        every: steps between looks; 0 never looks. The first look is at the untrained networks, the last at the end.
    """

    line: Callable[[LogLine], None] = lambda line: None
    look: Callable[[int, Path], None] = lambda step, weights: None
    every: int = 0

    def due(self, done: int, steps: int) -> bool:
        """Return whether to look after `done` steps of `steps`."""
        return self.every > 0 and (done % self.every == 0 or done == steps)


class TensorBoard:
    """Writes numbers for TensorBoard; its files are made at the first one, so that a refused run leaves no folder.

    Args:
        folder: of its files.
        done: steps that a run has made already; what is there of later ones is hidden.

    Raises:
        ArgumentError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, done: int):
        try:
            tensorboard = import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ArgumentError(
                "tensorboard needs a package that is not installed: pip install 'couplingkit[tensorboard]'."
            ) from error
        writer: Any = tensorboard.SummaryWriter
        self._make: Callable[[], Any] = lambda: writer(str(folder), purge_step=done or None)
        self._made: Any = None

    def add(self, name: str, value: float, step: int) -> None:
        """Write a number."""
        self._made = self._made or self._make()
        self._made.add_scalar(name, value, step)

    def line(self, values: LogLine) -> None:
        """Write each number of a line of the log."""
        for name, value in values.items():
            if name != "step":
                self.add(name, value, int(values["step"]))

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._made is not None:
            self._made.close()
