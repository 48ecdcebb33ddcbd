"""Columns of an annotation file in, the same with every mask looked at out: what a field says too, the mask decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .instances import BROKEN, InstanceTable
from .segmentation import BrokenMask, polygons_rle, segmentation_rle, tight_box

__all__ = ["checked_masks"]

# What a file states of an object and what its mask says may differ by the rounding of polygons, and no more.
POLYGONS = msgspec.json.Decoder(list[list[float]])
STATED_AREA, STATED_SIDE = 2.0, 2.0
STATED_PX, STATED_SHARE = 4.0, 0.05


def checked_masks(table: InstanceTable, path: Path) -> InstanceTable:
    """Return columns whose area and box are the mask's, and which say whose mask is broken.

    A stated area and a stated box stay where the mask agrees: within a factor of 2, and 4 px and 5 % of a side (thin
    tips of polygons hold no pixel). Every mask of the file is built for it, once; the cache keeps what came out.
    """
    area, box = table.area.copy(), table.box.copy()
    fault, contradicts = table.fault.copy(), table.contradicts.copy()
    # Read and not mapped: pages of a mapped file count as memory.
    with path.open("rb") as stream:
        starts, lengths = table.start.tolist(), table.length.tolist()
        for row in np.flatnonzero((table.length > 0) & (table.fault == 0)).tolist():
            stream.seek(starts[row])
            try:
                found = _measured(stream.read(lengths[row]), table, row)
            except BrokenMask:
                fault[row] = BROKEN
                continue
            size, sides = float(area[row]), box[row].tolist()
            # Either may be absent (NaN); what is there must agree.
            right = _area_agrees(found[0], size), _box_agrees(found[1:], sides)
            if all(right):
                continue
            absent = math.isnan(size), math.isnan(sum(sides))
            contradicts[row] = not all(one or other for one, other in zip(right, absent, strict=True))
            area[row], box[row] = found[0], found[1:]
    for values in (area, box):
        np.nan_to_num(values, copy=False)
    said, own = (np.column_stack(pair)[contradicts] for pair in ((table.area, table.box), (area, box)))
    stated = np.where(np.isnan(said), own, said)
    return replace(table, area=area, box=box, fault=fault, contradicts=contradicts, stated=stated)


def _measured(raw: bytes, table: InstanceTable, row: int) -> tuple[int, int, int, int, int]:
    """Return a mask's area, left, top, width and height, px; zeros where it encloses nothing."""
    width, height = (int(side) for side in table.sizes[table.image[row]])
    try:
        # Checked while it is read, which is many times as fast.
        rle = polygons_rle(POLYGONS.decode(raw), width, height)
    except msgspec.ValidationError:
        rle = segmentation_rle(_any(raw), width, height)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMask("its segmentation is no JSON of numbers") from error
    return (0, 0, 0, 0, 0) if rle is None else tight_box(rle)


def _any(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMask("its segmentation is no JSON of numbers") from error


def _area_agrees(found: int, stated: float) -> bool:
    return stated / STATED_AREA <= found <= stated * STATED_AREA


def _box_agrees(found: Sequence[int], stated: Sequence[float]) -> bool:
    """Return whether a stated left, top, width and height is a mask's."""
    for at, side in ((0, 2), (1, 3)):
        slack = STATED_PX + STATED_SHARE * stated[side]
        # Thin tips of a polygon hold no pixel, so that a mask may be smaller than its box, but not lie beside it.
        inside = found[at] >= stated[at] - slack and found[at] + found[side] <= stated[at] + stated[side] + slack
        if not inside or found[side] + slack < stated[side] / STATED_SIDE:
            return False
    return True
