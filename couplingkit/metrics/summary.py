"""Columns of rows in, the published numbers with their intervals out; paired differences between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, check_range
from ..streams import Stream
from .bootstrap import Estimate, Statistic, interval_and_p, intervals
from .coupling import CouplingRates
from .quantities import CLIPPED_LIMIT, QUANTITIES, Columns, Quantity

__all__ = ["RateSummary", "paired_difference", "paired_quantity", "summarize"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RateSummary:
    """The numbers of one model.

    Attributes:
        estimates: name of a quantity (see `metrics.quantities`) -> value and interval; those of the control are missing
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
        # Only quantities: a record that is being copied has no `estimates` yet.
        if name in QUANTITIES and name in self.estimates:
            return self.estimates[name].value
        raise AttributeError(f"no quantity {name!r} here; there are {', '.join(QUANTITIES)}.")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.estimates]

    def marks(self, name: str) -> tuple[str, ...]:
        """Return why a quantity is no measurement here; nothing where it is one."""
        if name == "cr_mean" and self.estimates["clipped_denominator"].value > CLIPPED_LIMIT:
            return (f"over {CLIPPED_LIMIT:.0%} of the denominators are clipped",)
        return ()


def summarize(
    rates: CouplingRates | Columns,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    cr_control: Array | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> RateSummary:
    """Return every quantity of the table for a model's rates, with a bootstrap interval over source photos.

    Args:
        rates: one row per probe, NaN where it could not be measured; or the same as columns.
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
    given = vars(rates) if isinstance(rates, CouplingRates) else dict(rates)
    if cr_control is not None:
        given = {**given, "cr_control": cr_control}
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in given.items()}
    kept = ~np.isnan(columns["cr"])
    if not kept.any():
        raise ArgumentError("rates hold no measured probe; there is nothing to summarize.")
    pair = images[kept, :2]
    how: dict[str, Any] = {"level": level, "resamples": int(resamples)}
    plain = [quantity for quantity in QUANTITIES.values() if not quantity.control]
    found = _estimates(plain, columns, kept, pair, stream, **how)
    if "cr_control" in columns:
        controlled = [quantity for quantity in QUANTITIES.values() if quantity.control]
        # C's photo is a third thing that such probes share, but does not make up for too few of A's and B's.
        parts = _estimates(controlled, columns, kept, images[kept], stream.child("control"), **how)
        if np.isnan(found["cr_mean"].low):
            parts = {name: Estimate(part.value, np.nan, np.nan) for name, part in parts.items()}
        found |= parts
    ordered = {name: found[name] for name in QUANTITIES if name in found}
    return RateSummary(ordered, len(kept), int(kept.sum()), len(np.unique(pair)), level)


def _estimates(
    quantities: list[Quantity],
    columns: Columns,
    kept: NDArray[np.bool_],
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float,
    resamples: int,
) -> dict[str, Estimate]:
    statistics = [quantity.statistic(columns, kept) for quantity in quantities]
    estimates = intervals(statistics, images, stream, level=level, resamples=resamples)
    return {
        quantity.name: Estimate(*np.exp(list(vars(estimate).values())).tolist())
        if quantity.average == "geometric"
        else estimate
        for quantity, estimate in zip(quantities, estimates, strict=True)
    }


def paired_quantity(
    quantity: Quantity,
    first: Columns,
    second: Columns,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    level: float = 0.95,
    among: NDArray[np.bool_] | None = None,
) -> tuple[Estimate, float, int] | None:
    """Return a quantity of one model minus that of another over the probes that both measured.

    Of a geometric mean, the difference of the logarithms.

    Args:
        quantity: of the table.
        first: columns of one model's rows.
        second: columns of the other's, of the same probes in the same order.
        images: int64 (N, K), the photos of each probe.
        stream: of the bootstrap.
        level: of the interval.
        among: bool (N,), the probes that count; all by default.

    Returns:
        The estimate, its p-value and the number of probes; None where both measured none.
    """
    values = [quantity.value(columns) for columns in (first, second)]
    kept = ~(np.isnan(values[0]) | np.isnan(values[1]))
    if among is not None:
        kept &= among
    if not kept.any():
        return None
    one, other = (quantity.statistic(columns, kept) for columns in (first, second))
    if one.bottom is None and not one.median:
        # One column instead of two: the differences themselves.
        difference = Statistic(one.top - other.top)
    else:
        difference = Statistic(one.top, one.bottom, one.median, minus=other)
    shared = images[kept] if quantity.control else images[kept, :2]
    estimate, p = interval_and_p(difference, shared, stream, level=level)
    return estimate, p, int(kept.sum())


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
    difference = Statistic((first - second)[kept])
    (estimate,) = intervals([difference], images[kept, :2], stream, level=level, resamples=resamples)
    return estimate, int(kept.sum())
