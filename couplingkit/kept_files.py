"""Keys in, files of the user's cache folder out: each built once by whoever comes first, the oldest removed in time."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from .errors import OutputError
from .files import cache_folder, new_file

__all__ = ["KeptFiles"]

log = logging.getLogger(__name__)
# One lock for many keys: so many processes at once build different files, and no lock of a forgotten key stays behind.
LOCKS = 16


@dataclass(frozen=True)
class KeptFiles:
    """The files of one kind in the cache folder.

    Attributes:
        kind: name of their folder, and their suffix.
        most_bytes: of all of them together; the least recently used are removed.
    """

    kind: str
    most_bytes: int

    @property
    def folder(self) -> Path:
        """Where they are."""
        return cache_folder() / self.kind

    def path(self, key: str) -> Path:
        """Return where the file of a key is, or would be."""
        return self.folder / f"{key}.{self.kind}"

    @contextmanager
    def building(self, key: str) -> Iterator[None]:
        """Let one process at a time build the file of a key; the others wait, and find it built.

        A process that is killed leaves no lock: the system gives it to the next one.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f"lock-{int(key[:8], 16) % LOCKS}")
            lock.acquire()
        except OSError as error:
            raise OutputError(f"cache {self.folder} cannot be written ({error.strerror or error}).") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def new(self, key: str) -> Iterator[Path]:
        """Give the name of a temporary file to write, which becomes the file of a key; errors as in `new_file`."""
        with new_file(self.path(key), mark=None) as draft:
            yield draft
        self._remove_oldest(self.path(key))

    def used(self, path: Path) -> None:
        """Note that a file was used now."""
        with suppress(OSError):
            os.utime(path)

    def _remove_oldest(self, newest: Path) -> None:
        """Remove the least recently used files until the others fit; never the newest."""
        others = []
        for path in self.folder.glob(f"*.{self.kind}"):
            with suppress(OSError):  # another process may remove it at the same time
                status = path.stat()
                others.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if held <= self.most_bytes:
                return
            if path != newest:
                with suppress(OSError):  # Windows removes nothing that is open
                    path.unlink()
                    held -= size
