"""Photos with a class for each pixel in, as PNG maps (VOC, ADE20K, own) or as arrays; photo, labels and objects out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError, listed
from .image_files import READ_ERRORS, opened_image
from .photo_files import PhotoFiles, photo_files
from .semantic import IGNORED, LabelledObject, LabelledPhotos, Labels, Pixels

__all__ = ["ArrayPhotos", "PngPhotos", "as_pixels", "read_map"]


class PngPhotos(LabelledPhotos):
    """Photos and label maps of the same stems: VOC, ADE20K, and what people draw themselves.

    Args:
        name: what tables call them.
        images: folder of the photos, or a zip or tar.
        masks: folder of PNGs with one number a pixel (gray or palette), or a zip or tar.
        values: number in a map -> class; `None` is ignored.
        files: (photo, map) of each photo: names within `images` and `masks`.
        instances: folder of PNGs of the same names whose numbers tell objects apart; 0 and 255 are none.
    """

    def __init__(
        self,
        name: str,
        images: str | Path,
        masks: str | Path,
        values: Mapping[int, str | None],
        files: Sequence[tuple[str, str]],
        *,
        instances: str | Path | None = None,
    ):
        classes = list(dict.fromkeys(value for value in values.values() if value is not None))
        self.files, self.maps = photo_files(images), photo_files(masks)
        self.instances = None if instances is None else photo_files(instances)
        self._files = {str(PurePosixPath(photo).with_suffix("")): (photo, mask) for photo, mask in files}
        super().__init__(name, classes, list(self._files), has_objects=self.instances is not None)
        self._values = {
            value: IGNORED if kind is None else classes.index(kind) for value, kind in sorted(values.items())
        }
        self.files.check(photo for photo, _ in files)
        self.maps.check(mask for _, mask in files)

    def read(self, identity: str) -> tuple[Pixels, Labels]:
        """Return a photo and its labels; see `LabelledPhotos.read`."""
        photo, mask = self._files[identity]
        rgb = _opened_photo(self.files, photo)
        values = _opened_map(self.maps, mask)
        if values.shape != rgb.shape[:2]:
            raise DataError(
                f"label map {self.maps.place(mask)} is {values.shape[1]} x {values.shape[0]} px, but its photo is "
                f"{rgb.shape[1]} x {rgb.shape[0]}; they must be of one size."
            )
        found = np.unique(values)
        strange = [int(value) for value in found if int(value) not in self._values]
        if strange:
            raise DataError(
                f"label map {self.maps.place(mask)} holds {listed(strange)}, which is no class and not ignored; name "
                "every number under `classes`, or `ignore` it."
            )
        labels = np.full(int(found.max()) + 1, IGNORED, dtype=np.int16)
        labels[found] = [self._values[int(value)] for value in found]
        return rgb, labels[values]

    def objects(self, identity: str) -> list[LabelledObject]:
        """Return the objects of a photo."""
        if self.instances is None:
            return []
        mask = self._files[identity][1]
        _, labels = self.read(identity)
        numbers = _opened_map(self.instances, mask)
        first = self.ids.index(identity) * 1000
        found = []
        for number in np.unique(numbers):
            own = (numbers == number) & (labels != IGNORED)
            if number in (0, 255) or not own.any():
                continue
            label = int(np.bincount(labels[own]).argmax())
            found.append(LabelledObject(first + int(number), label, own))
        return found

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""

        def parts() -> Iterator[object]:
            yield sorted(self._values.items())
            for photo, mask in self._files.values():
                yield self.files.stamp(photo)[0]
                with self.maps.open(mask) as stream:
                    yield hashlib.sha256(stream.read()).hexdigest()

        return self._hash(parts())


class ArrayPhotos(LabelledPhotos):
    """Items of any sequence as labelled photos: pairs, torchvision's and Hugging Face's datasets, lists of arrays.

    Args:
        items: like a list of (photo, labels) or of dicts; both may be arrays, PIL images or tensors: photos (H, W, 3)
            or, as a tensor, (3, H, W), of 8 bits or within [0, 1]; labels (H, W), whole numbers.
        classes: names of the labels 0, 1, ...
        ignore: labels that do not count.
        photo, labels: where an item has the two.
        name: what tables call them.

    >>> image, labels = np.zeros((4, 6, 3), dtype=np.uint8), np.zeros((4, 6), dtype=np.int64)
    >>> photos = ArrayPhotos([(image, labels)], ["sky", "ground"])
    >>> photos.ids, photos.read("0")[1].shape
    (('0',), (4, 6))
    """

    def __init__(
        self,
        items: Any,
        classes: Sequence[str],
        *,
        ignore: Sequence[int] = (255,),
        photo: int | str = 0,
        labels: int | str = 1,
        name: str = "own photos",
    ):
        super().__init__(name, classes, [str(number) for number in range(len(items))], has_objects=False)
        self.items = items
        self.ignore = tuple(ignore)
        self._keys = (photo, labels)

    def read(self, identity: str) -> tuple[Pixels, Labels]:
        """Return a photo and its labels; see `LabelledPhotos.read`."""
        item = self.items[int(identity)]
        rgb, values = as_pixels(item[self._keys[0]], identity), np.asarray(item[self._keys[1]]).squeeze()
        if values.shape != rgb.shape[:2] or values.dtype.kind not in "uib":
            raise DataError(
                f"labels of item {identity} must be whole numbers of the photo's shape {rgb.shape[:2]}, but are "
                f"{values.dtype} of shape {values.shape}."
            )
        values = values.astype(np.int64)
        ignored = np.isin(values, [IGNORED, *self.ignore])
        kept = values[~ignored]
        if kept.size and not 0 <= int(kept.min()) <= int(kept.max()) < len(self.classes):
            raise DataError(
                f"labels of item {identity} must be below {len(self.classes)}, the number of classes, or ignored, but "
                f"go from {int(kept.min())} to {int(kept.max())}."
            )
        return rgb, np.where(ignored, IGNORED, values).astype(np.int16)

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        return self._content

    @cached_property
    def _content(self) -> str:
        return self._hash(hashlib.sha256(part.tobytes()).hexdigest() for one in self.ids for part in self.read(one))


def as_pixels(value: Any, identity: str) -> Pixels:
    """Return whatever holds a photo as uint8 (H, W, 3)."""
    if isinstance(value, Image.Image):
        return np.array(value.convert("RGB"))
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim == 3 and array.shape[2] == 3:
        if array.dtype == np.uint8:
            return array
        if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
            return np.asarray(np.round(array * 255), dtype=np.uint8)
    raise DataError(
        f"photo of item {identity} must be 8-bit or within [0, 1] and of shape (H, W, 3), but is {array.dtype} of "
        f"shape {array.shape}."
    )


def _opened_photo(files: PhotoFiles, name: str) -> Pixels:
    """Return a photo with its pixels as stored, as its label map is drawn."""
    rgb: Pixels = _decoded(files, name, "image", lambda image: np.array(image.convert("RGB")))
    return rgb


def _opened_map(files: PhotoFiles, name: str) -> NDArray[np.int64]:
    """Return the numbers of a label map, (H, W)."""
    values: NDArray[np.int64] = _decoded(
        files, name, "label map", lambda image: _numbers(image, files.place(name)).astype(np.int64)
    )
    return values


def _numbers(image: Image.Image, place: object) -> NDArray[Any]:
    if image.mode in ("RGB", "RGBA", "LA"):
        # Many programs save a gray map in colours.
        channels = np.array(image.convert("RGB"))
        if (channels == channels[..., :1]).all():
            return channels[..., 0]
    if image.mode not in ("L", "P", "I", "I;16", "I;16B", "1"):
        raise DataError(
            f"label map {place} has mode {image.mode}; a map has one number a pixel (gray or palette), "
            "colours must be made into numbers first."
        )
    return np.array(image)


def read_map(path: Path) -> tuple[NDArray[np.int64], int]:
    """Return the numbers of a label map, int64 (H, W), and how many bits each has in the file (1, 8, 16 or 32).

    Raises:
        DataError: it cannot be read, or has colours instead of numbers.
    """
    try:
        with opened_image(path, path) as image:
            found = _numbers(image, path)
    except READ_ERRORS as error:
        raise DataError(f"label map {path} cannot be read ({error}).") from error
    bits = 1 if found.dtype == bool else 8 * found.dtype.itemsize
    return found.astype(np.int64), bits


def _decoded(files: PhotoFiles, name: str, what: str, read: Callable[[Image.Image], Any]) -> Any:
    try:
        with files.open(name) as stream, opened_image(stream, files.place(name)) as image:
            return read(image)
    except FileNotFoundError as error:
        raise DataError(f"{what} {files.place(name)} is missing.") from error
    except READ_ERRORS as error:
        raise DataError(f"{what} {files.place(name)} cannot be read ({error}).") from error
