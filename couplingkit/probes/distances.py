"""Masks of two objects side by side in, how far they are from each other out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["mask_distances"]

Mask = NDArray[np.bool_]


def mask_distances(masks_a: Mask, masks_b: Mask, directions: Sequence[str]) -> NDArray[np.float64]:
    """Return the least distance between the pixels of A and those of B, px: 0 where they touch.

    It is more than the gap between their boxes wherever the two do not bulge at the same height.

    Args:
        masks_a: bool (B, H, W).
        masks_b: bool (B, H, W); their boxes do not overlap in the direction.
        directions: where B stands, seen from A: right, left, below or above.

    Returns:
        float64 (B,), NaN where a mask is empty.

    >>> a, b = np.zeros((1, 8, 8), dtype=bool), np.zeros((1, 8, 8), dtype=bool)
    >>> a[0, 2, :3], b[0, 2, 5:] = True, True
    >>> mask_distances(a, b, ["right"])
    array([2.])
    """
    every = zip(masks_a, masks_b, directions, strict=True)
    return np.array([_distance(a, b, direction) for a, b, direction in every], dtype=np.float64)


def _distance(a: Mask, b: Mask, direction: str) -> float:
    if direction in ("below", "above"):
        a, b = a.T, b.T
    if direction in ("left", "above"):
        a, b = a[:, ::-1], b[:, ::-1]
    # With B to the right of A, only A's last and B's first pixel of a row can be nearest.
    rows_a, rows_b = np.flatnonzero(a.any(axis=1)), np.flatnonzero(b.any(axis=1))
    if not (rows_a.size and rows_b.size):
        return float("nan")
    last = a.shape[1] - 1 - a[rows_a, ::-1].argmax(axis=1)
    first = b[rows_b].argmax(axis=1)
    across = np.maximum(first[None, :] - last[:, None] - 1, 0)
    along = np.maximum(np.abs(rows_b[None, :] - rows_a[:, None]) - 1, 0)
    return float(np.sqrt((across**2 + along**2).min()))
