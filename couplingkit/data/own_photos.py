"""Photos and masks of a program in (arrays, PIL images, tensors, datasets), an instances JSON and photos out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ArgumentError, DataError, listed
from ..files import cache_folder, is_own_folder, new_folder
from ..words import as_path
from .label_maps import as_pixels
from .labelled_data import VOC_CLASSES
from .masked_photos import UNNAMED, MaskedPhoto, MaskValues, check_mask_values, instances_json, label_objects
from .photos import open_photo
from .segmentation import BrokenMask, encode_mask, segmentation_rle

__all__ = ["dataset_items", "keep_items", "keep_masked_photos", "names_of_dataset"]

Item = tuple[Any, Any, Any]
MISSING = object()


def keep_masked_photos(
    images: Iterable[Any],
    masks: Iterable[Any],
    categories: Iterable[Any] | None = None,
    *,
    values: MaskValues = "objects",
    names: Mapping[int, str] | None = None,
    void: Sequence[int] = (255,),
    folder: str | Path | None = None,
) -> tuple[Path, Path]:
    """Write photos and masks as an instances JSON and PNGs, and return the paths of the JSON and of the photos' folder.

    Args:
        images: of each photo a path, a PIL image, an array uint8 (H, W, 3), or a tensor (3, H, W) within [0, 1].
        masks: of each photo its objects: bool (K, H, W), a list of bool (H, W), of RLEs or of COCO's polygons; or a
            label map, whole numbers (H, W).
        categories: of each photo the names of its K objects; of a label map one name for all of them. By default all
            are called `object`, and any two of them may become a pair.
        values, names, void: what the numbers of a label map mean; see `label_objects`.
        folder: where to; by default the cache folder, under the hash of what is written.

    Raises:
        ArgumentError: there are more of one than of the other.
        DataError: a photo or a mask is none, or of another size.
    """
    lists = (images, masks) if categories is None else (images, masks, categories)
    return keep_items(_together(lists), values=values, names=names, void=void, folder=folder)


def _together(lists: Sequence[Iterable[Any]]) -> Iterator[Item]:
    for number, item in enumerate(zip_longest(*lists, fillvalue=MISSING)):
        if any(part is MISSING for part in item):
            raise ArgumentError(f"images, masks and categories must be as many, but one of them ends at {number}.")
        yield item[0], item[1], item[2] if len(item) > 2 else None


def keep_items(
    items: Iterable[Item],
    *,
    values: MaskValues,
    names: Mapping[int, str] | None = None,
    void: Sequence[int] = (255,),
    folder: str | Path | None = None,
) -> tuple[Path, Path]:
    """Write (photo, masks, categories) of each photo; else as `keep_masked_photos`."""
    check_mask_values(values)
    home = cache_folder() / "own-photos"
    if folder is None:
        home.mkdir(parents=True, exist_ok=True)
    # Written while they are read: a dataset may be larger than memory.
    with tempfile.TemporaryDirectory(prefix="couplingkit-", dir=home if folder is None else None) as scratch:
        draft, hashed, photos = Path(scratch), hashlib.sha256(), list[MaskedPhoto]()
        (draft / "images").mkdir()
        for number, (image, masks, categories) in enumerate(items):
            pixels = _pixels(image, number)
            size = pixels.shape[1], pixels.shape[0]
            reader = _Objects(number, size, values, names, tuple(void))
            name = f"{number:06d}.png"
            Image.fromarray(pixels).save(draft / "images" / name, compress_level=1)
            hashed.update(pixels.tobytes())
            photos.append(MaskedPhoto(name, *size, tuple(reader.read(masks, categories))))
        content = instances_json(photos, "arrays")
        hashed.update(content)
        (draft / "instances.json").write_bytes(content)
        place = as_path(folder) if folder is not None else home / hashed.hexdigest()[:16]
        if folder is not None or not is_own_folder(place):
            with new_folder(place, overwrite=True) as new:
                for part in draft.iterdir():
                    shutil.move(part, new / part.name)
    return place / "instances.json", place / "images"


def _pixels(value: Any, number: int) -> NDArray[np.uint8]:
    """Return whatever holds a photo as uint8 (H, W, 3)."""
    if isinstance(value, str | os.PathLike):
        return open_photo(as_path(value))
    return as_pixels(value.cpu() if hasattr(value, "cpu") else value, str(number))


@dataclass(frozen=True)
class _Objects:
    """Reads the objects of one photo, whichever form its masks have."""

    number: int
    size: tuple[int, int]
    values: MaskValues
    names: Mapping[int, str] | None
    void: tuple[int, ...]

    def read(self, masks: Any, categories: Any) -> list[tuple[str, dict[str, Any]]]:
        """Return (category, RLE) of each object."""
        if isinstance(masks, list | tuple):
            rles = [rle for mask in masks if (rle := self._rle(mask)) is not None]
            return list(zip(self._names_of(categories, len(rles)), rles, strict=True))
        array = np.asarray(masks.cpu() if hasattr(masks, "cpu") else masks)
        if array.ndim == 3 and array.shape[0] == 1 and array.dtype.kind in "iu":
            # Label maps of torchvision have an axis in front.
            array = array[0]
        if array.ndim == 3:
            return self.read([self._flags(mask) for mask in array], categories)
        if array.ndim != 2 or array.dtype.kind not in "iub":
            raise self._error(f"but have shape {array.shape} of {array.dtype}")
        self._check(array)
        found = label_objects(array, self.values, self.names, void=self.void)
        if categories is None:
            return found
        one = categories if isinstance(categories, str) else None
        names = [one] * len(found) if one else self._names_of(categories, len(found))
        return [(name, rle) for name, (_, rle) in zip(names, found, strict=True)]

    def _rle(self, mask: Any) -> dict[str, Any] | None:
        if isinstance(mask, dict | list):
            try:
                rle = segmentation_rle(mask, *self.size)
            except BrokenMask as error:
                raise DataError(f"masks of photo {self.number}: {error}.") from error
            if rle is None:
                return encode_mask(np.zeros(self.size[::-1], dtype=bool))
            counts = rle["counts"]
            return {"size": list(self.size[::-1]), "counts": counts.decode() if isinstance(counts, bytes) else counts}
        array = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
        self._check(array)
        return encode_mask(self._flags(array))

    def _flags(self, array: NDArray[Any]) -> NDArray[np.bool_]:
        if array.dtype == bool:
            return array
        found = set(np.unique(array).tolist())
        if not found <= {0, 1} and not found <= {0, 255}:
            raise self._error(f"but hold other numbers than 0 and 1 ({listed(sorted(found)[:3])})")
        return array > 0

    def _check(self, array: NDArray[Any]) -> None:
        if array.shape != self.size[::-1]:
            raise self._error(f"but have shape {array.shape} where the photo has {self.size[::-1]}")

    def _names_of(self, categories: Any, count: int) -> list[str]:
        if categories is None:
            return [UNNAMED] * count
        found = [categories] * count if isinstance(categories, str) else [str(one) for one in categories]
        if len(found) != count:
            raise DataError(f"categories of photo {self.number} must be {count}, one per mask, but are {len(found)}.")
        return found

    def _error(self, what: str) -> DataError:
        return DataError(
            f"masks of photo {self.number} must be bool (K, H, W), a list of masks, or whole numbers (H, W), {what}."
        )


def dataset_items(
    dataset: Any, *, image: Any = None, masks: Any = None, names: Mapping[int, str] | None = None
) -> Iterator[Item]:
    """Yield (photo, masks, categories) of the items of a dataset, of torchvision's, Hugging Face's, or one like them.

    Args:
        dataset: a sequence of items: (photo, target) or dicts. A target may be a label map, a list of COCO's
            annotations (torchvision's `CocoDetection`), or a dict with `masks` (as detectors are trained on).
        image: where an item has its photo; 0, or the first of `image`, `img`, `pixel_values` that is there.
        masks: where an item has its masks; 1, or the first of `masks`, `mask`, `annotation`, `label`, ... there.
        names: category number -> name; by default the dataset's own, where it tells.

    Raises:
        DataError: an item has no photo or no masks there.
    """
    names = names or names_of_dataset(dataset)
    for number in range(len(dataset)):
        item = dataset[number]
        photo = _part(item, (image,) if image is not None else (0, "image", "img", "pixel_values"), number, "image")
        found = _part(item, (masks,) if masks is not None else (1, *MASKS), number, "masks")
        yield photo, *_target(found, names, getattr(dataset, "classes", None))


MASKS = ("masks", "mask", "annotation", "segmentation_mask", "segmentation", "label", "objects", "target")


def _part(item: Any, keys: Sequence[Any], number: int, name: str) -> Any:
    for key in keys:
        if isinstance(item, Mapping) if isinstance(key, str) else isinstance(item, list | tuple):
            try:
                return item[key]
            except (KeyError, IndexError):
                continue
    had = f"{len(item)} parts" if isinstance(item, list | tuple) else listed(item) if isinstance(item, Mapping) else ""
    raise DataError(f"item {number} of the dataset has no {name} at {listed(keys)}, but {had or str(type(item))}.")


def _target(target: Any, names: Mapping[int, str], classes: Any) -> tuple[Any, Any]:
    """Return the masks and the categories of a target."""
    category = None
    if isinstance(target, tuple) and target:
        # Of several kinds of targets the map is the one with two axes; a number beside it is the photo's class.
        label = next((one for one in target if isinstance(one, int)), None)
        category = None if label is None else classes[label] if classes is not None else str(label)
        target = next((one for one in target if isinstance(one, Image.Image) or np.ndim(one) >= 2), target[0])
    if isinstance(target, Mapping):
        found: Any = next((target[key] for key in MASKS if key in target), [])
        labels = next((target[key] for key in ("labels", "category", "categories") if key in target), None)
        return found, None if labels is None else [_name(one, names) for one in np.asarray(labels).tolist()]
    if isinstance(target, list) and all(isinstance(one, Mapping) for one in target):
        kept = [one for one in target if one.get("segmentation") and not one.get("iscrowd")]
        return [one["segmentation"] for one in kept], [_name(one.get("category_id"), names) for one in kept]
    return target, category


def _name(number: Any, names: Mapping[int, str]) -> str:
    return names.get(number, str(number)) if isinstance(number, int) else str(number)


def names_of_dataset(dataset: Any) -> dict[int, str]:
    """Return number -> category of a dataset that tells: COCO's table, VOC's classes, the pets' trimap."""
    table = getattr(getattr(dataset, "coco", None), "cats", None)
    if isinstance(table, dict):
        return {int(key): str(one["name"]) for key, one in table.items()}
    kinds = [kind.__name__ for kind in type(dataset).__mro__]
    if "VOCSegmentation" in kinds:
        return dict(enumerate(VOC_CLASSES))
    return {1: "pet"} if "OxfordIIITPet" in kinds else {}
