"""Columns of an annotation file in, its photos and objects as records out; a mask is read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .instances import InstanceTable, object_mask
from .segmentation import tight_box

Exif = Literal["auto", "ignore", "apply"]

__all__ = ["Exif", "ImageRecord", "ObjectRecord", "Objects", "Photos", "described"]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photo of the annotation file; width and height in px; whose frame its masks have: see `Eligibility.exif`."""

    image_id: int
    file_name: str
    width: int
    height: int
    exif: Exif = "auto"


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

    def __init__(self, table: InstanceTable, exif: Exif = "auto"):
        self._table, self._exif = table, exif
        self._rows = {identity: row for row, identity in enumerate(table.image_ids.tolist())}

    def __getitem__(self, image_id: int) -> ImageRecord:
        row = self._rows[image_id]
        width, height = (int(side) for side in self._table.sizes[row])
        return ImageRecord(int(image_id), self._table.file_name(row), width, height, self._exif)

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
        extents: float64 (N, 2), width and height of the box in px; see `InstanceTable`.
        areas: float64 (N,), px of the mask, likewise.
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
        found = described(self._table, int(self._rows[place]), self._path)
        if found is None:
            raise DataError(f"annotations {self._path} changed while they were read; start again.")
        return found

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
