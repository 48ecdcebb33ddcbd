"""Instances JSON in, an index of the objects that may be pasted out; a mask is read when its object is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, check_range
from .instances import InstanceTable, object_mask
from .instances_cache import read_table
from .segmentation import tight_box

__all__ = [
    "CocoIndex",
    "Eligibility",
    "ImageRecord",
    "ObjectRecord",
    "Objects",
    "PhotoObjects",
    "Photos",
    "read_instances",
    "read_objects",
]

# Annotators click near the border, not on it: of COCO's objects that the photo cuts off, about a third has a mask
# that ends 1 or 2 px inside. So a mask this close to the border touches it.
BORDER_PX = 2
# What a file states of an object and what its mask says may differ by the rounding of polygons, and no more.
STATED_AREA, STATED_SIDE = 2.0, 2.0
STATED_PX, STATED_SHARE = 4.0, 0.05


@dataclass(frozen=True)
class Eligibility:
    """Which annotated objects may become part of a probe.

    Attributes:
        min_area: pixels of the object's mask, at least (default 64 x 64).
        border: also take objects whose mask touches the border of their photo (comes within 2 px of it); they are
            cut off there, which makes another shape of them.
    """

    min_area: int = 64 * 64
    border: bool = False

    def __post_init__(self) -> None:
        check_range("min_area", self.min_area, 1)


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
        areas: float64 (N,), px of the mask, as the file states it.
        extents: float64 (N, 2), width and height of the box in px, as the file states it.
    """

    def __init__(self, table: InstanceTable, rows: NDArray[np.int64], path: Path):
        self._table, self._rows, self._path = table, rows, path
        self.ids = table.ids[rows]
        self.image_ids = table.image_ids[table.image[rows]] if rows.size else table.ids[rows]
        self.categories = table.category[rows]
        self.category_names = table.category_names()
        self.areas = table.area[rows]
        self.extents = table.box[rows, 2:]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> ObjectRecord: ...

    @overload
    def __getitem__(self, place: slice) -> list[ObjectRecord]: ...

    def __getitem__(self, place: int | slice) -> ObjectRecord | list[ObjectRecord]:
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        return _record(self._table, int(self._rows[place]), self._path)

    def place_of(self, annotation_id: int) -> int | None:
        """Return the place of an object; None if it is not eligible or not there."""
        place = int(np.searchsorted(self.ids, annotation_id))
        return place if place < len(self.ids) and self.ids[place] == annotation_id else None


@dataclass(frozen=True)
class CocoIndex:
    """What an instances JSON offers: its photos, its eligible objects by annotation id, and what was dropped.

    Whether an object is eligible is told by the area and the box that the file states of it (and worked out from the
    mask where it states none). When an object is used, its mask must agree with them.

    Attributes:
        sha256: of the annotation file's bytes.
        annotations: number of annotations in the file.
        dropped: rule -> number of annotations which it dropped, each counted at the first rule it failed.
    """

    path: Path
    sha256: str
    images: Photos
    objects: Objects
    annotations: int
    dropped: dict[str, int]
    eligibility: Eligibility

    def record(self, annotation_id: int) -> ObjectRecord:
        """Return an eligible object with its mask.

        Raises:
            DataError: it is not there, or its mask is broken or not what the file states of it.
        """
        return self.objects[self._place(annotation_id)]

    def _place(self, annotation_id: int) -> int:
        place = self.objects.place_of(annotation_id)
        if place is None:
            raise DataError(f"annotations {self.path} have no eligible object {annotation_id}.")
        return place

    def image_of(self, annotation_id: int) -> int:
        """Return the photo of an eligible object; errors as in `record`."""
        return int(self.objects.image_ids[self._place(annotation_id)])

    def category_of(self, annotation_id: int) -> str:
        """Return the category of an eligible object; errors as in `record`."""
        return self.objects.category_names[int(self.objects.categories[self._place(annotation_id)])]

    def what_was_dropped(self) -> str:
        """Return the counts as the tail of a sentence, with the options that loosen the rules."""
        ways = {
            "crowd": "crowds are never used",
            "no mask": "boxes without masks cannot be cut out",
            "small": f"below {self.eligibility.min_area} px of mask: --min-area loosens it",
            "border": "cut off by the photo's border: --allow-border loosens it",
        }
        parts = [f"{count} {rule} ({ways[rule]})" for rule, count in self.dropped.items() if count]
        return f"of {self.annotations} annotations dropped: {', '.join(parts) or 'none'}"


def read_instances(path: str | Path, eligibility: Eligibility = Eligibility()) -> CocoIndex:
    """Read an instances JSON (polygons, uncompressed and compressed RLE, crowds) into an index.

    Large files are parsed once: what is needed of them is kept in the user's cache folder ($COUPLINGKIT_CACHE).

    Args:
        path: the JSON file, in the format of COCO 2017's `instances_*.json`.
        eligibility: the rules; objects that fail one are counted under its name.

    Raises:
        DataError: the file is missing, not JSON, not COCO, or contradicts itself (unknown or double ids; of objects
            that are used: a polygon with an odd number of coordinates or outside its photo, an RLE of another size
            than its photo).
    """
    path = Path(path)
    table, sha256 = read_table(path)
    rule = _first_failed(table, eligibility)
    names = ("crowd", "no mask", "small", "border")
    return CocoIndex(
        path=path,
        sha256=sha256,
        images=Photos(table),
        # By id, not by place in the file: a re-ordered file gives the same probes.
        objects=Objects(table, np.flatnonzero(rule == 0), path),
        annotations=len(table.ids),
        dropped={name: int((rule == number).sum()) for number, name in enumerate(names, 1)},
        eligibility=eligibility,
    )


def _first_failed(table: InstanceTable, rules: Eligibility) -> NDArray[np.int64]:
    """Return the number of the first rule that drops each annotation; 0 where none does."""
    sizes = table.sizes[table.image] if len(table.ids) else np.zeros((0, 2))
    # Boxes of polygons lie between pixels; masks do not.
    near, far = np.round(table.box[:, :2]), np.round(table.box[:, :2] + table.box[:, 2:])
    margin = np.minimum(near, sizes - far).min(axis=1, initial=np.inf)
    return np.select(
        [
            table.crowd,
            (table.length == 0) | (table.area <= 0),
            table.area < rules.min_area,
            (margin <= BORDER_PX) & (not rules.border),
        ],
        [1, 2, 3, 4],
        0,
    )


@dataclass(frozen=True)
class PhotoObjects:
    """Everything annotated on one photo: each object however small or cut off, and the crowds, which are no objects."""

    image: ImageRecord
    objects: tuple[ObjectRecord, ...]
    crowds: tuple[ObjectRecord, ...]


def read_objects(path: str | Path, image_ids: Iterable[int]) -> dict[int, PhotoObjects]:
    """Read all that an instances JSON says of some photos, eligible or not; errors as in `read_instances`."""
    path = Path(path)
    table, _ = read_table(path)
    photos = Photos(table)
    order = np.argsort(table.image, kind="stable")
    bounds = np.searchsorted(table.image[order], np.arange(len(photos) + 1))
    places = {identity: row for row, identity in enumerate(photos)}
    found = {}
    for identity in image_ids:
        of_photo = order[bounds[places[identity]] : bounds[places[identity] + 1]]
        masked = [int(row) for row in of_photo if table.length[row]]
        # Not checked against what the file states: nothing is chosen by it here.
        records = {row: _described(table, row, path) for row in masked}
        objects, crowds = (
            tuple(record for row, record in records.items() if record is not None and table.crowd[row] == crowd)
            for crowd in (False, True)
        )
        found[identity] = PhotoObjects(photos[identity], objects, crowds)
    return found


def _described(table: InstanceTable, row: int, path: Path) -> ObjectRecord | None:
    """Return an annotation with its mask; None where the mask is empty."""
    rle = object_mask(table, row, path)
    if rle is None:
        return None
    area, left, top, width, height = tight_box(rle)
    category = table.category_names()[table.category[row]]
    image_id = int(table.image_ids[table.image[row]])
    return ObjectRecord(int(table.ids[row]), image_id, category, area, left, top, width, height, rle)


def _record(table: InstanceTable, row: int, path: Path) -> ObjectRecord:
    found = _described(table, row, path)
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
