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

from ..errors import OutputError, listed
from ..files import check_free, new_file
from .processes import ALONE, Processes
from .rows import Parts

__all__ = ["SUMMARY", "RunFolder", "open_run"]

SUMMARY = "summary.json"
SUFFIX = ".unfinished"
RECORD, LOCK = "run.json", "lock"


@dataclass(frozen=True)
class RunFolder:
    """A run's place.

    Attributes:
        out: where the results go when they are whole.
        work: where rows lie until then; `OUT.unfinished`.
        finished: whether the same run has ended here before, so that there is nothing to do.
        whole: not empty when the results are whole.
    """

    out: Path
    work: Path
    finished: bool
    whole: list[bool] = field(default_factory=list)

    def parts(self, *what: Any) -> Parts:
        """Return the place for the rows of one model; `what` is everything that decides them, as JSON values."""
        name = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return Parts(self.work / "parts" / name)

    def begun(self) -> bool:
        """Return whether any rows are kept."""
        return any((self.work / "parts").glob("*/chunk-*.csv"))

    def close(self) -> None:
        """Say that the results are whole, so that what was kept can go."""
        self.whole.append(True)

    def clear(self) -> None:
        """Remove what couplingkit wrote into the work folder, and the folder if nothing else lies there."""
        for path in [self.work / RECORD, *(self.work / "parts").glob("*/*chunk-*.csv*")]:
            path.unlink(missing_ok=True)
        (self.work / LOCK).unlink(missing_ok=True)
        for folder in [*(self.work / "parts").glob("*"), self.work / "parts", self.work]:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def open_run(
    out: Path, identity: Mapping[str, Any], *, overwrite: bool, processes: Processes = ALONE
) -> Iterator[RunFolder]:
    """Take possession of a run's place, and find out what is there already.

    Args:
        out: where the results are to go.
        identity: what the run is, as JSON values; `summary.json` of its results must say the same under "run".
        overwrite: whether other results may be replaced.
        processes: that do the run together; the first of them holds the place.

    Raises:
        OutputError: other results are there, another run is under way there, or the disk refuses.
    """
    work = out.with_name(out.name + SUFFIX)
    told = json.loads(json.dumps(identity))
    lock = FileLock(work / LOCK)

    def begin() -> bool:
        previous = None if overwrite else _previous(out)
        if previous is not None and previous.get("run") == told and not previous.get("failures"):
            return True
        again = previous is not None and previous.get("run") == told
        check_free(out, overwrite=overwrite or again)
        _take(lock, out, work)
        try:
            _continue(work, told, overwrite)
        except BaseException:
            lock.release()
            raise
        return False

    run = RunFolder(out, work, processes.only_first(begin))
    try:
        yield run
    finally:
        if lock.is_locked:
            if run.whole or not run.begun():
                run.clear()
            lock.release()


def _previous(out: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((out / SUMMARY).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _take(lock: FileLock, out: Path, work: Path) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"out {out} is being written by another run; wait for it, or choose another --out.") from None
    except OSError as error:
        raise OutputError(f"out {out} cannot be made ({error.strerror or error}).") from error


def _continue(work: Path, told: Mapping[str, Any], overwrite: bool) -> None:
    """Check that what is kept is of the same run, or write down whose it will be."""
    record = work / RECORD
    foreign = sorted(path.name for path in work.iterdir() if path.name != LOCK)
    if foreign and not record.exists():
        raise OutputError(
            f"out {work} is where rows are kept until the run is whole, and holds what couplingkit did not write "
            f"({listed(foreign, most=3)}); choose another --out."
        )
    try:
        kept = json.loads(record.read_text()) if record.exists() else None
    except (OSError, ValueError):
        kept = {}
    if kept == told:
        return
    if kept is not None and not overwrite:
        differing = sorted(key for key in {*kept, *told} if kept.get(key) != told.get(key))
        raise OutputError(
            f"out {work} keeps an unfinished run of another command (other {listed(differing)}); end that one, delete "
            "the folder, choose another --out, or drop it with --overwrite."
        )
    for path in (work / "parts").glob("*/*chunk-*.csv*"):
        path.unlink(missing_ok=True)
    with new_file(record, overwrite=True) as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n")
