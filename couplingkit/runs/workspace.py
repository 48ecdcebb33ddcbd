"""Where a long run keeps what it has so far: beside its place, so that the same command goes on, and no other does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import DataError, OutputError, listed
from ..files import check_place, write_text
from ..processes import ALONE, Processes
from ..study.rows import Parts
from ..typed_files import json_text, read_json

__all__ = ["UNFINISHED", "Workspace", "open_workspace"]

UNFINISHED = ".unfinished"
RECORD, LOCK = "run.json", "lock"
# The last are training runs, which have folders of their own.
KEPT = ("chunk-*.csv", "train-*.npz", "test-*.npz", "run/**/*")


@dataclass(frozen=True)
class Workspace:
    """A run's place.

    Attributes:
        out: where the results go when they are whole.
        work: where rows lie until then; `OUT.unfinished`.
        replaces: whether older results of the same run lie at `out`, which are to be replaced.
        whole: not empty when the results are whole.
    """

    out: Path
    work: Path
    replaces: bool
    whole: list[bool] = field(default_factory=list)

    def parts(self, *what: Any) -> Parts:
        """Return the place for the rows of one model; `what` is everything that decides them, as JSON values."""
        return Parts(self.folder(*what))

    def folder(self, *what: Any) -> Path:
        """Return the folder of what is kept of one model; `what` as in `parts`."""
        name = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self.work / "parts" / name

    def begun(self) -> bool:
        """Return whether any rows are kept."""
        return bool(_kept(self.work))

    def close(self) -> None:
        """Say that the results are whole, so that what was kept can go."""
        self.whole.append(True)

    def clear(self) -> None:
        """Remove what couplingkit wrote into the work folder, and the folder if nothing else lies there."""
        drafts = (self.work / "parts").glob("*/.couplingkit-draft-*")
        for path in [self.work / RECORD, *_kept(self.work), *drafts]:
            path.unlink(missing_ok=True)
        (self.work / LOCK).unlink(missing_ok=True)
        inner = sorted((path for path in self.work.glob("parts/*/run/**/") if path.is_dir()), reverse=True)
        for folder in [*inner, *(self.work / "parts").glob("*"), self.work / "parts", self.work]:
            with suppress(OSError):
                folder.rmdir()


def _kept(work: Path) -> list[Path]:
    """Return the files of rows, of photos' features and of training runs that are kept."""
    return [path for pattern in KEPT for path in (work / "parts").glob(f"*/{pattern}") if not path.is_dir()]


@contextmanager
def open_workspace(
    out: Path, identity: Mapping[str, Any], *, overwrite: bool, again: bool = False, processes: Processes = ALONE
) -> Iterator[Workspace]:
    """Take possession of a run's place, and find out what was measured there already.

    Args:
        out: where the results are to go.
        identity: what the run is, as JSON values; rows of another one are refused.
        overwrite: whether other results may be replaced.
        again: whether what lies at `out` is of this very run (but not whole), so that it is replaced.
        processes: that do the run together; the first of them holds the place.

    Raises:
        OutputError: other results are there, another run is under way there, or the disk refuses.
    """
    work = out.with_name(out.name + UNFINISHED)
    said = json.loads(json.dumps(identity))
    lock = FileLock(work / LOCK)

    def begin() -> bool:
        check_place(out, overwrite=overwrite or again)
        check_place(work, overwrite=True, folder=True) if not work.exists() else None
        _take(lock, out, work)
        try:
            _continue(work, said, overwrite)
        except BaseException:
            lock.release()
            _leave(work)
            raise
        return overwrite or again

    workspace = Workspace(out, work, processes.only_first(begin))
    try:
        yield workspace
    finally:
        if lock.is_locked:
            if workspace.whole or not workspace.begun():
                workspace.clear()
            lock.release()


def _take(lock: FileLock, out: Path, work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"out {out} is being written by another run; wait for it, or choose another `out`.") from None
    except OSError as error:
        raise OutputError(f"out {out} cannot be made ({error.strerror or error}).") from error


def _leave(work: Path) -> None:
    """Remove a work folder in which nothing lies but its lock."""
    if [path.name for path in work.iterdir()] == [LOCK]:
        (work / LOCK).unlink()
        work.rmdir()


def _continue(work: Path, said: Mapping[str, Any], overwrite: bool) -> None:
    """Check that what is kept is of the same run, or write down whose it will be."""
    record = work / RECORD
    foreign = sorted(path.name for path in work.iterdir() if path.name != LOCK)
    if foreign and not record.exists():
        raise OutputError(
            f"out {work} is where rows are kept until the run is whole, and holds what couplingkit did not write "
            f"({listed(foreign, most=3)}); choose another `out`."
        )
    try:
        kept = read_json(record, dict[str, Any], "run") if record.exists() else None
    except DataError:
        # A record that is not whole is nobody's.
        kept = {}
    if kept == said:
        return
    if kept is not None and not overwrite:
        differing = sorted(key for key in {*kept, *said} if kept.get(key) != said.get(key))
        raise OutputError(
            f"out {work} keeps an unfinished run of another command (other {listed(differing)}); end that one, delete "
            "the folder, choose another `out`, or drop it with `overwrite`."
        )
    for path in _kept(work):
        path.unlink(missing_ok=True)
    write_text(record, json_text(said))
