"""Columns of an annotation file in, the same with every mask looked at out: what a field says too, the mask decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .instances import BROKEN, InstanceTable
from .segmentation import BrokenMask, segmentation_rle, tight_box

__all__ = ["checked_masks"]

# What a file states of an object and what its mask says may differ by the rounding of polygons, and no more.
STATED_AREA, STATED_SIDE = 2.0, 2.0
STATED_PX, STATED_SHARE = 4.0, 0.05


def checked_masks(table: InstanceTable, path: Path) -> InstanceTable:
    """Return columns whose area and box are the mask's, and which say whose mask is broken.

    A stated area and a stated box stay where the mask agrees: within a factor of 2, and 4 px and 5 % of a side (thin
    tips of polygons hold no pixel). Every mask of the file is built for it, once; the cache keeps what came out.
    """
    area, box = table.area.copy(), table.box.copy()
    fault, contradicts = table.fault.copy(), table.contradicts.copy()
    with path.open("rb") as stream:
        for row in np.flatnonzero((table.length > 0) & (table.fault == 0)).tolist():
            stream.seek(int(table.start[row]))
            try:
                found = _measured(stream.read(int(table.length[row])), table, row)
            except BrokenMask:
                fault[row] = BROKEN
                continue
            stated = not np.isnan(area[row]), not np.isnan(box[row]).any()
            # Either may be absent; what is there must agree.
            if all(stated) and _agree(found, area[row], box[row]):
                continue
            contradicts[row] = (stated[0] and not _area_agrees(found[0], area[row])) or (
                stated[1] and not _box_agrees(np.array(found[1:]), box[row])
            )
            area[row], box[row] = found[0], found[1:]
    for values in (area, box):
        np.nan_to_num(values, copy=False)
    return replace(table, area=area, box=box, fault=fault, contradicts=contradicts)


def _measured(raw: bytes, table: InstanceTable, row: int) -> tuple[int, int, int, int, int]:
    """Return a mask's area, left, top, width and height, px; zeros where it encloses nothing."""
    width, height = (int(side) for side in table.sizes[table.image[row]])
    try:
        segmentation: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMask("its segmentation is no JSON of numbers") from error
    rle = segmentation_rle(segmentation, width, height)
    return (0, 0, 0, 0, 0) if rle is None else tight_box(rle)


def _agree(found: tuple[int, ...], area: float, box: NDArray[np.float64]) -> bool:
    return _area_agrees(found[0], area) and _box_agrees(np.array(found[1:]), box)


def _area_agrees(found: int, stated: float) -> bool:
    return stated / STATED_AREA <= found <= stated * STATED_AREA


def _box_agrees(found: NDArray[np.int64], stated: NDArray[np.float64]) -> bool:
    slack = STATED_PX + STATED_SHARE * stated[2:]
    # Thin tips of a polygon hold no pixel, so that a mask may be smaller than its box, but not lie beside it.
    inside = (found[:2] >= stated[:2] - slack).all() and (
        found[:2] + found[2:] <= stated[:2] + stated[2:] + slack
    ).all()
    return bool(inside and (found[2:] + slack >= stated[2:] / STATED_SIDE).all())
