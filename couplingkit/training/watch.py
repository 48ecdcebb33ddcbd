"""What a run tells whoever looks at it while it trains: numbers, and its networks as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .engine import LogLine

__all__ = ["Watch"]


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
