"""One annotation's `segmentation` in, checked run lengths, boxes and masks out (by pycocotools)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ..errors import DataError

__all__ = ["encode_mask", "polygon_extent", "rle_mask", "segmentation_rle", "tight_box"]

# Annotation tools round; a corner this far outside the photo (px) is rounding, further out is another photo's.
OUTSIDE_TOLERANCE_PX = 1.0


def polygon_extent(polygons: list[Any], width: int, height: int, where: str) -> tuple[float, float] | None:
    """Check an object's polygons and return their joint (width, height) in px; None if they enclose nothing.

    Raises:
        DataError: a polygon is no list of numbers, has an odd number of coordinates, or lies outside the photo.
    """
    corners = []
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(isinstance(value, (int, float)) for value in polygon):
            raise DataError(f"{where}: a polygon must be a list of numbers x, y, x, y, ..., but one is not.")
        if len(polygon) % 2:
            raise DataError(f"{where}: a polygon has {len(polygon)} coordinates; x, y, x, y, ... has an even number.")
        if len(polygon) >= 6:
            corners.append(np.array(polygon, dtype=np.float64).reshape(-1, 2))
    if not corners:
        return None
    points = np.concatenate(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    limit = np.array([width, height]) + OUTSIDE_TOLERANCE_PX
    if not ((low >= -OUTSIDE_TOLERANCE_PX).all() and (high <= limit).all()):
        raise DataError(
            f"{where}: a polygon reaches from ({low[0]:g}, {low[1]:g}) to ({high[0]:g}, {high[1]:g}), outside its "
            f"photo of {width} x {height} px; do the annotations belong to these images?"
        )
    return float(high[0] - low[0]), float(high[1] - low[1])


def segmentation_rle(segmentation: Any, width: int, height: int, where: str) -> dict[str, Any]:
    """Return the compressed RLE of a segmentation, whichever of COCO's three forms it has.

    Args:
        segmentation: list of polygons (checked by `polygon_extent` before), or {"size", "counts"} with counts
            as a list or as a string.
        width: of the photo, px.
        height: of the photo, px.
        where: the annotation's place, for the error.

    Raises:
        DataError: an RLE does not fill exactly the photo's size.
    """
    if isinstance(segmentation, list):
        whole = [polygon for polygon in segmentation if len(polygon) >= 6]
        merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(whole, height, width))
        return merged
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        size = segmentation.get("size") if isinstance(segmentation, dict) else segmentation
        raise DataError(f"{where}: its RLE has size {size}, but its photo is {[height, width]} (height, width).")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = counts.encode()
    lengths = counts if isinstance(counts, list) else _run_lengths(counts) if isinstance(counts, bytes) else []
    valid = all(isinstance(length, int) and length >= 0 for length in lengths)
    if not valid or sum(lengths) != width * height:
        raise DataError(
            f"{where}: its RLE does not cover its photo's {width * height} px exactly; the file is damaged."
        )
    if isinstance(counts, list):
        converted: dict[str, Any] = coco_mask.frPyObjects(segmentation, height, width)
        return converted
    return {"size": [height, width], "counts": counts}


def _run_lengths(counts: bytes) -> list[int]:
    """Return the run lengths of COCO's compressed counts.

    pycocotools does not say when they fall short of the mask, so they are added up here. The format: 5 bits a
    character, lowest first, bit 5 set while more follow, the last one signed; from the third run on the value is
    the difference to the run two before.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        chunk = character - 48
        value |= (chunk & 0x1F) << shift
        shift += 5
        if chunk & 0x20:
            continue
        if chunk & 0x10:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return [*lengths, -1] if shift else lengths


def tight_box(rle: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Return a mask's (area, left, top, width, height) in px without decoding it."""
    left, top, width, height = (int(value) for value in coco_mask.toBbox(rle))
    return int(coco_mask.area(rle)), left, top, width, height


def rle_mask(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """Decode a compressed RLE to bool (H, W)."""
    decoded: NDArray[np.bool_] = coco_mask.decode(rle).astype(bool)
    return decoded


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the compressed RLE of bool (H, W), with counts as str, as JSON wants them."""
    rle: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}
