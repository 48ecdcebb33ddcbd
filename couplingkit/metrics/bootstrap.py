"""Rows that share source photos in, intervals that know of the sharing out.

Two probes that show objects of one photo are not independent. The pigeonhole bootstrap (Owen 2007) resamples photos
and weighs a probe by the product of its photos' weights. That gives the shape of the interval, but as soon as photos
are used only a few times it is far too wide (it covers 99.8 % where 95 % is asked), because the variance of a single
probe is counted once for each of its photos and once for their product. So the width is set by the dyadic-robust
variance (Fafchamps & Gubert 2007; Cameron & Miller 2014), which sums the covariances of just those pairs of probes
that share a photo. `tests/test_coverage.py` holds the coverage of the two together to 93-98 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from ..streams import Stream

__all__ = [
    "FEWEST_FOR_P",
    "FEWEST_IMAGES",
    "Estimate",
    "Statistic",
    "interval_and_p",
    "intervals",
    "mean_statistic",
    "sharing_variance",
]

Array = NDArray[np.float64]
# Below this many photos there is nothing to resample: an interval would look narrow and mean nothing.
FEWEST_IMAGES = 10
# Below this many a test rejects what is true too often.
FEWEST_FOR_P = 30
CHUNK = 200


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; the bounds are NaN where there are too few source photos for one."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        """Return the value with its interval, three places behind the point.

        >>> Estimate(-0.0001, 0.25, 0.5).text()
        '0.000 [0.250, 0.500]'
        """
        bounds = "" if self.low != self.low else f" [{self.low:z.3f}, {self.high:z.3f}]"
        return f"{self.value:z.3f}{bounds}"


@dataclass(frozen=True)
class Statistic:
    """A number that is made of columns of rows: a mean, a ratio of means, a median, or the difference of two such.

    Attributes:
        top: float64 (N,), finite.
        bottom: (N,); the statistic is mean(top) / mean(bottom). None stands for 1.
        median: whether it is the median of `top` instead.
        minus: another statistic of the same rows that is subtracted.
        plus: another one that is added.
        factor: of the whole.
    """

    top: Array
    bottom: Array | None = None
    median: bool = False
    minus: Statistic | None = None
    plus: Statistic | None = None
    factor: float = 1.0

    def columns(self) -> list[Array]:
        """Return the columns that it is a function of, each (N,)."""
        own = [self.top] if self.bottom is None else [self.top, self.bottom]
        return own + [column for part, _ in self._others() for column in part.columns()]

    def _others(self) -> list[tuple[Statistic, int]]:
        every = ((self.minus, -1), (self.plus, 1))
        return [(part, sign) for part, sign in every if part is not None]

    def of_means(self, means: Array) -> Array:
        """Return its value, (...), for (weighted) means of its columns, (..., columns); not of a median."""
        at = 1 if self.bottom is None else 2
        total: Array = means[..., 0] if self.bottom is None else means[..., 0] / means[..., 1]
        for part, sign in self._others():
            width = len(part.columns())
            total = total + sign * part.of_means(means[..., at : at + width])
            at += width
        return self.factor * total

    def value(self) -> float:
        """Return its value for the rows as they are."""
        if self.median:
            return float(np.median(self.top))
        return float(self.of_means(np.array([column.mean() for column in self.columns()])))

    def influence(self) -> Array:
        """Return how much each row moves it, (N,), but for a constant factor; the mean over the rows is 0."""
        if self.median:
            sign_of: Array = np.sign(self.top - np.median(self.top))
            return sign_of
        own: Array
        if self.bottom is None:
            own = self.top - self.top.mean()
        else:
            below = self.bottom.mean()
            own = (self.top - self.top.mean() / below * self.bottom) / below
        for part, sign in self._others():
            own = own + sign * part.influence()
        return self.factor * own


def mean_statistic(parts: Sequence[Statistic]) -> Statistic:
    """Return the mean of several statistics of the same rows, as a statistic of them; of none that is a median."""
    total: Statistic | None = None
    for part in parts:
        total = part if total is None else replace(part, plus=total)
    assert total is not None
    return replace(total, factor=1 / len(parts))


def intervals(
    statistics: Sequence[Statistic],
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> list[Estimate]:
    """Return each statistic with its interval.

    Args:
        statistics: of N rows, one row per probe.
        images: int64 (N, K), the photos each probe was made of, different within a row.
        stream: of the resampling.
        level: of the intervals, in (0, 1).
        resamples: how many.
    """
    values, deviations = _deviations(statistics, images, stream, level, resamples)
    if deviations is None:
        return [Estimate(float(value), np.nan, np.nan) for value in values]
    # Of a skewed statistic both quantiles may lie on one side; its value is always in its interval.
    low, high = np.quantile(deviations, [(1 - level) / 2, (1 + level) / 2], axis=0)
    tails = np.minimum(low, 0), np.maximum(high, 0)
    return [
        Estimate(float(value), float(value + low), float(value + high))
        for value, low, high in zip(values, *tails, strict=True)
    ]


def interval_and_p(
    statistic: Statistic,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[Estimate, float]:
    """Return a statistic with its interval, and the two-sided p-value of its being 0; arguments as in `intervals`.

    The p-value is the share of resamples that deviate at least as far from the value as 0 does; it is at least
    1 / (1 + resamples), and NaN where there are fewer than `FEWEST_FOR_P` photos.
    """
    values, deviations = _deviations([statistic], images, stream, level, resamples)
    if deviations is None:
        return Estimate(float(values[0]), np.nan, np.nan), np.nan
    low, high = np.quantile(deviations[:, 0], [(1 - level) / 2, (1 + level) / 2])
    low, high = min(low, 0), max(high, 0)
    further = int((np.abs(deviations[:, 0]) >= abs(values[0])).sum())
    estimate = Estimate(float(values[0]), float(values[0] + low), float(values[0] + high))
    if len(np.unique(images)) < FEWEST_FOR_P:
        return estimate, np.nan
    return estimate, (1 + further) / (1 + len(deviations))


def _deviations(
    statistics: Sequence[Statistic], images: NDArray[np.int64], stream: Stream, level: float, resamples: int
) -> tuple[Array, Array | None]:
    """Return the statistics, and how far each resample lies from them (resamples, statistics); None: few photos."""
    values = np.array([statistic.value() for statistic in statistics], dtype=np.float64)
    if len(np.unique(images)) < FEWEST_IMAGES:
        return values, None
    psi = np.column_stack([statistic.influence() for statistic in statistics])  # (N, statistics)
    draws, linear = _resample(statistics, psi, images, stream, resamples)
    return values, (draws - values) * _width_factor(psi, linear, images, level)


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
    # A row has an effect of each of its photos, and there are that many times as many to be estimated.
    freedom = max(effective_images / images.shape[1] - 1, 1)
    student = stdtrit(freedom, tail) / ndtri(tail)
    # A constant column has no variance on either side; its interval is a point.
    ratio = np.divide(robust, bootstrap, out=np.zeros_like(robust), where=bootstrap > 0)
    factor: Array = np.sqrt(ratio) * student
    return factor


def _resample(
    statistics: Sequence[Statistic], psi: Array, images: NDArray[np.int64], stream: Stream, resamples: int
) -> tuple[Array, Array]:
    """Return the resampled statistics and the resampled means of their influence, each (resamples, statistics)."""
    parts = [[] if statistic.median else statistic.columns() for statistic in statistics]
    ends = np.cumsum([0, *(len(part) for part in parts)])
    # One product for all columns of all statistics: (resamples, N) @ (N, columns + statistics).
    every = np.column_stack([*(column for part in parts for column in part), psi])
    orders = [np.argsort(statistic.top, kind="stable") if statistic.median else None for statistic in statistics]
    draws, linear = [], []
    for weights in _pigeonhole_weights(images, stream, resamples):
        means = weights @ every / weights.sum(axis=1, keepdims=True)
        resampled = [
            statistic.of_means(means[:, begin:end])
            if order is None
            else _weighted_medians(statistic.top[order], weights[:, order])
            for statistic, order, begin, end in zip(statistics, orders, ends[:-1], ends[1:], strict=True)
        ]
        draws.append(np.column_stack(resampled))
        linear.append(means[:, ends[-1] :])
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
