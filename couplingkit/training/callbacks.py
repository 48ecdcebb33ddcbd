"""What a run tells whoever looks at it while it trains: numbers, and its networks as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, near
from .engine import LogLine

__all__ = ["TRACKERS", "Trackers", "Watch"]

# name -> the module that it needs.
TRACKERS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


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


class Trackers:
    """Passes numbers on to what people watch runs with; nothing is opened before the first one comes.

    Args:
        names: of `TRACKERS`.
        out: the run folder; TensorBoard's files lie in it.
        done: steps that a run has made already; what TensorBoard holds of later ones is hidden.

    Raises:
        ArgumentError: no such tracker, or its package is not installed.
    """

    def __init__(self, names: Sequence[str], out: Path, done: int):
        for name in names:
            if name not in TRACKERS:
                raise ArgumentError(f"tracker must be of {', '.join(TRACKERS)}, not {name!r}{near(name, TRACKERS)}.")
            try:
                import_module(TRACKERS[name])
            except ImportError as error:
                raise ArgumentError(
                    f"tracker {name} needs a package that is not installed: pip install 'couplingkit[{name}]'."
                ) from error
        self._names, self._out, self._done = tuple(names), out, done
        self._open: list[Any] = []

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Pass on some numbers of a step."""
        if not self._open:
            self._open = [self._started(name) for name in self._names]
        for tracker in self._open:
            tracker.log(dict(values), step=step)

    def line(self, values: LogLine) -> None:
        """Pass on a line of the log."""
        self.add({name: value for name, value in values.items() if name != "step"}, int(values["step"]))

    def _started(self, name: str) -> Any:
        # Once the engine runs: they ask it which process they are in.
        from accelerate import tracking

        tracker: Any
        if name == "tensorboard":
            hidden = {"purge_step": self._done} if self._done else {}
            tracker = tracking.TensorBoardTracker("tensorboard", self._out, **hidden)
        else:
            tracker = tracking.WandBTracker("couplingkit", name=self._out.name, dir=str(self._out))
        tracker.start()
        return tracker

    def close(self) -> None:
        """Close what was opened."""
        for tracker in self._open:
            tracker.finish()
        self._open = []
