"""The table of everything that is reported of coupling: each quantity stands here once.

Rows, summaries, comparisons, sweeps, trained pairs, tables, figures and pages read it: a new quantity is one entry.
A quantity is a formula on columns of rows, and a way to average it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .bootstrap import Statistic

__all__ = ["CLIPPED_LIMIT", "QUANTITIES", "Columns", "Quantity", "columns_needed", "register", "shown_in"]

Array = NDArray[np.float64]
# Name of a column of rows -> its values (N,), NaN where a probe is not measured.
Columns = Mapping[str, Array]
Average = Literal["mean", "median", "geometric"]
# Where a quantity is shown: the tables of `measure`, of `sweep`, of trained pairs, the report; `compared` has paired
# differences between models, `curve` a panel in the figures of sweeps. All of them are in the files.
Place = Literal["table", "sweep", "pairs", "report", "compared", "curve"]

# Above this share of clipped denominators a mean of ratios is not a measurement.
CLIPPED_LIMIT = 0.05


@dataclass(frozen=True)
class Quantity:
    """A number that is reported of a model.

    Attributes:
        name: in files, tables and figures.
        meaning: one line for people.
        value: of each probe, (N,), from columns of rows.
        over: where the quantity is a ratio of means, what stands below, (N,).
        average: over probes; `geometric` is the exponential of the mean logarithm.
        unit: `rad`, `share`, or none.
        control: whether C takes part; its photo is a third thing then that probes share.
        places: where it is shown; see `Place`.
        bounds: whether tables show its interval.
        neutral: what it is for a network that cannot couple.
        effect: what its paired difference is called, where that is not its name.
    """

    name: str
    meaning: str
    value: Callable[[Columns], Array]
    over: Callable[[Columns], Array] | None = None
    average: Average = "mean"
    unit: str = ""
    control: bool = False
    places: frozenset[Place] = frozenset()
    bounds: bool = False
    neutral: float = 0.0
    effect: str = ""

    @property
    def difference(self) -> str:
        """What its paired difference is called."""
        return self.effect or self.name

    def statistic(self, columns: Columns, kept: NDArray[np.bool_]) -> Statistic:
        """Return what its estimate is made of, over the rows `kept`, bool (N,); of a geometric mean its logarithm."""
        values = self.value(columns)[kept]
        below = None if self.over is None else self.over(columns)[kept]
        return Statistic(np.log(values) if self.average == "geometric" else values, below, self.average == "median")

    def text(self, value: float) -> str:
        """Return a value as tables print it."""
        return f"{value:.1%}" if self.unit == "share" else f"{value:.3f}"


def _column(name: str) -> Callable[[Columns], Array]:
    def values(columns: Columns) -> Array:
        return columns[name]

    return values


def _specificity(columns: Columns) -> Array:
    return columns["cr"] - columns["cr_control"]


EVERYWHERE: frozenset[Place] = frozenset({"table", "sweep", "pairs", "report", "compared", "curve"})
QUANTITIES: dict[str, Quantity] = {}


def register(quantity: Quantity) -> Quantity:
    """Add a quantity to the table; everything that reports quantities has it from then on."""
    QUANTITIES[quantity.name] = quantity
    return quantity


def shown_in(place: Place, among: Iterable[str] | None = None) -> list[Quantity]:
    """Return the quantities that are shown in a place, in the table's order; of those `among` only, where given."""
    known = QUANTITIES if among is None else {name: QUANTITIES[name] for name in among if name in QUANTITIES}
    return [quantity for quantity in known.values() if place in quantity.places]


def columns_needed() -> tuple[str, ...]:
    """Return the columns of rows that the quantities are made of."""
    seen: list[str] = []

    class Noted(dict):  # type: ignore[type-arg]
        def __missing__(self, key: str) -> Array:
            seen.append(key)
            return np.ones(1)

    for quantity in QUANTITIES.values():
        for formula in (quantity.value, quantity.over):
            if formula is not None:
                formula(Noted())
    return tuple(dict.fromkeys(seen))


for _quantity in (
    Quantity(
        "cr_mean",
        "mean coupling rate, the paper's average",
        _column("cr"),
        places=EVERYWHERE,
        bounds=True,
        neutral=1.0,
    ),
    Quantity(
        "cr_median",
        "median coupling rate",
        _column("cr"),
        average="median",
        places=frozenset({"table", "report"}),
        neutral=1.0,
    ),
    Quantity(
        "cr_geomean",
        "geometric mean of the coupling rates",
        _column("cr"),
        average="geometric",
        places=frozenset({"table", "sweep", "pairs", "report", "compared"}),
        neutral=1.0,
        effect="ln_cr",
    ),
    Quantity(
        "cr_of_means",
        "mean numerator / mean denominator",
        _column("numerator"),
        over=_column("denominator"),
        places=frozenset({"table", "sweep", "pairs", "report"}),
        neutral=1.0,
    ),
    Quantity(
        "cr_control",
        "mean coupling rate towards B with another object C in B's place",
        _column("cr_control"),
        control=True,
        neutral=1.0,
    ),
    Quantity(
        "specificity",
        "cr_mean - cr_control: what is due to B's content",
        _specificity,
        control=True,
        places=EVERYWHERE,
        bounds=True,
    ),
    Quantity(
        "displacement",
        "mean angle by which A's feature moved, rad",
        _column("displacement"),
        unit="rad",
        places=frozenset({"table", "sweep", "report", "compared"}),
    ),
    Quantity(
        "similarity_true", "mean denominator: similarity of A and B apart, rad", _column("denominator"), unit="rad"
    ),
    Quantity(
        "similarity_biased", "mean numerator: similarity of A and B together, rad", _column("numerator"), unit="rad"
    ),
    Quantity(
        "clipped_numerator",
        "share of probes whose numerator is eps",
        _column("clipped_numerator"),
        unit="share",
        places=frozenset({"table", "report"}),
    ),
    Quantity(
        "clipped_denominator",
        "share of probes whose denominator is eps",
        _column("clipped_denominator"),
        unit="share",
        places=frozenset({"table", "sweep", "pairs", "report"}),
    ),
):
    register(_quantity)
