"""Instances JSON in, an index of the objects that may be pasted out; a mask is read when its object is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError, check_range
from ..words import as_path
from .instances import BROKEN, FAULTS, InstanceTable, object_mask
from .instances_cache import read_table
from .objects import Exif, ImageRecord, ObjectRecord, Objects, Photos, described

__all__ = [
    "AnnotatedPhotos",
    "CocoIndex",
    "Eligibility",
    "PhotoObjects",
    "StatedObjects",
    "read_instances",
    "read_objects",
]

# Annotators click near the border, not on it: of COCO's objects that the photo cuts off, about a third has a mask
# that ends 1 or 2 px inside. So a mask this close to the border touches it.
BORDER_PX = 2


@dataclass(frozen=True)
class Eligibility:
    """Which annotated objects may become part of a probe.

    Attributes:
        min_area: pixels of the object's mask, at least (default 64 x 64).
        allow_border: also take objects whose mask touches the border of their photo (comes within 2 px of it); they are
            cut off there, which makes another shape of them.
        exif: of photos with a rotation tag: whether masks are drawn on the pixels as stored (`ignore`) or as a viewer
            shows them (`apply`); `auto` takes what has the size that the file states, and refuses where both have.
    """

    min_area: int = 64 * 64
    allow_border: bool = False
    exif: Exif = "auto"

    def __post_init__(self) -> None:
        check_range("min_area", self.min_area, 1)
        if self.exif not in get_args(Exif):
            raise ArgumentError(f"exif must be one of {', '.join(get_args(Exif))}, not {self.exif!r}.")

    def stored(self) -> dict[str, Any]:
        """Return the fields as JSON values; `exif` only where it was chosen."""
        return {key: value for key, value in asdict(self).items() if (key, value) != ("exif", "auto")}


@dataclass(frozen=True)
class CocoIndex:
    """What an instances JSON offers: its photos, its eligible objects by annotation id, and what was dropped.

    Whether an object is eligible is told by area and box: the file's where its mask agrees with them, else the mask's.

    Attributes:
        sha256: of the annotation file's bytes.
        annotations: number of annotations in the file.
        dropped: rule -> number of annotations which it dropped, each counted at the first rule it failed.
        faults: id -> why an annotation cannot be used, of those that were dropped as `broken`.
        remarks: what else a reader must know of the file, in sentences.
    """

    path: Path
    sha256: str
    images: Photos
    objects: Objects
    annotations: int
    dropped: dict[str, int]
    eligibility: Eligibility
    faults: Mapping[int, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

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
            "broken": next(
                (f"annotation {one}: {why}; all in a run's dropped.csv" for one, why in self.faults.items()), ""
            ),
            "crowd": "crowds are never used",
            "no mask": "boxes without masks cannot be cut out",
            "small": f"below {self.eligibility.min_area} px of mask: `min_area` loosens it",
            "border": "cut off by the photo's border: `allow_border` loosens it",
        }
        parts = [f"{count} {rule} ({ways[rule]})" for rule, count in self.dropped.items() if count]
        told = f"of {self.annotations} annotations dropped: {', '.join(parts) or 'none'}"
        return "; ".join([told, *(remark.rstrip(".") for remark in self.remarks)])


def read_instances(path: str | Path, eligibility: Eligibility = Eligibility()) -> CocoIndex:
    """Read an instances JSON (polygons, uncompressed and compressed RLE, crowds) into an index.

    Large files are parsed once: what is needed of them is kept in the user's cache folder ($COUPLINGKIT_CACHE).

    Args:
        path: the JSON file, in the format of COCO 2017's `instances_*.json`.
        eligibility: the rules; objects that fail one are counted under its name.

    Raises:
        DataError: the file is missing, not JSON, not COCO, or two photos have one id. (Annotations that cannot be used
            are dropped and listed in `faults`: of unknown photos or categories, with broken masks.)
    """
    path = as_path(path)
    table, sha256 = read_table(path)
    rule = _first_failed(table, eligibility)
    names = ("crowd", "no mask", "small", "border", "broken")
    broken = np.flatnonzero(table.fault)
    return CocoIndex(
        path=path,
        sha256=sha256,
        images=Photos(table, eligibility.exif),
        # By id, not by place in the file: a re-ordered file gives the same probes.
        objects=Objects(table, np.flatnonzero(rule == 0), path),
        annotations=len(table.ids),
        dropped={name: int((rule == number).sum()) for number, name in enumerate(names, 1)},
        eligibility=eligibility,
        faults={int(table.ids[row]): _why(table, row, path) for row in broken.tolist()},
        remarks=_remarks(table),
    )


def _why(table: InstanceTable, row: int, path: Path) -> str:
    reason = FAULTS[table.fault[row]]
    try:
        if table.fault[row] == BROKEN:
            object_mask(table, row, path)
    except DataError as error:
        return str(error.__cause__ or error)
    return reason


def _remarks(table: InstanceTable) -> tuple[str, ...]:
    repeated, replaced, merged = (int(count) for count in table.counts)
    told = (
        (int(table.contradicts.sum()), "annotations state another area or box than their mask has: the mask decides"),
        (repeated, "annotations have the id of another and got one of their own"),
        (replaced, "ids are no whole numbers of 64 bits and stand as 63 bits of their SHA-256"),
        (merged, "categories have the name of another and are one with it"),
    )
    return tuple(f"{count} {what}." for count, what in told if count)


def _first_failed(table: InstanceTable, rules: Eligibility) -> NDArray[np.int64]:
    """Return the number of the first rule that drops each annotation; 0 where none does."""
    # Without photos every annotation is one of a photo that is not listed.
    sizes = table.sizes[table.image] if len(table.sizes) else np.zeros((len(table.ids), 2))
    # Boxes of polygons lie between pixels; masks do not.
    near, far = np.round(table.box[:, :2]), np.round(table.box[:, :2] + table.box[:, 2:])
    margin = np.minimum(near, sizes - far).min(axis=1, initial=np.inf)
    return np.select(
        [
            table.fault > 0,
            table.crowd,
            (table.length == 0) | (table.area <= 0),
            table.area < rules.min_area,
            (margin <= BORDER_PX) & (not rules.allow_border),
        ],
        [5, 1, 2, 3, 4],
        0,
    )


@dataclass(frozen=True)
class PhotoObjects:
    """Everything annotated on one photo: each object however small or cut off, and the crowds, which are no objects."""

    image: ImageRecord
    objects: tuple[ObjectRecord, ...]
    crowds: tuple[ObjectRecord, ...]


@dataclass(frozen=True)
class StatedObjects:
    """What is annotated on one photo, by ascending id.

    Attributes:
        ids: int64 (n,).
        categories: int64 (n,), places in `category_names`.
        boxes: float64 (n, 4), left, top, width and height in px.
        areas: float64 (n,), px.
        crowd: bool (n,).
        rles: compressed masks; None where there is none.
    """

    ids: NDArray[np.int64]
    categories: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    rles: tuple[dict[str, Any] | None, ...]


class AnnotatedPhotos(Mapping[int, PhotoObjects]):
    """All photos of an instances JSON by their ids; what is on one of them is read when it is asked for.

    Attributes:
        path: of the file.
        sha256: of its bytes.
        images: its photos.
        category_names: of the whole file.
    """

    def __init__(self, path: str | Path, exif: Exif = "auto"):
        self.path = as_path(path)
        self._table, self.sha256 = read_table(self.path)
        self.images = Photos(self._table, exif)
        self.category_names = self._table.category_names()
        self._order = np.argsort(self._table.image, kind="stable")
        self._bounds = np.searchsorted(self._table.image[self._order], np.arange(len(self.images) + 1))
        self._contradicting = np.flatnonzero(self._table.contradicts)
        self._places = {identity: row for row, identity in enumerate(self.images)}

    def __getitem__(self, image_id: int) -> PhotoObjects:
        table, of_photo = self._table, self._rows(image_id)
        # Not checked against what the file states: nothing is chosen by it here.
        records = {
            int(row): described(table, int(row), self.path)
            for row in of_photo
            if table.length[row] and not table.fault[row]
        }
        objects, crowds = (
            tuple(record for row, record in records.items() if record is not None and table.crowd[row] == crowd)
            for crowd in (False, True)
        )
        return PhotoObjects(self.images[image_id], objects, crowds)

    def stated(self, image_id: int) -> StatedObjects:
        """Return what is annotated on a photo, masks or not, with boxes and areas as the file states them.

        (What has a mask that is broken, or no category, is left out.)
        """
        table, rows = self._table, self._rows(image_id)
        rows = np.sort(rows[table.fault[rows] == 0])
        rles = tuple(object_mask(table, row, self.path) if table.length[row] else None for row in rows.tolist())
        boxes, areas = table.box[rows], table.area[rows]
        contradicts = table.contradicts[rows]
        said = table.stated[np.searchsorted(self._contradicting, rows[contradicts])]
        areas[contradicts], boxes[contradicts] = said[:, 0], said[:, 1:]
        return StatedObjects(table.ids[rows], table.category[rows], boxes, areas, table.crowd[rows], rles)

    def _rows(self, image_id: int) -> NDArray[np.int64]:
        place = self._places[image_id]
        return self._order[self._bounds[place] : self._bounds[place + 1]]

    def any_mask(self) -> bool:
        """Return whether any annotation has a mask."""
        return bool((self._table.length > 0).any())

    def has_object(self, image_id: int) -> bool:
        """Return whether anything but crowds is annotated on a photo."""
        rows = self._rows(image_id)
        return bool((~self._table.crowd[rows] & (self._table.fault[rows] == 0)).any())

    def __iter__(self) -> Iterator[int]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)


def read_objects(path: str | Path, image_ids: Iterable[int], exif: Exif = "auto") -> dict[int, PhotoObjects]:
    """Read all that an instances JSON says of some photos, eligible or not; errors as in `read_instances`."""
    photos = AnnotatedPhotos(path, exif)
    return {identity: photos[identity] for identity in image_ids}
