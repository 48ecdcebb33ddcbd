"""Results reach the disk whole or not at all: written under a temporary name beside their place, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import OutputError, listed

__all__ = ["check_free", "new_file", "new_folder", "read_json_lines"]

# Lists what was written into a folder, so that --overwrite deletes nothing else.
MARKER = ".couplingkit"


def check_free(path: Path, *, overwrite: bool, folder: bool = True) -> None:
    """Raise `OutputError` if results cannot go to `path`: it exists, may not be replaced, or cannot be written.

    Called before the work starts, so that nobody waits for hours to be refused. What is replaced must be couplingkit's
    own: a folder that holds anything else (photos, notes) is never deleted.

    Args:
        path: where the results are to go.
        overwrite: whether an older result may be replaced.
        folder: whether the result is a folder.
    """
    if path.resolve() == Path.cwd() or path.resolve() in Path.cwd().parents:
        raise OutputError(f"out {path} is the folder you are in, or above it; name a new folder.")
    if path.exists() and not overwrite:
        raise OutputError(f"out {path} exists; choose another --out, or replace it with --overwrite.")
    if path.exists() and folder != path.is_dir():
        raise OutputError(f"out {path} is {'no folder' if folder else 'a folder'} and is not replaced; choose another.")
    if path.is_dir():
        _check_own(path)
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".couplingkit.", dir=parent):
            pass
    except OSError as error:
        raise OutputError(f"out {path} cannot be made: {parent} cannot be written to ({error.strerror}).") from error


def _check_own(path: Path) -> None:
    """Raise `OutputError` if a folder holds anything that couplingkit did not write."""
    present = {entry.name for entry in path.iterdir()}
    marker = path / MARKER
    written = set(marker.read_text().splitlines()) | {MARKER} if marker.is_file() else set()
    foreign = sorted(present - written)
    if foreign:
        raise OutputError(
            f"out {path} holds what couplingkit did not write ({listed(foreign, most=3)}) and is not replaced; choose "
            "another --out."
        )


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
            written = sorted(entry.name for entry in draft.iterdir())
            (draft / MARKER).write_text("".join(f"{name}\n" for name in written))
            _swap_in(draft, path, overwrite)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give the name of a temporary file to write, which becomes `path` when the block ends well.

    The temporary name keeps the suffix, by which writers choose a format.
    """
    check_free(path, overwrite=overwrite, folder=False)
    with _explained(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.absolute().parent)
        os.close(handle)
    draft = Path(name)
    try:
        with _explained(path):
            yield draft
            draft.chmod(0o644)
            check_free(path, overwrite=overwrite, folder=False)
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log with one JSON object a line; none where there is no file.

    Lines that are not whole, as the last one is where the plug was pulled, are left out.
    """
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


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
