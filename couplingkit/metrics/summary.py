"""Columns of rows in, the published numbers with their intervals out; paired differences between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, check_range
from ..html_text import table_html
from ..streams import Stream
from .bootstrap import FEWEST_FOR_P, FEWEST_IMAGES, Estimate, Statistic, interval_and_p, intervals
from .coupling import SEEN, CouplingRates, derived_columns
from .doubts import doubts_of_mean, doubts_of_ratio
from .quantities import QUANTITIES, Columns, Quantity

__all__ = ["RESOLUTION_RAD", "PairedQuantity", "RateSummary", "paired_difference", "paired_quantity", "summarize"]

Array = NDArray[np.float64]
# To what angles between float32 features are known.
RESOLUTION_RAD = 1e-6


@dataclass(frozen=True)
class PairedQuantity:
    """A quantity of one model minus that of another.

    Attributes:
        estimate: value and interval.
        p: two-sided p-value of its being 0; NaN where there are too few photos, or it is below the resolution.
        probes: how many both measured.
        floor: below what a difference says nothing.
    """

    estimate: Estimate
    p: float
    probes: int
    floor: float

    @property
    def below(self) -> bool:
        """Whether the difference is below the resolution of the arithmetic."""
        return abs(self.estimate.value) < self.floor


@dataclass(frozen=True)
class RateSummary:
    """The numbers of one model.

    Attributes:
        estimates: name of a quantity (see `metrics.quantities`) -> value and interval; those of the control are missing
            where there was none.
        doubts: name of a quantity -> why it is no measurement here; only of those that are none.
        probes: how many were made.
        measured: how many could be measured.
        source_images: how many photos A and B of the measured ones came from.
        level: of the intervals.
    """

    estimates: Mapping[str, Estimate]
    doubts: Mapping[str, tuple[str, ...]]
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

    def _repr_html_(self) -> str:
        return table_html(["quantity", "value", "interval"], self.table_rows(), notes=self.foot_notes())

    def table_rows(self) -> list[list[str]]:
        """Return name, value and interval of each quantity, as text; `(!)` stands behind what is no measurement."""
        rows = []
        for name, estimate in self.estimates.items():
            quantity = QUANTITIES[name]
            mark = " (!)" if self.marks(name) else ""
            unit = " rad" if quantity.unit == "rad" else ""
            known = estimate.low == estimate.low
            bounds = f"[{quantity.text(estimate.low)}, {quantity.text(estimate.high)}]" if known else "-"
            rows.append([name, f"{quantity.text(estimate.value)}{unit}{mark}", bounds])
        return rows

    def foot_notes(self) -> list[str]:
        """Return what a reader of the numbers must know, as sentences."""
        doubts = [f"(!) {name} is no measurement: {'; '.join(why)}." for name, why in self.doubts.items()]
        made = f"{self.measured} of {self.probes} probes measured, from {self.source_images} photos"
        return [f"{made}; {self.level:.0%} intervals over photos.", *doubts]

    def marks(self, name: str) -> tuple[str, ...]:
        """Return why a quantity is no measurement here; nothing where it is one."""
        return self.doubts.get(name, ())


def summarize(
    rates: CouplingRates | Columns,
    images: NDArray[np.int64],
    stream: Stream,
    *,
    eps: float | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> RateSummary:
    """Return every quantity of the table for a model's rates, with a bootstrap interval over source photos.

    Args:
        rates: one row per probe, NaN where it could not be measured; or the columns `SEEN` of it.
        images: int64 (N, 2), photo of A and of B; (N, 3) with C's.
        stream: of the bootstrap.
        eps: rad; that of the rates by default.
        level: of the intervals.
        resamples: of the bootstrap.

    Raises:
        ArgumentError: no row is measured.
    """
    check_range("level", level, 0.5, 0.999)
    check_range("resamples", resamples, 100)
    chosen = eps if eps is not None else rates.eps if isinstance(rates, CouplingRates) else 1e-2
    check_range("eps", chosen, 1e-6, 1)
    given = {name: getattr(rates, name) for name in SEEN} if isinstance(rates, CouplingRates) else rates
    seen = {name: np.asarray(given[name], dtype=np.float64) for name in (*SEEN, "position") if name in given}
    at, third, triple = (derived_columns(seen, factor * chosen) for factor in (1, 1 / 3, 3))
    kept = ~np.isnan(at["cr"])
    if not kept.any():
        raise ArgumentError("rates hold no measured probe; there is nothing to summarize.")
    pair = images[kept, :2]
    how: dict[str, Any] = {"level": level, "resamples": int(resamples)}
    known = [quantity for quantity in QUANTITIES.values() if quantity.known_from(at)]
    found = _estimates([one for one in known if not (one.control or one.optional)], at, kept, pair, stream, **how)
    groups = {
        # C's photo is a third thing that such probes share, but does not make up for too few of A's and B's.
        "control": (kept, images, [quantity for quantity in known if quantity.control]),
        # Of an object that fills the canvas there is no other place.
        "position": (kept & ~np.isnan(at.get("position", at["cr"])), images[:, :2], [q for q in known if q.optional]),
    }
    for group, (rows, photos, quantities) in groups.items():
        if quantities and rows.any():
            parts = _estimates(quantities, at, rows, photos[rows], stream.child(group), **how)
            if np.isnan(found["cr"].low):
                parts = {name: Estimate(part.value, np.nan, np.nan) for name, part in parts.items()}
            found |= parts
    ordered = {name: found[name] for name in QUANTITIES if name in found}
    of_mean = doubts_of_mean(*({name: values[kept] for name, values in one.items()} for one in (at, third, triple)))
    of_ratio = doubts_of_ratio(found["similarity_true"].low, found["similarity_true"].value)
    doubts = {"cr_mean": of_mean} | {name: of_ratio for name in ("cr", "cr_control", "specificity") if name in ordered}
    stated = {name: tuple(reasons) for name, reasons in doubts.items() if reasons}
    return RateSummary(ordered, stated, len(kept), int(kept.sum()), len(np.unique(pair)), level)


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
    resolution_rad: float = RESOLUTION_RAD,
) -> PairedQuantity | None:
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
        resolution_rad: to what the angles are known, rad.

    Returns:
        The difference; None where there is no probe that both measured.
    """
    values = [quantity.value(columns) for columns in (first, second)]
    kept = ~(np.isnan(values[0]) | np.isnan(values[1]))
    if among is not None:
        kept &= among
    if not kept.any():
        return None
    left, right = (quantity.statistic(columns, kept) for columns in (first, second))
    if left.bottom is None and not left.median:
        # One column instead of two: the differences themselves.
        difference = Statistic(left.top - right.top)
    else:
        difference = Statistic(left.top, left.bottom, left.median, minus=right)
    shared = images[kept] if quantity.control else images[kept, :2]
    estimate, p = interval_and_p(difference, shared, stream, level=level)
    # C's photos do not make up for too few of A's and B's.
    photos = len(np.unique(images[kept, :2]))
    if photos < FEWEST_IMAGES:
        estimate = Estimate(estimate.value, np.nan, np.nan)
    p = p if photos >= FEWEST_FOR_P else np.nan
    floor = max(quantity.floor(columns, kept, resolution_rad) for columns in (first, second))
    below = abs(estimate.value) < floor
    return PairedQuantity(estimate, np.nan if below else p, int(kept.sum()), floor)


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
