"""The place of an annotation file's photos in, single files out: a folder, or a zip or tar that is never unpacked."""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import DataError, listed
from ..words import as_path

__all__ = ["PhotoFiles", "photo_files"]


class PhotoFiles(ABC):
    """Photos by their `file_name`.

    Attributes:
        path: of the folder or archive.
    """

    def __init__(self, path: Path):
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all files that are there, with slashes, in ascending order."""

    @abstractmethod
    def holds(self, name: str) -> bool:
        """Return whether a photo is there."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Return a photo's bytes as a stream; `FileNotFoundError` if it is not there."""

    @abstractmethod
    def holder(self, name: str) -> Path:
        """Return the file that holds a photo: its own, or the archive."""

    def stamp(self, name: str) -> tuple[int, int]:
        """Return size in bytes and time in ns of the file that holds a photo."""
        status = self.holder(name).stat()
        return status.st_size, status.st_mtime_ns

    def place(self, name: str) -> str:
        """Return what an error calls a photo."""
        return f"{self.path / name}"

    def check(self, names: Iterable[str]) -> None:
        """Raise `DataError` if a photo is missing, before hours are spent on the others."""
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if not self.holds(name)]
        if missing:
            nearest = self.nearest(missing[0])
            advice = (
                f"there is {nearest}, whose capitals are other ones: rename it, or mend file_name"
                if nearest
                else "is `images` the folder that file_name starts from?"
            )
            raise DataError(
                f"images missing in {self.path}: {len(missing)} of {len(wanted)} needed ({listed(missing, most=3)}); "
                f"{advice}{'' if advice.endswith('?') else '.'}"
            )

    def nearest(self, name: str) -> str | None:
        """Return the name of a file that differs from a photo's in capitals only; None where there is none."""
        return None


def spellings(name: str) -> Iterator[str]:
    """Yield a file's name as it is written, then as other systems write the same one.

    Windows has `\\` between folders, `./a.jpg` is `a.jpg`; macOS takes letters with accents apart, others do not.

    >>> list(spellings("train\\\\a.jpg"))
    ['train\\\\a.jpg', 'train/a.jpg']
    """
    seen = set()
    plain = name.replace("\\", "/")
    for path in (name, plain, posixpath.normpath(plain)):
        for form in (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)):
            if form not in seen:
                seen.add(form)
                yield form


class _Folder(PhotoFiles):
    def names(self) -> list[str]:
        return sorted(
            (Path(place) / name).relative_to(self.path).as_posix()
            for place, _, names in os.walk(self.path, followlinks=True)
            for name in names
        )

    def holds(self, name: str) -> bool:
        return self._known(name) is not None

    def _known(self, name: str) -> Path | None:
        for spelling in spellings(name):
            try:
                if (self.path / spelling).is_file():
                    return self.path / spelling
            except (OSError, ValueError):
                # A name that no file can have.
                continue
        return None

    def open(self, name: str) -> BinaryIO:
        return self.holder(name).open("rb")

    def holder(self, name: str) -> Path:
        return self._known(name) or self.path / name

    def nearest(self, name: str) -> str | None:
        plain = PurePosixPath(name.replace("\\", "/"))
        try:
            others = [one.name for one in (self.path / plain.parent).iterdir()]
        except (OSError, ValueError):
            return None
        return next((str(plain.parent / one) for one in others if _alike(one, plain.name)), None)


def _alike(one: str, other: str) -> bool:
    """Return whether two names differ in capitals only."""
    first, second = (unicodedata.normalize("NFC", name).casefold() for name in (one, other))
    return first == second


def _last(name: str) -> str:
    """Return the last part of a path of any system."""
    return PurePosixPath(name.replace("\\", "/")).name


class _Archive(PhotoFiles):
    """Members by the end of their names: an archive of val2017/ has that folder in front of every file_name."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._named: dict[str, list[str]] = {}
        for member in self._members():
            self._named.setdefault(_last(member), []).append(member)

    def names(self) -> list[str]:
        return sorted(member.replace("\\", "/") for members in self._named.values() for member in members)

    @abstractmethod
    def _members(self) -> list[str]:
        """Return the names of all files in the archive."""

    def _member(self, name: str) -> str | None:
        for spelling in spellings(name):
            named = self._named.get(_last(spelling), [])
            if spelling in named:
                return spelling
            # Some programs write archives with the paths of Windows.
            plain = spelling.replace("\\", "/")
            ending = [member for member in named if f"/{member}".replace("\\", "/").endswith(f"/{plain}")]
            if len(ending) > 1:
                raise DataError(f"images {self.path} hold {name} more than once ({listed(ending, most=3)}).")
            if ending:
                return ending[0]
        return None

    def nearest(self, name: str) -> str | None:
        last = _last(name)
        return next((members[0] for key, members in self._named.items() if _alike(key, last)), None)

    def holds(self, name: str) -> bool:
        return self._member(name) is not None

    def holder(self, name: str) -> Path:
        return self.path

    def _known(self, name: str) -> str:
        member = self._member(name)
        if member is None:
            raise FileNotFoundError(name)
        return member


class _Zip(_Archive):
    def _members(self) -> list[str]:
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        return [info.filename for info in self._file().infolist() if not info.is_dir()]

    def __getstate__(self) -> dict[str, Any]:
        # A worker that does not fork opens the archive anew.
        return {**self.__dict__, "_opened": None}

    def _file(self) -> zipfile.ZipFile:
        # A forked process that shared the handle would share its place in the file.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        return self._opened[1]

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self._file().read(self._known(name)))


class _Tar(_Archive):
    def _members(self) -> list[str]:
        # Not opened as "r:*": what is compressed cannot be read in place.
        with tarfile.open(self.path, "r:") as tar:
            self._where = {member.name: (member.offset_data, member.size) for member in tar if member.isfile()}
        return list(self._where)

    def open(self, name: str) -> BinaryIO:
        start, size = self._where[self._known(name)]
        with self.path.open("rb") as stream:
            stream.seek(start)
            return io.BytesIO(stream.read(size))


def photo_files(path: str | Path) -> PhotoFiles:
    """Open a folder, a zip or an uncompressed tar of photos.

    Raises:
        DataError: it is none of these.
    """
    path = as_path(path)
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise DataError(f"images folder {path} does not exist; give the folder that file_name starts from.")
    try:
        return _Zip(path) if zipfile.is_zipfile(path) else _Tar(path)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"images {path} is no folder, no zip and no uncompressed tar ({error}); of a .tar.gz give the .tar "
            "that is in it, or a folder."
        ) from error
