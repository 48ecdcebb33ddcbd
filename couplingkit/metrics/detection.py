"""Detections and the objects of photos in, which detection found which object, and average precision out.

Two rules are known. COCO's (Lin et al., 2014; as pycocotools has it): a detection takes the best object that is still
free, what lies outside a range of areas is left out, precision is read at 101 recalls. VOC's (Everingham et al., 2010):
a detection means the object that it overlaps most, free or not; precision is read at 11 recalls (2007), or its area is
taken (2010). Photos can be weighted, so that a bootstrap draws photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["IOUS", "SIZES", "Interpolation", "Matches", "average_precisions", "coco_matches", "mean_ap", "voc_matches"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Interpolation = Literal["101 points", "11 points", "area"]

# Of a detection with an object, from which on it counts.
IOUS: Array = np.linspace(0.5, 0.95, 10)
RECALLS: Mapping[str, Array] = {"101 points": np.linspace(0, 1, 101), "11 points": np.arange(0, 1.1, 0.1)}
# Areas of objects in px of their photo, both ends inclusive, as COCO has them.
SIZES: Mapping[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
TINY = np.spacing(1)


@dataclass(frozen=True)
class Matches:
    """Detections of all photos, told by what they found, and how many objects there are to be found.

    Attributes:
        photo: int64 (N,), place of the photo.
        category: int64 (N,).
        score: float64 (N,).
        found: bool (N, T), whether a detection found an object, at each threshold.
        left_out: bool (N, T), whether it counts neither as right nor as wrong.
        object_photo, object_category: int64 (M,), of the objects that count.
        photos: how many photos there are.
    """

    photo: NDArray[np.int64]
    category: NDArray[np.int64]
    score: Array
    found: Bools
    left_out: Bools
    object_photo: NDArray[np.int64]
    object_category: NDArray[np.int64]
    photos: int


def coco_matches(overlaps: Array, crowd: Bools, ignored: Bools) -> NDArray[np.int64]:
    """Return which object each detection of one category in one photo finds, -1 for none.

    Args:
        overlaps: float64 (D, G), IoU of detections, best score first, with objects; with a crowd the share of the
            detection that lies in it.
        crowd: bool (G,), objects that any number of detections may find.
        ignored: bool (A, G), objects that do not count, in each range of areas; crowds among them. They are found only
            by what finds no other.

    Returns:
        int64 (A, T, D), places of objects, at the thresholds `IOUS`.

    >>> coco_matches(np.array([[0.9], [0.8]]), np.array([False]), np.array([[False]]))[0, :, 0]
    array([ 0,  0,  0,  0,  0,  0,  0,  0,  0, -1])
    """
    detections, objects = overlaps.shape
    ranges, thresholds = len(ignored), len(IOUS)
    found = np.full((ranges, thresholds, detections), -1)
    free = np.ones((ranges, thresholds, objects), dtype=bool)
    counted = ~ignored[:, None, :]
    lowest = np.minimum(IOUS, 1 - 1e-10)[:, None]
    for place in np.flatnonzero(overlaps.max(axis=1, initial=0) >= lowest[0, 0]):
        row = overlaps[place]
        open_to = (row >= lowest) & (free | crowd)  # (A, T, G)
        for allowed in (open_to & counted, open_to & ~counted):
            range_, threshold = np.nonzero(allowed.any(axis=2) & (found[:, :, place] < 0))
            # The last of equal ones, as in pycocotools.
            best = objects - 1 - np.where(allowed, row, -1.0)[:, :, ::-1].argmax(axis=2)[range_, threshold]
            free[range_, threshold, best] = False
            found[range_, threshold, place] = best
    return found


def voc_matches(overlaps: Array, difficult: Bools) -> tuple[NDArray[np.int64], Bools]:
    """Return the same by VOC's rule, (T, D), and what is left out for it means a difficult object, bool (T, D)."""
    detections, objects = overlaps.shape
    found = np.full((len(IOUS), detections), -1)
    left_out = np.zeros((len(IOUS), detections), dtype=bool)
    taken = np.zeros((len(IOUS), objects), dtype=bool)
    for place in range(detections if objects else 0):
        best = int(overlaps[place].argmax())
        hits = overlaps[place, best] > IOUS
        left_out[:, place] = hits & difficult[best]
        found[hits & ~difficult[best] & ~taken[:, best], place] = best
        taken[:, best] |= hits & ~difficult[best]
    return found, left_out


def average_precisions(matches: Matches, weights: Array, *, interpolation: Interpolation) -> Array:
    """Return the average precision of each category at each threshold, (R, K, T), under weights of photos (R, P).

    NaN where no object of a category is there. The scores of detections decide their order, ties that of the photos.
    """
    kinds = int(max(matches.category.max(initial=-1), matches.object_category.max(initial=-1))) + 1
    thresholds = matches.found.shape[1] if matches.found.ndim == 2 else len(IOUS)
    result = np.full((len(weights), kinds, thresholds), np.nan)
    order = np.lexsort((matches.photo, -matches.score, matches.category))
    begins = np.searchsorted(matches.category[order], np.arange(kinds + 1))
    for kind in range(kinds):
        there = weights[:, matches.object_photo[matches.object_category == kind]].sum(axis=1)  # (R,)
        if not there.any():
            continue
        rows = order[begins[kind] : begins[kind + 1]]
        share = weights[:, matches.photo[rows]]  # (R, n)
        known = there > 0
        for threshold in range(thresholds):
            found, counts = matches.found[rows, threshold], ~matches.left_out[rows, threshold]
            result[known, kind, threshold] = _interpolated(
                share[known], found & counts, ~found & counts, there[known], interpolation
            )
    return result


def _interpolated(share: Array, right: Bools, wrong: Bools, there: Array, interpolation: Interpolation) -> Array:
    """Return the average precision of one category, (R,), of detections in descending order with weights (R, n)."""
    if not right.any():
        return np.zeros(len(share))
    hits, misses = (np.cumsum(share * which, axis=1)[:, right] for which in (right, wrong))
    recall = hits / there[:, None]
    precision = hits / np.maximum(hits + misses + TINY, TINY)
    # Between two right ones nothing rises; what is never read below is what a later one betters.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if interpolation == "area":
        reached = recall
        most = 1.0
    else:
        points = RECALLS[interpolation]
        reached = np.searchsorted(points, recall, side="right").astype(np.float64)
        most = float(len(points))
    gained = np.diff(reached, axis=1, prepend=0.0)
    return np.asarray((gained * best).sum(axis=1) / most)


def mean_ap(each: Array) -> Array:
    """Return the mean of average precisions (R, K, T) over categories that are there and thresholds: (R,)."""
    known = ~np.isnan(each)
    count = known.sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, each, 0.0).sum(axis=(1, 2)) / np.where(count, count, np.nan))
