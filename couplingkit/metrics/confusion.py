"""Predicted and true classes of pixels in, their counts per photo and the mean intersection over union out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PixelCounts", "count_pixels", "mean_iou"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each class, on the labelled part of one photo or of several.

    Attributes:
        intersection: int64 (..., K), of the class and predicted as it.
        predicted: (..., K), predicted as it.
        labelled: (..., K), of the class.
    """

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    labelled: NDArray[np.int64]


def count_pixels(predicted: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> PixelCounts:
    """Count the pixels of one photo.

    Args:
        predicted: (H, W), in [0, classes).
        labels: (H, W), the same, or below 0 where a pixel does not count.
        classes: how many there are.

    >>> counts = count_pixels(np.array([[0, 1, 1]]), np.array([[0, 0, -1]]), 2)
    >>> counts.intersection.tolist(), counts.predicted.tolist(), counts.labelled.tolist()
    ([1, 0], [1, 1], [2, 0])
    """
    counted = labels >= 0
    ours, true = predicted[counted].astype(np.int64), labels[counted].astype(np.int64)
    return PixelCounts(
        np.bincount(true[ours == true], minlength=classes),
        np.bincount(ours, minlength=classes),
        np.bincount(true, minlength=classes),
    )


def mean_iou(intersection: Array, predicted: Array, labelled: Array) -> Array:
    """Return the mean over the classes of intersection over union: (...,), in [0, 1].

    Args:
        intersection: (..., K), summed over photos.
        predicted: (..., K).
        labelled: (..., K); a class that no photo is labelled with is no class of the mean, whatever is predicted.

    Returns:
        NaN where nothing is labelled.

    >>> mean_iou(np.array([2.0, 1.0, 0.0]), np.array([3.0, 1.0, 1.0]), np.array([3.0, 2.0, 0.0])).tolist()
    0.5
    """
    present = labelled > 0
    union = predicted + labelled - intersection
    shares = np.divide(intersection, union, out=np.zeros(np.shape(union)), where=present)
    count = present.sum(axis=-1)
    total: Array = np.divide(shares.sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return total
