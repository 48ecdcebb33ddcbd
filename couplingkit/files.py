"""Results reach the disk whole or not at all: written under a temporary name beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

__all__ = ["check_free", "new_file", "new_folder"]


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if `path` exists and may not be replaced, or its parent cannot be written to.

    Called before the work starts, so that nobody waits for hours to be refused.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"out {path} exists; choose another --out, or replace it with --overwrite.")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"out {path} cannot be made: {parent} is no folder that can be written to.")


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill, which becomes `path` when the block ends well and vanishes when it does not.

    With `overwrite` an older `path` stays whole until the new one is complete.

    Raises:
        OutputError: `path` exists (without `overwrite`), or the disk refuses.
    """
    check_free(path, overwrite=overwrite)
    with _explained(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.absolute().parent))
    try:
        with _explained(path):
            yield draft
            draft.chmod(0o755)
            _swap_in(draft, path, overwrite)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give the name of a temporary file to write, which becomes `path` when the block ends well.

    The temporary name keeps the suffix, by which writers choose a format.
    """
    check_free(path, overwrite=overwrite)
    with _explained(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.absolute().parent)
        os.close(handle)
    draft = Path(name)
    try:
        with _explained(path):
            yield draft
            draft.chmod(0o644)
            check_free(path, overwrite=overwrite)
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _swap_in(draft: Path, path: Path, overwrite: bool) -> None:
    if not path.exists():
        draft.rename(path)
        return
    check_free(path, overwrite=overwrite)
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.absolute().parent)) / path.name
    path.rename(old)
    draft.rename(path)
    shutil.rmtree(old.parent, ignore_errors=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"out {path} cannot be written: {error.strerror or error}.") from error
