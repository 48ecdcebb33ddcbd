"""Affinity maps and masks in, scores of how well the maps tell the queried object from everything else out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ArgumentError
from ..streams import Stream
from .bootstrap import Estimate, Statistic, intervals

__all__ = [
    "SCORES",
    "inner_point",
    "leak_scores",
    "nearest_mask",
    "pixel_scores",
    "ranking_scores",
    "region_scores",
    "summarize_scores",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Features are float32, and maps are interpolated: what lies closer together is equal but for rounding.
DECIMALS = 6

SCORES = {
    "auroc_px": "AUROC of affinity as a detector of the object's pixels, 0.5 by chance",
    "ap_px": "average precision of the same; by chance the object's share of the photo",
    "auroc_cells": "AUROC at feature resolution (a cell is the object's where the mask covers half of it)",
    "ap_cells": "average precision at feature resolution",
    "contrast": "mean affinity inside the object minus outside",
    "leak": "mean affinity on the nearest other object minus on the background",
    "leak_unlike": "leak where the nearest other object is of another category",
}


def ranking_scores(affinity: Array, positive: Mask) -> tuple[float, float]:
    """Return AUROC and average precision of a detector.

    Equal scores count as one threshold, so that their order cannot matter: a constant map has an AUROC of 0.5 and the
    share of positives as its average precision. Scores that differ by less than 1e-6 are equal but for rounding.

    Args:
        affinity: (N,), higher means more likely positive.
        positive: bool (N,).

    Raises:
        ArgumentError: all are positive or none is, or an affinity is NaN.

    >>> ranking_scores(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    (0.875, 0.8333333333333333)
    """
    hits = int(positive.sum())
    if not 0 < hits < len(positive):
        raise ArgumentError(f"positive must hold both kinds, but {hits} of {len(positive)} are; there is no ranking.")
    if np.isnan(affinity).any():
        raise ArgumentError("affinity must not hold NaN; leave out the places where it is undefined.")
    rounded = np.round(affinity, DECIMALS)
    order = np.argsort(rounded)[::-1]
    ranked = rounded[order]
    last_of_ties = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(positive[order])[last_of_ties].astype(np.float64)
    wrong = last_of_ties + 1 - found
    recall, false_rate = (np.append(0.0, counts / counts[-1]) for counts in (found, wrong))
    auroc = float(np.trapezoid(recall, false_rate))
    precision = found / (last_of_ties + 1)
    return auroc, float((np.diff(recall) * precision).sum())


def pixel_scores(affinity: Array, mask: Mask) -> dict[str, float]:
    """Return `auroc_px` and `ap_px` of a map (H, W) at the photo's resolution, upsampled before."""
    auroc, precision = ranking_scores(affinity.ravel(), mask.ravel())
    return {"auroc_px": auroc, "ap_px": precision}


def region_scores(affinity: Array, inside: Array, photo: Array) -> dict[str, float]:
    """Return `auroc_cells`, `ap_cells`, `inside`, `outside` and `contrast` at feature resolution.

    Args:
        affinity: (h, w).
        inside: (h, w), share of each cell that the object's mask covers.
        photo: (h, w), share of each cell that the photo covers; less than 1 where the photo stands in a padded input.

    Raises:
        ArgumentError: no cell is half covered, or every one.
    """
    counted = photo >= 0.5
    auroc, precision = ranking_scores(affinity[counted], inside[counted] >= 0.5)
    within = _mean(affinity, inside)
    without = _mean(affinity, np.maximum(photo - inside, 0))
    return {
        "auroc_cells": auroc,
        "ap_cells": precision,
        "inside": within,
        "outside": without,
        "contrast": within - without,
    }


def leak_scores(affinity: Array, inside: Array, other: Array, background: Array) -> dict[str, float]:
    """Return `other`, `background` and their difference `leak`: affinity on the nearest other object and on nothing.

    Args:
        affinity: (h, w).
        inside: (h, w), share of each cell that the queried object covers; cells that hold any of it count for nothing.
        other: (h, w), share of each cell that the nearest other object covers.
        background: (h, w), share of each cell that belongs to no object.

    Returns:
        NaN where less than one cell is left of the other object or of the background.
    """
    apart = inside == 0
    levels = [
        _mean(affinity, region * apart) if (region * apart).sum() >= 1 else float("nan")
        for region in (other, background)
    ]
    return {"other": levels[0], "background": levels[1], "leak": levels[0] - levels[1]}


def _mean(affinity: Array, weights: Array) -> float:
    # Cells of no weight may be undefined.
    return float((np.where(weights > 0, affinity, 0) * weights).sum() / weights.sum())


def inner_point(mask: Mask) -> tuple[int, int]:
    """Return (x, y) of the pixel deepest inside a mask: where a person would click; the first of equals.

    >>> inner_point(np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]], dtype=bool))
    (1, 1)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    depth = ndimage.distance_transform_edt(np.pad(tight, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), tight.shape)
    return int(columns[0] + x), int(rows[0] + y)


def nearest_mask(mask: Mask, others: Sequence[Mask]) -> tuple[int, float] | None:
    """Return the place of the nearest other mask and its distance in px (1: they touch); None without others."""
    if not any(other.any() for other in others):
        return None
    distance = ndimage.distance_transform_edt(~mask)
    reach = [float(distance[other].min()) if other.any() else float("inf") for other in others]
    place = int(np.argmin(reach))
    return place, reach[place]


def summarize_scores(
    columns: Mapping[str, Array], images: NDArray[np.int64], stream: Stream, *, level: float = 0.95
) -> dict[str, Estimate]:
    """Return the mean of each score with a bootstrap interval over source photos.

    Args:
        columns: score -> (N,), NaN where it is not defined.
        images: int64 (N,), photo of each row.
        stream: of the bootstrap.
        level: of the intervals.

    Returns:
        An estimate per score; all NaN where no row defines it, without bounds where there are too few photos.
    """
    found = {}
    for name, values in columns.items():
        kept = ~np.isnan(values)
        nothing = Estimate(float("nan"), float("nan"), float("nan"))
        found[name] = (
            intervals([Statistic(values[kept])], images[kept, None], stream.child(name), level=level)[0]
            if kept.any()
            else nothing
        )
    return found
