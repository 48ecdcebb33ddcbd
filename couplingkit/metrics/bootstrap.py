"""Rows that share source photos in, intervals that know of the sharing out.

Two probes that show objects of one photo are not independent. The pigeonhole bootstrap (Owen 2007) resamples photos
and weighs a probe by the product of its photos' weights. That gives the shape of the interval, but as soon as photos
are used only a few times it is far too wide (it covers 99.8 % where 95 % is asked), because the variance of a single
probe is counted once for each of its photos and once for their product. So the width is set by the dyadic-robust
variance (Fafchamps & Gubert 2007; Cameron & Miller 2014), which sums the covariances of just those pairs of probes
that share a photo. `tests/test_coverage.py` holds the coverage of the two together to 93-98 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..streams import Stream

__all__ = ["FEWEST_IMAGES", "Estimate", "intervals", "mean_and_p", "sharing_variance"]

Array = NDArray[np.float64]
# Below this many photos there is nothing to resample: an interval would look narrow and mean nothing.
FEWEST_IMAGES = 10
CHUNK = 200


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; the bounds are NaN where there are too few source photos for one."""

    value: float
    low: float
    high: float


def intervals(
    columns: Array,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    median_of: int | None = None,
    ratios: tuple[tuple[int, int], ...] = (),
) -> list[Estimate]:
    """Return an interval for the mean of each column, then for the median of one, then for ratios of means.

    Args:
        columns: float64 (N, M), one row per probe, finite.
        images: int64 (N, K), the photos each probe was made of, different within a row.
        stream: of the resampling.
        level: of the intervals, in (0, 1).
        resamples: how many.
        median_of: a column whose median is estimated too.
        ratios: pairs of columns (i, j) whose mean(i) / mean(j) is estimated.

    Returns:
        M estimates of means, then the median's if asked for, then one per ratio.
    """
    values, deviations = _deviations(columns, images, stream, level, resamples, median_of, ratios)
    if deviations is None:
        return [Estimate(float(value), np.nan, np.nan) for value in values]
    tails = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Estimate(float(value), float(value + low), float(value + high))
        for value, low, high in zip(values, *tails, strict=True)
    ]


def mean_and_p(
    column: Array, images: NDArray[np.int64], stream: Stream, *, level: float = 0.95, resamples: int = 2000
) -> tuple[Estimate, float]:
    """Return an interval for the mean of a column, and the two-sided p-value of its being 0.

    The p-value is the share of resamples that deviate at least as far from the mean as 0 does; it is at least
    1 / (1 + resamples), and NaN where there are too few photos. Arguments as in `intervals`; `column` is float64 (N,).
    """
    values, deviations = _deviations(column[:, None], images, stream, level, resamples, None, ())
    if deviations is None:
        return Estimate(float(values[0]), np.nan, np.nan), np.nan
    low, high = np.quantile(deviations[:, 0], [(1 - level) / 2, (1 + level) / 2])
    further = int((np.abs(deviations[:, 0]) >= abs(values[0])).sum())
    return Estimate(float(values[0]), float(values[0] + low), float(values[0] + high)), (1 + further) / (
        1 + len(deviations)
    )


def _deviations(
    columns: Array,
    images: NDArray[np.int64],
    stream: Stream,
    level: float,
    resamples: int,
    median_of: int | None,
    ratios: tuple[tuple[int, int], ...],
) -> tuple[Array, Array | None]:
    """Return the statistics, and how far each resample lies from them (resamples, statistics); None: few photos."""
    means = columns.mean(axis=0)
    values = [*means]
    influence = [*(columns - means).T]
    if median_of is not None:
        values.append(np.median(columns[:, median_of]))
        influence.append(np.sign(columns[:, median_of] - values[-1]))
    for top, bottom in ratios:
        values.append(means[top] / means[bottom])
        influence.append(columns[:, top] - values[-1] * columns[:, bottom])
    found = np.array(values, dtype=np.float64)
    if len(np.unique(images)) < FEWEST_IMAGES:
        return found, None
    psi = np.column_stack(influence)
    draws, linear = _resample(columns, psi, images, stream, resamples, median_of, ratios)
    return found, (draws - found) * _width_factor(psi, linear, images, level)


def sharing_variance(psi: Array, images: NDArray[np.int64]) -> Array:
    """Return (1/N^2) * the sum of psi_p psi_q over all pairs of probes that share a photo, each with itself too.

    By inclusion and exclusion over the sets of photos that two probes may have in common, so in O(N).

    Args:
        psi: float64 (N, M), with mean 0.
        images: int64 (N, K), different within a row.

    Returns:
        float64 (M,).
    """
    count, width = images.shape
    ordered = np.sort(images, axis=1)
    total = np.zeros(psi.shape[1])
    for size in range(1, width + 1):
        chosen = list(combinations(range(width), size))
        keys = np.concatenate([ordered[:, columns] for columns in chosen])
        _, group = np.unique(keys, axis=0, return_inverse=True)
        repeated = np.tile(psi, (len(chosen), 1))
        sums = np.column_stack([np.bincount(group.ravel(), weights=column) for column in repeated.T])
        total += (-1) ** (size + 1) * (sums**2).sum(axis=0)
    variance: Array = total / count**2
    return variance


def _width_factor(psi: Array, linear: Array, images: NDArray[np.int64], level: float) -> Array:
    """Return by how much the bootstrap's deviations are to be stretched (mostly: shrunk), per statistic."""
    count = len(psi)
    # A pair of probes shares a photo with this probability; the residuals' variance is short by the same share.
    shared = float(sharing_variance(np.ones((count, 1)), images)[0])
    independent = (psi**2).sum(axis=0) / count**2
    robust = np.maximum(sharing_variance(psi, images) / max(1 - shared, 0.5), independent)
    bootstrap = linear.var(axis=0)
    uses = np.bincount(np.unique(images, return_inverse=True)[1].ravel())
    effective_images = uses.sum() ** 2 / (uses**2).sum()
    tail = (1 + level) / 2
    student = stats.t.ppf(tail, max(effective_images - 1, 1)) / stats.norm.ppf(tail)
    # A constant column has no variance on either side; its interval is a point.
    ratio = np.divide(robust, bootstrap, out=np.zeros_like(robust), where=bootstrap > 0)
    factor: Array = np.sqrt(ratio) * student
    return factor


def _resample(
    columns: Array,
    psi: Array,
    images: NDArray[np.int64],
    stream: Stream,
    resamples: int,
    median_of: int | None,
    ratios: tuple[tuple[int, int], ...],
) -> tuple[Array, Array]:
    """Return the resampled statistics and the resampled means of their influence, each (resamples, statistics)."""
    order = None if median_of is None else np.argsort(columns[:, median_of], kind="stable")
    every = np.hstack([columns, psi])
    draws, linear = [], []
    for weights in _pigeonhole_weights(images, stream, resamples):
        averages = weights @ every / weights.sum(axis=1, keepdims=True)
        means = averages[:, : columns.shape[1]]
        statistics = [means]
        if order is not None and median_of is not None:
            statistics.append(_weighted_medians(columns[order, median_of], weights[:, order])[:, None])
        statistics += [means[:, [top]] / means[:, [bottom]] for top, bottom in ratios]
        draws.append(np.hstack(statistics))
        linear.append(averages[:, columns.shape[1] :])
    return np.concatenate(draws), np.concatenate(linear)


def _pigeonhole_weights(images: NDArray[np.int64], stream: Stream, resamples: int) -> Iterator[Array]:
    """Yield weights (up to CHUNK resamples, N): the product of how often each photo of a probe was drawn."""
    names, index = np.unique(images, return_inverse=True)
    index = index.reshape(images.shape)
    generator = stream.generator()
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(len(names), size=(rows, len(names))) + np.arange(rows)[:, None] * len(names)
        counts = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, len(names)).astype(np.float64)
        weights = counts[:, index[:, 0]]
        for column in range(1, images.shape[1]):
            weights *= counts[:, index[:, column]]
        # A draw that leaves no probe at all says nothing.
        yield weights[weights.any(axis=1)]


def _weighted_medians(ordered: Array, weights: Array) -> Array:
    """Return the median of `ordered` (N, ascending) under each row of weights (R, N)."""
    cumulated = np.cumsum(weights, axis=1)
    half = cumulated[:, -1:] / 2
    low = (cumulated >= half).argmax(axis=1)
    high = (cumulated > half).argmax(axis=1)
    medians: Array = (ordered[low] + ordered[high]) / 2
    return medians
