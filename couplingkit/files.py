"""Files in and out: written whole or not at all, replaced only where they are our own, hashed by their content.

A result is written under a temporary name (a draft) beside its place and renamed when it is whole. A folder of ours
lists its files in `.couplingkit`, a file of ours carries our name; nothing else is ever replaced. Drafts that a killed
process left are removed by the next one that writes to the same place.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from .errors import OutputError, listed

__all__ = [
    "MARK",
    "cache_folder",
    "check_place",
    "file_sha256",
    "file_stamp",
    "is_own_folder",
    "new_file",
    "new_folder",
    "write_text",
]

# Lists what was written into a folder, a path a line, so that nothing else is deleted with it.
MARKER = ".couplingkit"
# What a single file of ours says somewhere, uncompressed, so that nobody else's is replaced.
MARK = b"couplingkit"
DRAFT = ".couplingkit-draft-"
# What systems say of names and places that cannot be, whatever is there.
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def check_place(
    path: Path, *, overwrite: bool, folder: bool = True, inputs: Iterable[Path] = (), mark: bytes = MARK
) -> None:
    """Raise `OutputError` if results cannot go to `path`: it cannot be, is not ours, or may not be replaced.

    Called before the work starts, so that nobody waits for hours to be refused.

    Args:
        path: where the results are to go.
        overwrite: whether an older result may be replaced.
        folder: whether the result is a folder.
        inputs: what the same work reads; never replaced.
        mark: what a file of this kind says if it is ours.
    """
    _check_name(path)
    if path.resolve() == Path.cwd() or path.resolve() in Path.cwd().parents:
        raise OutputError(f"out {path} is the folder you are in, or above it; name a new folder.")
    if path.exists():
        _check_replaceable(path, overwrite=overwrite, folder=folder, inputs=inputs, mark=mark)
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        why = "it is no folder" if not parent.is_dir() else "it cannot be written to"
        raise OutputError(f"out {path} cannot be made in {parent}: {why}; choose another place.")


def _check_name(path: Path) -> None:
    try:
        os.fsencode(path)
        path.lstat()
        path.resolve(strict=True)
    except FileNotFoundError:
        if path.is_symlink():
            raise OutputError(f"out {path} is a link to nothing; remove it, or choose another place.") from None
    except NotADirectoryError:
        raise OutputError(f"out {path} cannot be made: a part of its path is a file; choose another place.") from None
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links is a RuntimeError up to Python 3.12.
        why = getattr(error, "strerror", None) or "it is no path"
        shown = str(path) if len(str(path)) < 80 else f"{str(path)[:40]}..."
        raise OutputError(f"out {shown!r} cannot be made ({why}); choose another name.") from error


def _check_replaceable(path: Path, *, overwrite: bool, folder: bool, inputs: Iterable[Path], mark: bytes) -> None:
    target = path.resolve()
    for source in inputs:
        if source.exists() and (source.resolve() == target or target in source.resolve().parents):
            raise OutputError(f"out {path} holds {source}, which this very command reads; choose another place.")
    if not overwrite:
        raise OutputError(f"out {path} exists; choose another place, or replace it with `overwrite`.")
    if folder != path.is_dir():
        raise OutputError(f"out {path} is {'no folder' if folder else 'a folder'} and is not replaced; choose another.")
    foreign = _foreign(target) if folder else ([] if _carries(target, mark) else [path.name])
    if foreign:
        raise OutputError(
            f"out {path} {'holds' if folder else 'is'} what couplingkit did not write ({listed(foreign, most=3)}) and "
            "is not replaced; choose another place."
        )


def _foreign(folder: Path) -> list[str]:
    """Return what lies in a folder, at any depth, and is none of our own files."""
    marker = folder / MARKER
    written = set(marker.read_text(encoding="utf-8").splitlines()) | {MARKER} if marker.is_file() else set()
    return sorted(set(_members(folder)) - written)


def _members(folder: Path) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it, with slashes."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield (Path(place) / name).relative_to(folder).as_posix()


def is_own_folder(path: Path) -> bool:
    """Return whether couplingkit wrote a folder, and everything in it."""
    return (path / MARKER).is_file() and not _foreign(path)


def _carries(path: Path, mark: bytes) -> bool:
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(mark) >= 0
    except (OSError, ValueError):
        # An empty file has nobody's name on it.
        return False


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Give a temporary folder to fill, which becomes `path` when the block ends well and vanishes when it does not.

    With `overwrite` an older `path` stays whole until the new one is complete.

    Raises:
        OutputError: `path` may not be written (see `check_place`), or the disk refuses.
    """
    check_place(path, overwrite=overwrite, inputs=inputs)
    target = path.resolve()
    with _explained(path):
        draft = _new_draft(target)
        draft.mkdir()
    try:
        with _explained(path):
            yield draft
            (draft / MARKER).write_text("".join(f"{name}\n" for name in sorted(_members(draft))), encoding="utf-8")
            if path.exists():
                check_place(path, overwrite=overwrite, inputs=inputs)
            _swap_in(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def new_file(
    path: Path,
    *,
    overwrite: bool = False,
    inputs: Iterable[Path] = (),
    mark: bytes | None = MARK,
    durable: bool = False,
) -> Iterator[Path]:
    """Give the name of a temporary file to write, which becomes `path` when the block ends well.

    The temporary name keeps the suffix, by which writers choose a format.

    Args:
        path: of the file.
        overwrite: whether an older one may be replaced.
        inputs: what the same work reads; never replaced.
        mark: what a file of this kind says if it is ours; None in a folder that is ours alone.
        durable: whether the disk is waited for, so that the file is there after a power failure.
    """
    if mark is None:
        _check_name(path)
    else:
        check_place(path, overwrite=overwrite, folder=False, inputs=inputs, mark=mark)
    target = path.resolve()
    with _explained(path):
        draft = _new_draft(target, target.suffix)
        # Made by ourselves, so that the user's umask decides who may read it.
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _explained(path):
            yield draft
            if durable:
                with draft.open("rb") as stream:
                    os.fsync(stream.fileno())
            if mark is not None:
                check_place(path, overwrite=overwrite, folder=False, inputs=inputs, mark=mark)
            draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a file of a folder that is ours alone, whole or not at all, as UTF-8.

    Raises:
        OutputError: the disk refuses; an older file is as it was.
    """
    with new_file(path, mark=None, durable=durable) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_stamp(path: Path) -> tuple[int, int, int, int]:
    """Return size, time, inode and time of the last change (which no program can set) of a file.

    Two looks that agree in all four are at the same bytes; size and time alone are kept by many ways of copying.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


def cache_folder() -> Path:
    """Return where what was worked out once is kept: $COUPLINGKIT_CACHE, or our part of the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("COUPLINGKIT_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("couplingkit", appauthor=False)


def _new_draft(target: Path, suffix: str = "") -> Path:
    """Return a new temporary name beside a place; what killed processes left there before is cleared away."""
    target.parent.mkdir(parents=True, exist_ok=True)
    start = f"{DRAFT}{hashlib.sha256(target.name.encode()).hexdigest()[:8]}-{HOST}-"
    for left in target.parent.glob(f"{start}*"):
        process = left.name.removeprefix(start).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            _clear(left, target)
    return target.parent / f"{start}{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def _clear(left: Path, target: Path) -> None:
    """Remove a draft of a process that is gone; put back what it had set aside and could not replace any more."""
    if left.suffix == ".old" and not target.exists():
        left.rename(target)
    elif left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _swap_in(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    # Whoever is killed between the two renames leaves the old results under this name, and the next run finds them.
    old = draft.with_name(f"{draft.name}.old")
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"out {path} cannot be written: {error.strerror or error}.") from error
