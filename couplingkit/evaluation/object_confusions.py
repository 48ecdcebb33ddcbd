"""Predicted pixels and objects of a photo in, what each object's pixels were taken for out: coupling in predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.semantic import LabelledObject
from ..metrics.nearest import mask_gaps

__all__ = ["NO_NEIGHBOUR", "Neighbours", "object_shares", "photo_neighbours"]

NO_NEIGHBOUR = -1


@dataclass(frozen=True)
class Neighbours:
    """The objects of one photo, and the nearest object of another class of each.

    Attributes:
        objects: those with a labelled pixel of their own.
        visible: int64 (N,), their pixels that are labelled as theirs.
        nearest: int64 (N,), place of the nearest object of another class; -1 where there is none.
        gap_px: float64 (N,), how far it is.
    """

    objects: tuple[LabelledObject, ...]
    visible: NDArray[np.int64]
    nearest: NDArray[np.int64]
    gap_px: NDArray[np.float64]


def photo_neighbours(objects: Sequence[LabelledObject], labels: NDArray[np.int16]) -> Neighbours:
    """Return the objects of a photo with their neighbours; those that others hide wholly are left out."""
    visible = np.array([int((one.mask & (labels == one.label)).sum()) for one in objects], dtype=np.int64)
    kept = tuple(one for one, pixels in zip(objects, visible, strict=True) if pixels)
    nearest = np.full(len(kept), NO_NEIGHBOUR, dtype=np.int64)
    gaps = np.full(len(kept), np.nan)
    kinds = np.array([one.label for one in kept])
    if len(set(kinds.tolist())) > 1:
        between = mask_gaps([one.mask for one in kept])
        for place, kind in enumerate(kinds):
            others = np.where(kinds == kind, np.inf, between[place])
            if np.isfinite(others).any():
                nearest[place] = int(others.argmin())
                gaps[place] = others.min()
    return Neighbours(kept, visible[visible > 0], nearest, gaps)


def object_shares(
    predicted: NDArray[np.integer], labels: NDArray[np.int16], found: Neighbours, classes: int
) -> NDArray[np.float32]:
    """Return which share of each object's own pixels is taken for each class: float32 (N, K), rows sum to 1."""
    shares = np.zeros((len(found.objects), classes), dtype=np.float32)
    for row, one in enumerate(found.objects):
        own = predicted[one.mask & (labels == one.label)]
        shares[row] = np.bincount(own, minlength=classes) / len(own)
    return shares
