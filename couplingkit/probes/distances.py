"""Masks of two objects side by side in, how far they are from each other out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FACING", "Edge", "edge_distance", "mask_distance", "mask_edge"]

Mask = NDArray[np.bool_]
Corner = tuple[int, int]
# The side of B that A's side of the same name as the direction looks at.
FACING = {"right": "left", "left": "right", "below": "above", "above": "below"}


class Edge(NamedTuple):
    """One side of an object: the outermost pixel of each row of its mask, or of each column below and above.

    Attributes:
        along: int32 (n,), the rows (columns) that have a pixel.
        out: int32 (n,), the column (row) of the outermost one.
    """

    along: NDArray[np.int32]
    out: NDArray[np.int32]


def mask_edge(mask: Mask, side: str) -> Edge:
    """Return a side (right, left, below or above) of a mask, bool (h, w)."""
    lines = mask if side in ("right", "left") else mask.T
    along = np.flatnonzero(lines.any(axis=1))
    shown = lines[along]
    far = side in ("right", "below")
    steps = (shown[:, ::-1] if far else shown).argmax(axis=1)
    out = shown.shape[1] - 1 - steps if far else steps
    return Edge(along.astype(np.int32), out.astype(np.int32))


def edge_distance(a: Edge, b: Edge, *, corners: tuple[Corner, Corner], direction: str) -> float:
    """Return the least distance between A and B, px, by the sides that face each other; as `mask_distance`.

    Args:
        a: A's side of the name of `direction`.
        b: B's side that faces it (`FACING`).
        corners: (top, left) of both on their canvas.
        direction: where B stands, seen from A.
    """
    if not (a.along.size and b.along.size):
        return float("nan")
    down, right = corners[1][0] - corners[0][0], corners[1][1] - corners[0][1]
    aside, outward = (down, right) if direction in ("right", "left") else (right, down)
    across = (b.out + outward)[None, :] - a.out[:, None]
    if direction in ("left", "above"):
        across = -across
    across -= 1
    np.maximum(across, 0, out=across)
    along = np.abs((b.along + aside)[None, :] - a.along[:, None])
    along -= 1
    np.maximum(along, 0, out=along)
    # Squares of whole px are whole; of their least one the root is taken once.
    return float(np.sqrt(np.float64((across * across + along * along).min())))


def mask_distance(
    a: Mask, b: Mask, *, corners: tuple[Corner, Corner] = ((0, 0), (0, 0)), direction: str = "right"
) -> float:
    """Return the least distance between the pixels of A and those of B, px: 0 where they touch.

    It is more than the gap between their boxes wherever the two do not bulge at the same height. Only the outermost
    pixels of the sides that face each other can be nearest.

    Args:
        a: bool (h, w).
        b: bool (h', w').
        corners: (top, left) of both on their canvas; their boxes do not overlap in the direction.
        direction: where B stands, seen from A: right, left, below or above.

    Returns:
        NaN where a mask is empty.

    >>> a, b = np.zeros((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool)
    >>> a[2, :3], b[2, 5:] = True, True
    >>> mask_distance(a, b)
    2.0
    """
    sides = mask_edge(a, direction), mask_edge(b, FACING[direction])
    return edge_distance(*sides, corners=corners, direction=direction)
