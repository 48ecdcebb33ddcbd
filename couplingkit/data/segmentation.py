"""One annotation's `segmentation` in, checked run lengths, boxes and masks out (by pycocotools)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

__all__ = [
    "BrokenMask",
    "encode_mask",
    "overlaps",
    "polygons_rle",
    "rle_area",
    "rle_mask",
    "segmentation_rle",
    "tight_box",
]

# A corner so many times the longer side away is no corner.
FARTHEST = 8


class BrokenMask(ValueError):  # noqa: N818 - it says what is broken, and is dropped or told by who caught it
    """An annotation's segmentation is not what COCO's format has; the message says why, without the annotation."""


def segmentation_rle(segmentation: Any, width: int, height: int) -> dict[str, Any] | None:
    """Return the compressed RLE of a segmentation, whichever of COCO's three forms it has; None of no polygon.

    What reaches past the photo is cut off there, as pycocotools does.

    Args:
        segmentation: list of polygons, or {"size", "counts"} with counts as a list or as a string.
        width: of the photo, px.
        height: of the photo, px.

    Raises:
        BrokenMask: a polygon is no list of numbers, has an odd number of coordinates or lies far from the photo; an RLE
            does not fill exactly the photo's size.
    """
    if isinstance(segmentation, list):
        return _of_polygons(segmentation, width, height)
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        size = segmentation.get("size") if isinstance(segmentation, dict) else segmentation
        raise BrokenMask(f"its RLE has size {size}, but its photo is {[height, width]} (height, width)")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = counts.encode()
    lengths = counts if isinstance(counts, list) else _run_lengths(counts) if isinstance(counts, bytes) else []
    valid = all(isinstance(length, int) and length >= 0 for length in lengths)
    if not valid or sum(lengths) != width * height:
        raise BrokenMask(f"its RLE does not cover its photo's {width * height} px exactly")
    if isinstance(counts, list):
        converted: dict[str, Any] = coco_mask.frPyObjects(segmentation, height, width)
        return converted
    return {"size": [height, width], "counts": counts}


def _of_polygons(polygons: list[Any], width: int, height: int) -> dict[str, Any] | None:
    # Some tools write one polygon without the list around it.
    if polygons and all(isinstance(value, (int, float)) for value in polygons):
        polygons = [polygons]
    for polygon in polygons:
        if not isinstance(polygon, list) or not all(isinstance(value, (int, float)) for value in polygon):
            raise BrokenMask("a polygon must be a list of numbers x, y, x, y, ..., but one is not")
    return polygons_rle(polygons, width, height)


def polygons_rle(polygons: list[list[float]], width: int, height: int) -> dict[str, Any] | None:
    """Return the compressed RLE of polygons that are lists of numbers; else as `segmentation_rle`."""
    for polygon in polygons:
        if len(polygon) % 2:
            raise BrokenMask(f"a polygon has {len(polygon)} coordinates; x, y, x, y, ... has an even number")
    whole = [polygon for polygon in polygons if len(polygon) >= 6]
    if not whole:
        return None
    # Its outline is walked in fifths of a pixel, so that a corner at 1e9 would take all memory.
    reach = max(max(max(polygon), -min(polygon)) for polygon in whole)
    if reach > FARTHEST * max(width, height):
        raise BrokenMask(f"a polygon reaches to {reach:g}, far outside its photo of {width} x {height} px")
    merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects(whole, height, width))
    return merged


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


def overlaps(detected: Any, objects: Any, crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the IoU of detections with objects, float64 (D, G); with a crowd, the share of the detection in it.

    Args:
        detected, objects: boxes, float64 (n, 4) of left, top, width and height in px, or compressed RLEs, as lists.
        crowd: bool (G,).
    """
    if not len(detected) or not len(objects):
        return np.zeros((len(detected), len(objects)))
    found: NDArray[np.float64] = coco_mask.iou(detected, objects, crowd.astype(np.uint8).tolist())
    return found


def rle_area(rle: dict[str, Any]) -> int:
    """Return the px of a compressed RLE."""
    return int(coco_mask.area(rle))
