"""Scenes that are asked for again and again: drawn once, and read from a file in the user's cache folder after that."""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import cache_folder
from . import scenes
from .scenes import draw_scene

__all__ = ["SceneCache", "drawer"]

MOST_BYTES = 2**30
CHECK_BYTES = 4


@dataclass(frozen=True)
class SceneCache:
    """The pictures of a set of scenes, each at its place in one file.

    A picture counts as held where its checksum is right: a file that several processes fill at once, or that was cut
    short, never gives another picture. Where the file cannot be read or written, pictures are drawn each time.

    Attributes:
        count: scenes of the set; where all of them would take more than 1 GiB, none is kept.
        seed: of the set.
        width, height: px.
    """

    count: int
    seed: int
    width: int
    height: int

    def read(self, number: int) -> NDArray[np.uint8]:
        """Return the picture of a scene, uint8 (H, W, 3)."""
        size = self.height * self.width * 3
        place = number * (CHECK_BYTES + size)
        if self.count * (CHECK_BYTES + size) > MOST_BYTES:
            return self._drawn(number)
        # The code that draws is part of the name: other code, other pictures.
        path = cache_folder() / f"scenes-{drawer()}-{self.seed}-{self.width}x{self.height}.raw"
        content = _held(path, place, size)
        if content is not None:
            return np.frombuffer(content, dtype=np.uint8).reshape(self.height, self.width, 3).copy()
        drawn = self._drawn(number)
        _keep(path, place, drawn.tobytes())
        return drawn

    def _drawn(self, number: int) -> NDArray[np.uint8]:
        return draw_scene(number, seed=self.seed, width=self.width, height=self.height).rgb


@cache
def drawer() -> str:
    """Return what changes with the code that draws scenes: 12 hexadecimal digits."""
    return hashlib.sha256(Path(scenes.__file__).read_bytes() + np.__version__.encode()).hexdigest()[:12]


def _held(path: Path, place: int, size: int) -> bytes | None:
    try:
        with path.open("rb") as stream:
            stream.seek(place)
            check, content = stream.read(CHECK_BYTES), stream.read(size)
    except OSError:
        return None
    whole = len(content) == size and int.from_bytes(check, "little") == zlib.crc32(content)
    return content if whole else None


def _keep(path: Path, place: int, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not cut short by being opened: another process may be writing another place of it.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644), "r+b") as stream:
            stream.seek(place)
            stream.write(zlib.crc32(content).to_bytes(CHECK_BYTES, "little") + content)
    except OSError:
        # A full or read-only disk costs speed, nothing else.
        return
