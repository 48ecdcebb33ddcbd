"""Columns of an annotation file in, its photos and objects as records out; a mask is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .instances import InstanceTable, object_mask
from .segmentation import tight_box

__all__ = ["ImageRecord", "ObjectRecord", "Objects", "Photos", "described"]

# What a file states of an object and what its mask says may differ by the rounding of polygons, and no more.
STATED_AREA, STATED_SIDE = 2.0, 2.0
STATED_PX, STATED_SHARE = 4.0, 0.05


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photo of the annotation file; width and height in px."""

    image_id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object: its mask as compressed RLE, the mask's pixel count and tight box (px of its photo)."""

    annotation_id: int
    image_id: int
    category: str
    area: int
    left: int
    top: int
    width: int
    height: int
    rle: dict[str, Any]


class Photos(Mapping[int, ImageRecord]):
    """The photos of an annotation file by their ids, in ascending order."""

    def __init__(self, table: InstanceTable):
        self._table = table
        self._rows = {identity: row for row, identity in enumerate(table.image_ids.tolist())}

    def __getitem__(self, image_id: int) -> ImageRecord:
        row = self._rows[image_id]
        width, height = (int(side) for side in self._table.sizes[row])
        return ImageRecord(int(image_id), self._table.file_name(row), width, height)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Objects(Sequence[ObjectRecord]):
    """The eligible objects, by ascending annotation id; a record is made, and its mask read, when it is asked for.

    Attributes:
        ids: int64 (N,), annotation ids.
        image_ids: int64 (N,).
        categories: int64 (N,), places in `category_names`.
        category_names: of the whole file.
        extents: float64 (N, 2), width and height of the box in px, as the file states it.
        areas: float64 (N,), px of the mask, as the file states it.
    """

    def __init__(self, table: InstanceTable, rows: NDArray[np.int64], path: Path):
        self._table, self._rows, self._path = table, rows, path
        self.ids = table.ids[rows]
        self.image_ids = table.image_ids[table.image[rows]] if rows.size else table.ids[rows]
        self.categories = table.category[rows]
        self.category_names = table.category_names()
        self.extents = table.box[rows, 2:]
        self.areas = table.area[rows]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> ObjectRecord: ...

    @overload
    def __getitem__(self, place: slice) -> list[ObjectRecord]: ...

    def __getitem__(self, place: int | slice) -> ObjectRecord | list[ObjectRecord]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        return _checked(self._table, int(self._rows[place]), self._path)

    def place_of(self, annotation_id: int) -> int | None:
        """Return the place of an object; None if it is not eligible or not there."""
        place = int(np.searchsorted(self.ids, annotation_id))
        return place if place < len(self.ids) and self.ids[place] == annotation_id else None


def described(table: InstanceTable, row: int, path: Path) -> ObjectRecord | None:
    """Return an annotation with its mask, whatever the file states of it; None where the mask is empty.

    Args:
        table: of the annotation file.
        row: of the annotation.
        path: of the file.

    Raises:
        DataError: the mask is broken (see `object_mask`).
    """
    rle = object_mask(table, row, path)
    if rle is None:
        return None
    area, left, top, width, height = tight_box(rle)
    category = table.category_names()[table.category[row]]
    image_id = int(table.image_ids[table.image[row]])
    return ObjectRecord(int(table.ids[row]), image_id, category, area, left, top, width, height, rle)


def _checked(table: InstanceTable, row: int, path: Path) -> ObjectRecord:
    """Return an annotation whose mask agrees with what the file states of it."""
    found = described(table, row, path)
    stated_area, box = float(table.area[row]), table.box[row]
    if found is None:
        raise DataError(
            f"{path}: annotation {table.ids[row]} has an area of {stated_area:g} px, but its mask holds none."
        )
    slack = STATED_PX + STATED_SHARE * box[2:]
    corner, size = np.array([found.left, found.top]), np.array([found.width, found.height])
    # Thin tips of a polygon hold no pixel, so that a mask may be smaller than its box, but not lie beside it.
    inside = ((corner >= box[:2] - slack) & (corner + size <= box[:2] + box[2:] + slack)).all()
    filled = (size + slack >= box[2:] / STATED_SIDE).all()
    if not (stated_area / STATED_AREA <= found.area <= stated_area * STATED_AREA and inside and filled):
        raise DataError(
            f"{path}: annotation {found.annotation_id} states an area of {stated_area:g} px and a box of "
            f"{', '.join(f'{side:g}' for side in box)}, but its mask has {found.area} px and the box {found.left}, "
            f"{found.top}, {found.width}, {found.height}; the file contradicts itself."
        )
    return found
