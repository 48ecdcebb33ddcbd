"""What a pass over photos gives, chunk by chunk, in memory or in files that a run goes on from."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import new_file

__all__ = ["Arrays", "Chunks"]

Arrays = dict[str, NDArray[Any]]
SUFFIX = ".npz"


class Chunks:
    """Named arrays by the name of a chunk, each there whole or not at all.

    Args:
        folder: of the files; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._held: dict[str, Arrays] = {}

    def has(self, name: str) -> bool:
        """Return whether a chunk is there and can be read."""
        return self.read(name) is not None

    def read(self, name: str) -> Arrays | None:
        """Return a chunk; None where it is not there, or damaged."""
        if self.folder is None:
            return self._held.get(name)
        try:
            with np.load(self.folder / f"{name}{SUFFIX}", allow_pickle=False) as held:
                return {key: held[key] for key in held.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a chunk.

        Raises:
            OutputError: the disk refuses; the chunks before are kept.
        """
        if self.folder is None:
            self._held[name] = dict(arrays)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with new_file(self.folder / f"{name}{SUFFIX}", mark=None, durable=True) as draft, draft.open("wb") as stream:
            # An array called `allow_pickle` would be an option; there is none.
            np.savez(stream, **dict(arrays))  # type: ignore[arg-type]
