"""The annotations of an instances JSON as columns; masks stay in the file until one is asked for.

An instances JSON of COCO train2017 holds 860,000 annotations, of which a study shows some thousands. So what is kept of
an annotation is where its segmentation stands; `instances_parsing` makes the columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .segmentation import BrokenMask, segmentation_rle, tight_box

__all__ = ["BROKEN", "FAULTS", "InstanceTable", "object_mask", "read_segmentation"]

Ints = NDArray[np.int64]
# Why an annotation cannot be used.
FAULTS = (
    "",
    "its image is not listed",
    "its category is not listed",
    "its image has no width and height",
    "its image has no file name",
    "its mask is broken",
)
BROKEN = FAULTS.index("its mask is broken")


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
        area: float64 (A,), px of the mask: as the file states it where the mask agrees, else the mask's own.
        box: float64 (A, 4), left, top, width and height in px, likewise.
        start, length: int64 (A,), bytes of the file that hold the segmentation; length 0 where there is none.
        fault: int64 (A,), why an annotation cannot be used, a place in `FAULTS`; 0 where it can.
        contradicts: bool (A,), whether the file states another area or box than the mask has.
        stated: float64 (C, 5), of those that do so, in their order: area, left, top, width and height as the file has
            them; the mask's where it says nothing.
        counts: int64 (3,), annotations that got another id because theirs was taken, ids that are no whole numbers of
            64 bits and were replaced, and categories that share their name with another.
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
    fault: Ints
    contradicts: NDArray[np.bool_]
    stated: NDArray[np.float64]
    counts: Ints

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
            "fault": (annotations,), "contradicts": (annotations,), "counts": (3,),
            "stated": (int(self.contradicts.sum()), 5),
        }  # fmt: skip
        if any(getattr(self, name).shape != shape for name, shape in shapes.items()):
            return False
        texts = ((self.file_names, self.name_ends), (self.categories, self.category_ends))
        # Who has no photo or no category points at the first.
        places = (
            (self.image, max(images, 1)),
            (self.category, max(len(self.category_ends), 1)),
            (self.fault, len(FAULTS)),
        )
        return (
            all(int(ends[-1]) == len(letters) if ends.size else not letters.size for letters, ends in texts)
            and all(not rows.size or (rows.min() >= 0 and rows.max() < count) for rows, count in places)
            and bool((np.diff(self.ids) > 0).all() and (np.diff(self.image_ids) > 0).all())
        )


def _text(letters: NDArray[np.uint8], ends: Ints, row: int) -> str:
    """Return one of several texts that stand one after another."""
    begin = int(ends[row - 1]) if row else 0
    return letters[begin : int(ends[row])].tobytes().decode()


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
        DataError: a polygon has an odd number of coordinates or lies far outside its photo, an RLE has another size.
    """
    width, height = (int(side) for side in table.sizes[table.image[row]])
    try:
        rle = segmentation_rle(read_segmentation(table, row, path), width, height)
    except BrokenMask as error:
        raise DataError(f"{path}: annotation {table.ids[row]}: {error}.") from error
    return rle if rle is not None and tight_box(rle)[0] else None
