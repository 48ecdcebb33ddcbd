"""Instances JSON in, its annotations as columns out; masks stay in the file until one is asked for.

An instances JSON of COCO train2017 holds 860,000 annotations, of which a study shows some thousands. So the file is
read once, without its polygons becoming numbers, and what is kept of an annotation is where its segmentation stands.
"""

from __future__ import annotations

import mmap
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line, listed
from .segmentation import polygon_extent, segmentation_rle, tight_box

__all__ = ["InstanceTable", "object_mask", "parse_instances", "read_segmentation", "read_supercategories"]

Ints = NDArray[np.int64]


# Ids are kept as int64, and no photo has a longer side.
Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**24)]


class _Image(msgspec.Struct, gc=False):
    id: Id
    width: Side
    height: Side
    file_name: str = ""
    # LVIS has no other name of a photo.
    coco_url: str = ""

    def name(self, path: Path) -> str:
        """Return the file's name, or raise `DataError` where nothing says it."""
        found = self.file_name or self.coco_url.rpartition("/")[2]
        if not found:
            raise DataError(f"annotations {path}: image {self.id} has no file_name (and no coco_url, as LVIS has).")
        return found


class _Category(msgspec.Struct, gc=False):
    id: Id
    name: str | None = None


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: Id
    category_id: Id
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    iscrowd: int | bool | None = 0
    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True)
class InstanceTable:
    """What an instances JSON says, as columns; everything is NumPy, so that it is written to a cache as it is.

    Attributes:
        image_ids: int64 (I,), ascending.
        sizes: int64 (I, 2), width and height in px.
        file_names: uint8, the names in UTF-8, one after another.
        name_ends: int64 (I,), where each name ends.
        categories: uint8, the names of the categories in UTF-8, one after another.
        category_ends: int64 (C,), where each name ends.
        ids: int64 (A,), the annotations', ascending.
        image: int64 (A,), row of the photo.
        category: int64 (A,), place in `categories`.
        crowd: bool (A,).
        area: float64 (A,), px of the mask, as the file states it.
        box: float64 (A, 4), left, top, width and height in px, as the file states it.
        start, length: int64 (A,), bytes of the file that hold the segmentation; length 0 where there is none.
    """

    image_ids: Ints
    sizes: Ints
    file_names: NDArray[np.uint8]
    name_ends: Ints
    categories: NDArray[np.uint8]
    category_ends: Ints
    ids: Ints
    image: Ints
    category: Ints
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    box: NDArray[np.float64]
    start: Ints
    length: Ints

    def file_name(self, row: int) -> str:
        """Return the file name of a photo."""
        return _text(self.file_names, self.name_ends, row)

    def category_names(self) -> list[str]:
        """Return the names of the categories."""
        return [_text(self.categories, self.category_ends, row) for row in range(len(self.category_ends))]

    def is_sound(self) -> bool:
        """Return whether the columns belong together, as those of a file that was not damaged do."""
        images, annotations = len(self.image_ids), len(self.ids)
        shapes = {
            "sizes": (images, 2), "name_ends": (images,), "box": (annotations, 4),
            **dict.fromkeys(("image", "category", "crowd", "area", "start", "length"), (annotations,)),
        }  # fmt: skip
        if any(getattr(self, name).shape != shape for name, shape in shapes.items()):
            return False
        texts = ((self.file_names, self.name_ends), (self.categories, self.category_ends))
        places = ((self.image, images), (self.category, len(self.category_ends)))
        return (
            all(int(ends[-1]) == len(letters) if ends.size else not letters.size for letters, ends in texts)
            and all(not rows.size or (rows.min() >= 0 and rows.max() < count) for rows, count in places)
            and bool((np.diff(self.ids) > 0).all() and (np.diff(self.image_ids) > 0).all())
        )


def _text(letters: NDArray[np.uint8], ends: Ints, row: int) -> str:
    """Return one of several texts that stand one after another."""
    begin = int(ends[row - 1]) if row else 0
    return letters[begin : int(ends[row])].tobytes().decode()


def _texts(words: Sequence[str]) -> tuple[NDArray[np.uint8], Ints]:
    """Return texts as the bytes of all of them and where each ends."""
    encoded = [word.encode() for word in words]
    ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


class _Grouped(msgspec.Struct):
    name: str | None = None
    id: int | str = ""
    supercategory: str | None = None


class _Categories(msgspec.Struct):
    categories: list[_Grouped]


def read_supercategories(path: Path) -> dict[str, str]:
    """Return category -> supercategory of an instances JSON.

    Raises:
        DataError: a category has none.
    """
    try:
        found = msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=_Categories).categories
    except (msgspec.DecodeError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"annotations {path} cannot be read ({first_line(error)}).") from error
    bare = [one.name or one.id for one in found if not one.supercategory]
    if bare:
        raise DataError(f"annotations {path}: {listed(bare)} has no supercategory; let each category be a class.")
    return {one.name or str(one.id): str(one.supercategory) for one in found}


def parse_instances(path: Path) -> InstanceTable:
    """Read an instances JSON; errors as in `read_instances`."""
    with path.open("rb") as stream:
        try:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):
            raise DataError(f"annotations {path} is empty, or no file; an instances JSON was expected.") from None
        # The pages are the file's own: nothing of it is copied, and the system may drop them again.
        text = memoryview(mapped)
        # Windows' editors write a mark in front of UTF-8.
        return _columns(_decoded(text[len(BOM_UTF8) :] if bytes(text[:3]) == BOM_UTF8 else text, path), mapped, path)


def _decoded(raw: Any, path: Path) -> _Content:
    try:
        return msgspec.json.decode(raw, type=_Content)
    except msgspec.ValidationError as error:
        raise DataError(
            f"annotations {path} is no instances JSON (COCO's instances_*.json has images, annotations, categories): "
            f"{error}."
        ) from error
    except RecursionError as error:
        raise DataError(f"annotations {path} is no instances JSON: it is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"annotations {path} is not valid JSON ({first_line(error)}); was it cut short?") from error


def _columns(content: _Content, raw: Any, path: Path) -> InstanceTable:
    images = sorted(content.images, key=lambda image: image.id)
    image_ids = _unique([image.id for image in images], "image", path)
    categories = {category.id: category.name or str(category.id) for category in content.categories}
    _unique(sorted(category.id for category in content.categories), "category", path)
    doubles = [name for name, count in Counter(categories.values()).items() if count > 1]
    if doubles:
        # Pairing goes by name; two ids of one name would pass for two categories.
        raise DataError(f"{path}: categories of the same name: {listed(doubles)}; names must be unique.")
    file_names, name_ends = _texts([image.name(path) for image in images])
    category_names, category_ends = _texts(list(categories.values()))
    annotations = sorted(content.annotations, key=lambda annotation: annotation.id)
    ids = _unique([annotation.id for annotation in annotations], "annotation", path)
    starts = _starts([annotation.segmentation for annotation in annotations], raw)
    missing = (np.nan,) * 4
    table = InstanceTable(
        image_ids=image_ids,
        sizes=np.array([(image.width, image.height) for image in images], dtype=np.int64).reshape(-1, 2),
        file_names=file_names,
        name_ends=name_ends,
        categories=category_names,
        category_ends=category_ends,
        ids=ids,
        image=_rows(image_ids, [one.image_id for one in annotations], ids, "image", path),
        category=_rows(np.array(list(categories)), [one.category_id for one in annotations], ids, "category", path),
        crowd=np.array([bool(one.iscrowd) for one in annotations], dtype=bool),
        area=np.array([np.nan if one.area is None else one.area for one in annotations], dtype=np.float64),
        box=np.array([one.bbox or missing for one in annotations], dtype=np.float64).reshape(-1, 4),
        start=starts[:, 0],
        length=starts[:, 1],
    )
    return _completed(table, path)


def _unique(ids: Sequence[int], kind: str, path: Path) -> Ints:
    found = np.array(ids, dtype=np.int64)
    double = np.flatnonzero(np.diff(found) == 0)
    if double.size:
        raise DataError(f"{path}: {kind} {found[double[0]]} stands there twice; ids must be unique.")
    return found


def _rows(known: Ints, wanted: Sequence[int], ids: Ints, kind: str, path: Path) -> Ints:
    """Return the place of each wanted id among the known ones."""
    order = np.argsort(known, kind="stable")
    keys = np.array(wanted, dtype=np.int64)
    if not known.size and keys.size:
        raise DataError(f"{path}: annotation {ids[0]} has {kind}_id {keys[0]}, but no such {kind} is listed.")
    places = np.minimum(np.searchsorted(known, keys, sorter=order), max(known.size - 1, 0))
    rows: Ints = order[places] if keys.size else np.zeros(0, dtype=np.int64)
    strangers = np.flatnonzero(known[rows] != keys) if keys.size else rows
    if strangers.size:
        first = strangers[0]
        raise DataError(f"{path}: annotation {ids[first]} has {kind}_id {keys[first]}, but no such {kind} is listed.")
    return rows


def _starts(segmentations: Sequence[msgspec.Raw], raw: Any) -> Ints:
    """Return (start, length) of each segmentation within the file; they are views of its bytes."""
    base = _address(raw)
    found = np.zeros((len(segmentations), 2), dtype=np.int64)
    for row, segmentation in enumerate(segmentations):
        length = memoryview(segmentation).nbytes
        if length > 2 and bytes(segmentation) != b"null":
            found[row] = _address(segmentation) - base, length
    return found


def _address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, dtype=np.uint8).__array_interface__["data"][0])


def _completed(table: InstanceTable, path: Path) -> InstanceTable:
    """Work out area and box from the mask where the file does not state them."""
    for row in np.flatnonzero((np.isnan(table.area) | np.isnan(table.box).any(axis=1)) & (table.length > 0)):
        table.area[row], table.box[row] = 0.0, 0.0
        if table.crowd[row]:
            continue
        rle = object_mask(table, int(row), path)
        if rle is not None:
            table.area[row], *table.box[row] = tight_box(rle)
    return table


def read_segmentation(table: InstanceTable, row: int, path: Path) -> Any:
    """Return an annotation's segmentation as JSON values."""
    with path.open("rb") as stream:
        stream.seek(int(table.start[row]))
        raw = stream.read(int(table.length[row]))
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise DataError(f"annotations {path} changed while they were read; start again.") from error


def object_mask(table: InstanceTable, row: int, path: Path) -> dict[str, Any] | None:
    """Return an annotation's mask as compressed RLE; None if it encloses nothing.

    Raises:
        DataError: a polygon has an odd number of coordinates or lies outside its photo, an RLE has another size.
    """
    width, height = (int(side) for side in table.sizes[table.image[row]])
    where = f"{path}: annotation {table.ids[row]}"
    segmentation = read_segmentation(table, row, path)
    if isinstance(segmentation, list) and polygon_extent(segmentation, width, height, where) is None:
        return None
    rle = segmentation_rle(segmentation, width, height, where)
    return rle if tight_box(rle)[0] else None
