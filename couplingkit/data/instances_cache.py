"""An instances JSON in, its columns out: parsed the first time, and from the user's cache folder after that."""

from __future__ import annotations

import hashlib
import time
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OutputError
from ..files import cache_folder, file_sha256, file_stamp, new_file
from .instances import InstanceTable
from .instances_parsing import parse_instances

__all__ = ["read_table"]

# Smaller files are read faster than it takes to look anything up.
SMALLEST_BYTES = 2**20
# Moves on when the columns change, so that an older couplingkit's cache is not read.
FORMAT = 4
# A file that was written so short a time before its stamp was taken may have been written again within the same tick.
TICK_NS = 2 * 10**9

Stamp = NDArray[np.int64]


def read_table(path: Path) -> tuple[InstanceTable, str]:
    """Return an instances JSON as columns, and its SHA-256; errors as in `read_instances`.

    The cache is believed where the file's stamp (`file_stamp`) is that of the file it was made of, or the file's hash
    is the same. A cache that cannot be written or read is made again and otherwise ignored.
    """
    try:
        stamp = np.array([FORMAT, *file_stamp(path)], dtype=np.int64)
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"annotations {path} cannot be read ({why}); give the path of an instances JSON.") from error
    if stamp[1] < SMALLEST_BYTES:
        return _parsed(path)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    kept = cache_folder() / f"instances-{name}.npz"
    found = _held(kept, stamp, path)
    if found is None:
        found = _parsed(path)
        _keep(kept, stamp, found)
    return found


def _parsed(path: Path) -> tuple[InstanceTable, str]:
    """Return columns and hash of the same bytes."""
    before = file_stamp(path)
    found = parse_instances(path), file_sha256(path)
    if file_stamp(path) != before:
        raise DataError(f"annotations {path} were written while they were read; wait until they are whole.")
    return found


def _held(kept: Path, stamp: Stamp, path: Path) -> tuple[InstanceTable, str] | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["stamp"][:2], stamp[:2]):
                return None
            sha256 = str(arrays["sha256"])
            moved = not np.array_equal(arrays["stamp"], stamp)
            if moved and file_sha256(path) != sha256:
                return None
            found = InstanceTable(**{field.name: arrays[field.name] for field in fields(InstanceTable)}), sha256
    except (OSError, KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        return None
    if not found[0].is_sound():
        return None
    if moved:
        _keep(kept, stamp, found)
    return found


def _keep(kept: Path, stamp: Stamp, found: tuple[InstanceTable, str]) -> None:
    table, sha256 = found
    settled = time.time_ns() - max(stamp[2], stamp[4]) > TICK_NS
    try:
        # Two processes may be at it; each has a draft of its own, and the last one's stays.
        with new_file(kept, mark=None) as draft, draft.open("wb") as stream:
            # A time of 0 is no file's, so that the hash is asked for.
            np.savez(
                stream, stamp=stamp if settled else stamp * [1, 1, 0, 0, 0], sha256=np.array(sha256), **vars(table)
            )
    except OutputError:
        # A full or read-only disk costs time at the next start, and nothing else.
        return
