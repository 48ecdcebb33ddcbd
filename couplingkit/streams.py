"""Named random streams: a draw depends on a seed and on names alone, never on what was drawn before it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

__all__ = ["Stream"]


@dataclass(frozen=True)
class Stream:
    """A place in a tree of random numbers, addressed by a seed and a path of names.

    Two streams with the same seed and path give the same numbers in any process, in any order, with any number
    of neighbours; there is no global state. Single draws come straight from SHA-256, so that they do not depend
    on the version of a random number library.

    >>> Stream(0).child("probe", 17).below(100) == Stream(0).child("probe", 17).below(100)
    True
    >>> Stream(0).child("probe", 17) == Stream(0).child("probe").child(17)
    True
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def child(self, *names: str | int) -> Stream:
        """Return the stream below this one at `names`."""
        return Stream(self.seed, self.path + names)

    def _digest(self) -> bytes:
        # repr() keeps 1 and "1" apart, and ("ab",) from ("a", "b").
        return hashlib.sha256(repr((self.seed, *self.path)).encode()).digest()

    def below(self, count: int) -> int:
        """Return this stream's one integer, uniform in [0, count); the bias is below count / 2**128."""
        return (int.from_bytes(self._digest()[:16], "big") * count) >> 128

    def generator(self) -> np.random.Generator:
        """Return a fresh NumPy generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=int.from_bytes(self._digest()[:16], "big")))

    def torch_seed(self) -> int:
        """Return a seed in [0, 2**63) for torch's generators."""
        return int.from_bytes(self._digest()[16:24], "big") >> 1
