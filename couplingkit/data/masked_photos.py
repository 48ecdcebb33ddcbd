"""Photos with masks of any origin in, an instances JSON out: what a user has becomes what everything else reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ArgumentError, DataError
from .segmentation import encode_mask, tight_box

__all__ = ["UNNAMED", "MaskValues", "MaskedPhoto", "check_mask_values", "instances_json", "label_objects"]

# The category of objects of which nobody said what they are.
UNNAMED = "object"
VOID = 255
MaskValues = Literal["objects", "classes"]


@dataclass(frozen=True)
class MaskedPhoto:
    """One photo and its objects.

    Attributes:
        file_name: below the folder of photos.
        width: px.
        height: px.
        objects: (category, mask as RLE with counts as str) of each.
    """

    file_name: str
    width: int
    height: int
    objects: tuple[tuple[str, dict[str, Any]], ...]


def check_mask_values(values: str) -> None:
    """Raise `ArgumentError` for what no label map's numbers can mean."""
    if values not in get_args(MaskValues):
        raise ArgumentError(
            f"mask_values must be objects (each number of a map is one object) or classes (each connected part of a "
            f"number is one), not {values!r}."
        )


def label_objects(
    numbers: NDArray[Any],
    values: MaskValues = "objects",
    names: Mapping[int, str] | None = None,
    *,
    void: Sequence[int] = (VOID,),
) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of a label map as (category, RLE).

    Args:
        numbers: whole numbers or bool (H, W); 0 is no object. A map of 0 and 255 alone is a binary mask: one object.
        values: whether each number is an object, or a class, whose connected parts (by sides and corners) are objects.
        names: number -> category; with it, numbers without a name are no objects. By default a class is called by its
            number, and an object `object`.
        void: numbers that are no objects.

    >>> numbers = np.array([[1, 0, 1], [0, 0, 0], [2, 2, 2]])
    >>> [category for category, _ in label_objects(numbers)]
    ['object', 'object']
    >>> [category for category, _ in label_objects(numbers, "classes", {1: "cat", 2: "dog"})]
    ['cat', 'cat', 'dog']
    """
    found = np.unique(numbers)
    if numbers.dtype == bool or (values == "objects" and set(found.tolist()) == {0, VOID}):
        void = ()
    objects = []
    for number in found.tolist():
        if not number or number in void or (names is not None and number not in names):
            continue
        own = numbers == number
        category = names[number] if names else (str(number) if values == "classes" else UNNAMED)
        if values == "objects":
            objects.append((category, encode_mask(own)))
            continue
        parts, _ = ndimage.label(own, structure=np.ones((3, 3)))
        for part, box in enumerate(ndimage.find_objects(parts), 1):
            one = np.zeros_like(own)
            one[box] = parts[box] == part
            objects.append((category, encode_mask(one)))
    return objects


def instances_json(photos: Iterable[MaskedPhoto], source: str) -> bytes:
    """Return an instances JSON in COCO's format; the same photos in the same order give the same bytes.

    Args:
        photos: in the order of their ids, from 1.
        source: what the file says it was made of.

    Raises:
        DataError: there is no object at all.
    """
    listed = list(photos)
    categories = sorted({category for photo in listed for category, _ in photo.objects})
    if not categories:
        raise DataError(f"masks of {source} hold no object on any of {len(listed)} photos.")
    numbers = {category: number for number, category in enumerate(categories, 1)}
    annotations: list[dict[str, Any]] = []
    for image_id, photo in enumerate(listed, 1):
        for category, rle in photo.objects:
            area, *box = tight_box(rle)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[category], "iscrowd": 0,
                    "area": area, "bbox": box, "segmentation": rle,
                }
            )  # fmt: skip
    images = [
        {"id": number, "file_name": photo.file_name, "width": photo.width, "height": photo.height}
        for number, photo in enumerate(listed, 1)
    ]
    return msgspec.json.encode(
        {
            "info": {"description": f"masks of {source}, by couplingkit"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        }
    )
