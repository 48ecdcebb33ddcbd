"""Rates of many probes in, the published numbers with their intervals out; paired differences between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, check_range
from ..streams import Stream
from .bootstrap import Estimate, intervals
from .coupling import CouplingRates

__all__ = ["CLIPPED_LIMIT", "STATISTICS", "RateSummary", "paired_difference", "summarize"]

Array = NDArray[np.float64]

# Above this share of clipped denominators a mean of ratios is not a measurement.
CLIPPED_LIMIT = 0.05
STATISTICS = {
    "cr_mean": "mean coupling rate, the paper's average",
    "cr_median": "median coupling rate",
    "cr_geomean": "geometric mean of the coupling rates",
    "cr_of_means": "mean numerator / mean denominator",
    "cr_control": "mean coupling rate towards B with another object C in B's place",
    "specificity": "cr_mean - cr_control: what is due to B's content",
    "displacement": "mean angle by which A's feature moved, rad",
    "similarity_true": "mean denominator: similarity of A and B apart, rad",
    "similarity_biased": "mean numerator: similarity of A and B together, rad",
    "clipped_numerator": "share of probes whose numerator is eps",
    "clipped_denominator": "share of probes whose denominator is eps",
}


@dataclass(frozen=True)
class RateSummary:
    """The numbers of one model.

    Attributes:
        estimates: name of a statistic (see `STATISTICS`) -> value and interval; those of the control are missing
            where there was none.
        probes: how many were made.
        measured: how many could be measured.
        source_images: how many photos A and B of the measured ones came from.
        level: of the intervals.
    """

    estimates: Mapping[str, Estimate]
    probes: int
    measured: int
    source_images: int
    level: float

    def __getattr__(self, name: str) -> float:
        # Only statistics: a record that is being copied has no `estimates` yet.
        if name in STATISTICS and name in self.estimates:
            return self.estimates[name].value
        raise AttributeError(f"no statistic {name!r} here; there are {', '.join(STATISTICS)}.")


def summarize(
    rates: CouplingRates,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    cr_control: Array | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> RateSummary:
    """Return the statistics of a model's rates, each with a bootstrap interval over source photos.

    Args:
        rates: one row per probe, NaN where it could not be measured.
        images: int64 (N, 2), photo of A and of B; (N, 3) with C's.
        stream: of the bootstrap.
        cr_control: (N,), the coupling rates with C in B's place.
        level: of the intervals.
        resamples: of the bootstrap.

    Raises:
        ArgumentError: no row is measured.
    """
    check_range("level", level, 0.5, 0.999)
    check_range("resamples", resamples, 100)
    kept = ~np.isnan(rates.cr)
    if not kept.any():
        raise ArgumentError("rates hold no measured probe; there is nothing to summarize.")
    columns = {
        "cr_mean": rates.cr,
        "cr_geomean": np.log(rates.cr),
        "similarity_biased": rates.numerator,
        "similarity_true": rates.denominator,
        "displacement": rates.displacement,
        "clipped_numerator": rates.clipped_numerator.astype(np.float64),
        "clipped_denominator": rates.clipped_denominator.astype(np.float64),
    }
    pair = images[kept, :2]
    found = intervals(
        np.column_stack(list(columns.values()))[kept],
        pair,
        stream,
        level=level,
        resamples=resamples,
        median_of=0,
        ratios=((2, 3),),
    )
    estimates = dict(zip([*columns, "cr_median", "cr_of_means"], found, strict=True))
    log_mean = estimates["cr_geomean"]
    estimates["cr_geomean"] = Estimate(*(float(np.exp(value)) for value in vars(log_mean).values()))
    if cr_control is not None:
        both = np.column_stack([cr_control, rates.cr - cr_control])[kept]
        # C's photo is a third thing that such probes share.
        parts = intervals(both, images[kept], stream.child("control"), level=level, resamples=resamples)
        if np.isnan(log_mean.low):
            # C's photos do not make up for too few of A's and B's.
            parts = [Estimate(part.value, np.nan, np.nan) for part in parts]
        estimates["cr_control"], estimates["specificity"] = parts
    ordered = {name: estimates[name] for name in STATISTICS if name in estimates}
    return RateSummary(ordered, len(kept), int(kept.sum()), len(np.unique(pair)), level)


def paired_difference(
    first: Array,
    second: Array,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> tuple[Estimate, int]:
    """Return the mean of `first - second` over the probes that both models measured, and how many those are.

    Args:
        first: (N,) rates of one model, NaN where not measured.
        second: (N,) rates of the other, of the same probes in the same order.
        images: int64 (N, K), the photos of each probe.
        stream: of the bootstrap.
        level: of the interval.
        resamples: of the bootstrap.

    Raises:
        ArgumentError: the two have different lengths, or no probe in common.
    """
    if first.shape != second.shape:
        raise ArgumentError(
            f"second must have the {first.shape[0]} probes of first, but has {second.shape[0]}; measure both on one "
            "set."
        )
    kept = ~(np.isnan(first) | np.isnan(second))
    if not kept.any():
        raise ArgumentError("first and second have no measured probe in common; there is no difference to give.")
    column = (first - second)[kept, None]
    (estimate,) = intervals(column, images[kept, :2], stream, level=level, resamples=resamples)
    return estimate, int(kept.sum())
