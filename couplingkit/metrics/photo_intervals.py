"""A score that is a function of weighted photos in, the score with its interval out: mIoU, AP and their differences.

Such scores are no means of rows, so that their interval comes from weighing photos anew. The draws of a bootstrap lie
lower or higher than the score itself where the score is not linear in the photos; they are centred on their own mean.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from ..streams import Stream
from .bootstrap import FEWEST_FOR_P, FEWEST_IMAGES, Estimate

__all__ = ["ScoreOf", "photo_draws", "photo_intervals", "photo_p_value"]

Array = NDArray[np.float64]
# Weights of photos (R, photos) in, scores (R, S) out.
ScoreOf = Callable[[Array], Array]
CHUNK = 200


def photo_draws(
    score: ScoreOf, photos: int, stream: Stream, *, level: float = 0.95, resamples: int = 2000
) -> tuple[Array, Array | None]:
    """Return the scores (S,), and how far resampled ones lie from their mean, (R, S); None: there are too few photos.

    Args:
        score: of weights of the photos; NaN where a draw leaves nothing to score.
        photos: how many there are.
        stream: of the resampling; the same for scores that are compared.
        level: of the intervals that it is for: their width follows Student's t.
        resamples: how many.
    """
    values = score(np.ones((1, photos)))[0]
    if photos < FEWEST_IMAGES:
        return values, None
    generator = stream.generator()
    draws = []
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(photos, size=(rows, photos)) + np.arange(rows)[:, None] * photos
        weights = np.bincount(drawn.ravel(), minlength=rows * photos).reshape(rows, photos)
        draws.append(score(weights.astype(np.float64)))
    every = np.concatenate(draws)
    tail = (1 + level) / 2
    wider = stdtrit(photos - 1, tail) / ndtri(tail) * np.sqrt(photos / (photos - 1))
    return values, (every - np.nanmean(every, axis=0)) * wider


def photo_intervals(
    score: ScoreOf, photos: int, stream: Stream, *, level: float = 0.95, resamples: int = 2000
) -> list[Estimate]:
    """Return each score with its interval; arguments as in `photo_draws`.

    >>> shares = np.arange(20.0) / 20
    >>> (found,) = photo_intervals(lambda w: (w @ shares / w.sum(axis=1))[:, None], 20, Stream(0))
    >>> round(found.value, 3), round(found.low, 1), round(found.high, 1)
    (0.475, 0.3, 0.6)
    """
    values, deviations = photo_draws(score, photos, stream, level=level, resamples=resamples)
    if deviations is None:
        return [Estimate(float(value), np.nan, np.nan) for value in values]
    low, high = np.nanquantile(deviations, [(1 - level) / 2, (1 + level) / 2], axis=0)
    ends = zip(values, np.minimum(low, 0), np.maximum(high, 0), strict=True)
    return [Estimate(float(value), float(value + below), float(value + above)) for value, below, above in ends]


def photo_p_value(value: float, deviations: Array | None, photos: int) -> float:
    """Return the two-sided p-value of a score's being 0; NaN where there are fewer than 30 photos.

    Args:
        value: of the score.
        deviations: of `photo_draws`, (R,).
        photos: how many there are.
    """
    if deviations is None or photos < FEWEST_FOR_P:
        return float("nan")
    known = deviations[~np.isnan(deviations)]
    return float((1 + (np.abs(known) >= abs(value)).sum()) / (1 + len(known)))
