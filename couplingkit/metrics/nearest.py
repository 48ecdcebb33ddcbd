"""Masks of one photo in, how far they are from each other out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

__all__ = ["mask_gaps"]


def mask_gaps(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Return the least distance of the pixels' centres of any two masks, px: 1 where they touch, 0 where they overlap.

    Args:
        masks: bool (H, W) each, none empty.

    Returns:
        float64 (N, N), infinite on the diagonal.

    >>> left, right = np.zeros((4, 9), dtype=bool), np.zeros((4, 9), dtype=bool)
    >>> left[:, :2], right[:, 5:] = True, True
    >>> float(mask_gaps([left, right])[0, 1])
    4.0
    """
    gaps = np.full((len(masks), len(masks)), np.inf)
    edges = [np.argwhere(mask & ~binary_erosion(mask)) for mask in masks]
    trees = [cKDTree(edge) for edge in edges]
    for first in range(len(masks)):
        for second in range(first + 1, len(masks)):
            touching = bool((masks[first] & masks[second]).any())
            gap = 0.0 if touching else float(np.min(trees[second].query(edges[first])[0]))
            gaps[first, second] = gaps[second, first] = gap
    return gaps
