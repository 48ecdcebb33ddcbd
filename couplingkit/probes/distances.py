"""Masks of two objects side by side in, how far they are from each other out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["mask_distance"]

Mask = NDArray[np.bool_]
Corner = tuple[int, int]


def mask_distance(
    a: Mask, b: Mask, *, corners: tuple[Corner, Corner] = ((0, 0), (0, 0)), direction: str = "right"
) -> float:
    """Return the least distance between the pixels of A and those of B, px: 0 where they touch.

    It is more than the gap between their boxes wherever the two do not bulge at the same height.

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
    (top_a, left_a), (top_b, left_b) = corners
    if direction in ("below", "above"):
        a, b, top_a, left_a, top_b, left_b = a.T, b.T, left_a, top_a, left_b, top_b
    if direction in ("left", "above"):
        # Seen in a mirror, B stands to the right.
        a, b, left_a, left_b = a[:, ::-1], b[:, ::-1], -left_a - a.shape[1], -left_b - b.shape[1]
    # With B to the right of A, only A's last and B's first pixel of a row can be nearest.
    rows_a, rows_b = np.flatnonzero(a.any(axis=1)), np.flatnonzero(b.any(axis=1))
    if not (rows_a.size and rows_b.size):
        return float("nan")
    last = left_a + a.shape[1] - 1 - a[rows_a, ::-1].argmax(axis=1)
    first = left_b + b[rows_b].argmax(axis=1)
    across = np.maximum(first[None, :] - last[:, None] - 1, 0)
    along = np.maximum(np.abs((top_b + rows_b)[None, :] - (top_a + rows_a)[:, None]) - 1, 0)
    return float(np.sqrt((across**2 + along**2).min()))
