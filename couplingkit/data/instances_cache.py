"""An instances JSON in, its columns out: parsed the first time, and from the user's cache folder after that."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from ..errors import DataError
from .instances import InstanceTable, file_sha256, parse_instances

__all__ = ["cache_folder", "read_table"]

# Smaller files are read faster than it takes to look anything up.
SMALLEST_BYTES = 2**20
# Moves on when the columns change, so that an older couplingkit's cache is not read.
FORMAT = 1
# A file that was written so short a time before its stamp was taken may have been written again within the same tick.
TICK_NS = 2 * 10**9


def cache_folder() -> Path:
    """Return where parsed annotations are kept: $COUPLINGKIT_CACHE, or our part of the user's cache folder."""
    chosen = os.environ.get("COUPLINGKIT_CACHE")
    return Path(chosen) if chosen else user_cache_path("couplingkit", appauthor=False)


def read_table(path: Path) -> tuple[InstanceTable, str]:
    """Return an instances JSON as columns, and its SHA-256; errors as in `read_instances`.

    The cache is believed where size and time of the file are those it was made of; where only the time differs, where
    the file's hash is the same, too. A cache that cannot be written or read is made again and otherwise ignored.
    """
    try:
        status = path.stat()
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            f"annotations {path} cannot be read ({error.strerror}); give the path of an instances JSON."
        ) from error
    if status.st_size < SMALLEST_BYTES:
        return parse_instances(path), file_sha256(path)
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    kept = cache_folder() / f"instances-{name}.npz"
    stamp = np.array([FORMAT, status.st_size, status.st_mtime_ns], dtype=np.int64)
    found = _held(kept, stamp, path)
    if found is None:
        noticed = time.time_ns()
        found = parse_instances(path), file_sha256(path)
        settled = noticed - status.st_mtime_ns > TICK_NS
        _keep(kept, stamp if settled else stamp * [1, 1, 0], found)
    return found


def _held(kept: Path, stamp: np.ndarray, path: Path) -> tuple[InstanceTable, str] | None:
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["stamp"][:2], stamp[:2]):
                return None
            sha256 = str(arrays["sha256"])
            moved = arrays["stamp"][2] != stamp[2]
            if moved and file_sha256(path) != sha256:
                return None
            found = InstanceTable(**{field.name: arrays[field.name] for field in fields(InstanceTable)}), sha256
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    if moved and time.time_ns() - stamp[2] > TICK_NS:
        _keep(kept, stamp, found)
    return found


def _keep(kept: Path, stamp: np.ndarray, found: tuple[InstanceTable, str]) -> None:
    table, sha256 = found
    draft = None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may be at it; each has a name of its own, and the last one's stays.
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=".instances-", suffix=".npz", delete=False) as stream:
            draft = Path(stream.name)
            np.savez(stream, stamp=stamp, sha256=np.array(sha256), **vars(table))
        draft.replace(kept)
    except OSError:
        # A full or read-only disk costs time at the next start, and nothing else.
        if draft is not None:
            draft.unlink(missing_ok=True)
