"""Words like `photos/`, `instances.json` or `scenes:4000` in, a numbered collection of images to train on out."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.coco import read_instances
from ..data.image_files import PLAIN_MODES, READ_ERRORS
from ..data.scene_cache import SceneCache
from ..errors import ArgumentError, DataError
from ..words import as_path, whole_number

__all__ = ["Corpus", "open_corpus"]

SCENE_PX = (128, 106)
MOST_SCENES = 10**8
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class Corpus(Protocol):
    """Images by number; reading one depends on its number alone."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def read(self, number: int) -> NDArray[np.uint8]:
        """Return an image, uint8 (H, W, 3); raises `DataError` if it is broken."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what the run's record says of it, as JSON values."""
        ...


@dataclass(frozen=True)
class _Files:
    """Image files."""

    paths: Sequence[Path]
    origin: str

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> NDArray[np.uint8]:
        return _decoded(self.paths[number], str(self.paths[number]))

    def describe(self) -> dict[str, Any]:
        return {"data": self.origin, "images": len(self), "names": _digest(path.name for path in self.paths)}


@dataclass(frozen=True)
class _Scenes:
    """The built-in procedural pictures, drawn when they are asked for the first time."""

    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> NDArray[np.uint8]:
        # A third of the side of the scenes that are written to files, half the time: crops of 64 px need no more.
        return SceneCache(self.count, self.seed, SCENE_PX[0], SCENE_PX[1]).read(number)

    def describe(self) -> dict[str, Any]:
        return {"data": f"scenes:{self.count}", "images": self.count, "seed": self.seed}


@dataclass(frozen=True)
class _Shards:
    """Images within uncompressed tar files (webdataset's shards), read in place."""

    members: Sequence[tuple[Path, str, int, int]]
    origin: str

    def __len__(self) -> int:
        return len(self.members)

    def read(self, number: int) -> NDArray[np.uint8]:
        path, name, offset, size = self.members[number]
        try:
            with path.open("rb") as shard:
                shard.seek(offset)
                content = shard.read(size)
        except OSError as error:
            raise DataError(f"shard {path} cannot be read ({error.strerror}).") from error
        return _decoded(io.BytesIO(content), f"{path}/{name}")

    def describe(self) -> dict[str, Any]:
        shards = len({member[0] for member in self.members})
        names = _digest(member[1] for member in self.members)
        return {"data": self.origin, "images": len(self), "shards": shards, "names": names}


def _digest(names: Iterable[str]) -> str:
    """Return what tells one list of names from another."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def open_corpus(data: str, *, images: str | Path | None = None, seed: int = 0) -> Corpus:
    """Open a collection of images.

    Args:
        data: a folder (searched through), an instances JSON (with `images`, its folder), `scenes:COUNT`, or tar files:
            one, a folder of nothing else, or a pattern like `shards/*.tar`.
        images: folder that the JSON's file names start from.
        seed: of the scenes.

    Raises:
        DataError: there is no such thing, or no image in it.
        ArgumentError: `scenes:` without a number.
    """
    if data.startswith("scenes:"):
        try:
            count = whole_number(data.removeprefix("scenes:"), "data", 1, MOST_SCENES)
        except ArgumentError as error:
            raise ArgumentError(f"data {data[:40]!r} must be scenes:COUNT, like scenes:4000 ({error})") from error
        return _Scenes(count, seed)
    path = as_path(data)
    if path.suffix == ".json":
        return _annotated(path, images)
    shards = sorted(path.parent.glob(path.name)) if "*" in path.name else [path] if path.suffix == ".tar" else []
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
        shards = [] if found else sorted(path.glob("*.tar"))
        if found:
            return _Files(found, data)
    if shards:
        return _Shards(_members(shards), data)
    what = f"holds no image ({', '.join(SUFFIXES)}) and no .tar" if path.is_dir() else "does not exist"
    raise DataError(f"data {data} {what}; give a folder of images, an instances JSON, tar files, or scenes:COUNT.")


def _annotated(path: Path, images: str | Path | None) -> Corpus:
    if images is None:
        raise ArgumentError(f"data {path} is an instances JSON and needs `images`, the folder of its photos.")
    index = read_instances(path)
    paths = [Path(images) / index.images[key].file_name for key in sorted(index.images)]
    missing = [one for one in paths if not one.is_file()]
    if len(missing) == len(paths):
        raise DataError(f"none of the {len(paths)} images of {path} lies in {images}; is it the right folder?")
    return _Files(paths, str(path))


def _members(shards: Sequence[Path]) -> list[tuple[Path, str, int, int]]:
    found = []
    for shard in shards:
        try:
            # Not opened as "r:*": what is compressed cannot be read in place.
            with tarfile.open(shard, "r:") as tar:
                found += [
                    (shard, member.name, member.offset_data, member.size)
                    for member in tar
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES
                ]
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"shard {shard} is no uncompressed tar file ({error}).") from error
    if not found:
        raise DataError(f"the {len(shards)} tar files of {shards[0].parent} hold no image ({', '.join(SUFFIXES)}).")
    return found


def _decoded(source: Path | io.BytesIO, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(source) as image:
            if image.mode not in PLAIN_MODES:
                raise DataError(f"image {name} has mode {image.mode}; images of 8 bits a channel can be read.")
            return np.array(image.convert("RGB"))
    except READ_ERRORS as error:
        raise DataError(f"image {name} cannot be read ({error}).") from error
