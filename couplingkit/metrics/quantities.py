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

__all__ = [
    "QUANTITIES",
    "Columns",
    "Quantity",
    "register",
    "shown_in",
]

Array = NDArray[np.float64]
# Name of a column of rows, or of what derives from one -> its values (N,), NaN where a probe is not measured.
Columns = Mapping[str, Array]
Average = Literal["mean", "median", "geometric"]
# Where a quantity is shown: the tables of `measure`, of `sweep`, of trained pairs, the report; `compared` has paired
# differences between models, `curve` a panel in figures. All of them are in the files and on request.
Place = Literal["table", "sweep", "pairs", "report", "compared", "curve"]


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
        neutral: what it is for a network that cannot couple.
        optional: whether it is reported only where A was shown at other places.
        per: the column that each probe's value is divided by, where it is.
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
    neutral: float = 0.0
    optional: bool = False
    per: str = ""
    effect: str = ""

    @property
    def difference(self) -> str:
        """What its paired difference is called."""
        return self.effect or self.name

    def known_from(self, columns: Columns) -> bool:
        """Return whether it can be told from columns: those of a third object or of other places may not be there."""
        return (not self.control or "similarity_control" in columns) and (not self.optional or "position" in columns)

    def statistic(self, columns: Columns, kept: NDArray[np.bool_]) -> Statistic:
        """Return what its estimate is made of, over the rows `kept`, bool (N,); of a geometric mean its logarithm."""
        values = self.value(columns)[kept]
        below = None if self.over is None else self.over(columns)[kept]
        return Statistic(np.log(values) if self.average == "geometric" else values, below, self.average == "median")

    def floor(self, columns: Columns, kept: NDArray[np.bool_], resolution_rad: float) -> float:
        """Return below what a difference of the quantity says nothing, given to what the angles are known.

        An angle is known to `resolution_rad`, what is divided by something to that over it.
        """
        if self.unit == "share":
            return 0.0
        if self.over is not None:
            return resolution_rad / abs(float(self.over(columns)[kept].mean()))
        if self.per:
            return resolution_rad * float((1 / columns[self.per][kept]).mean())
        return resolution_rad

    def text(self, value: float) -> str:
        """Return a value as tables print it."""
        return f"{value:z.1%}" if self.unit == "share" else f"{value:z.3f}"


def _column(name: str) -> Callable[[Columns], Array]:
    def values(columns: Columns) -> Array:
        return columns[name]

    return values


def _content(columns: Columns) -> Array:
    return columns["similarity_biased"] - columns["similarity_control"]


def _turn(columns: Columns) -> Array:
    return columns["theta_a1_b"] - columns["theta_a2_b"]


def _leak(columns: Columns) -> Array:
    return columns["toward_b"] - columns["toward_c"]


PANEL: frozenset[Place] = frozenset({"table", "sweep", "pairs", "report", "compared"})
DRAWN: frozenset[Place] = PANEL | {"curve"}
QUANTITIES: dict[str, Quantity] = {}


def register(quantity: Quantity) -> Quantity:
    """Add a quantity to the table; everything that reports quantities has it from then on."""
    QUANTITIES[quantity.name] = quantity
    return quantity


def shown_in(place: Place, among: Iterable[str] | None = None) -> list[Quantity]:
    """Return the quantities that are shown in a place, in the table's order; of those `among` only, where given."""
    known = QUANTITIES if among is None else {name: QUANTITIES[name] for name in among if name in QUANTITIES}
    return [quantity for quantity in known.values() if place in quantity.places]


def _different(columns: Columns) -> Array:
    different: Array = 2 * np.sin(columns["theta_a1_b"] / 2) ** 2  # 1 - cos
    return different


_TRUE, _BIASED, _RATE = _column("similarity_true"), _column("similarity_biased"), _column("cr")
for _quantity in (
    Quantity(
        "cr",
        "coupling rate: mean similarity of A and B together / mean similarity of A and B apart",
        _BIASED,
        over=_TRUE,
        places=DRAWN,
        neutral=1.0,
    ),
    Quantity(
        "cr_mean",
        "the paper's average: mean of each probe's rate, similarities below eps counted as eps",
        _RATE,
        places=PANEL,
        neutral=1.0,
        per="denominator",
    ),
    Quantity(
        "turn",
        "mean angle by which A's feature turned towards B's, rad",
        _turn,
        unit="rad",
        places=PANEL,
    ),
    Quantity(
        "specificity",
        "cr minus the same with another object C in B's place: what is due to B's content",
        _content,
        over=_TRUE,
        control=True,
        places=DRAWN,
    ),
    Quantity(
        "leak",
        "share of the way from A's feature to B's that A's feature goes because of B, beyond what C makes it go",
        _leak,
        control=True,
        places=DRAWN,
        per="theta_a1_b",
    ),
    Quantity(
        "displacement",
        "mean angle by which A's feature moved in any direction, rad",
        _column("displacement"),
        unit="rad",
        places=DRAWN,
    ),
    Quantity("cr_median", "median of the probes' rates", _RATE, average="median", neutral=1.0, per="denominator"),
    Quantity(
        "cr_geomean",
        "geometric mean of the probes' rates",
        _RATE,
        average="geometric",
        neutral=1.0,
        per="denominator",
        effect="ln_cr",
    ),
    Quantity(
        "cr_control",
        "the rate towards B with another object C in B's place",
        _column("similarity_control"),
        over=_TRUE,
        control=True,
        neutral=1.0,
    ),
    Quantity("similarity_true", "mean of pi/2 - angle of A and B apart, rad", _TRUE, unit="rad"),
    Quantity("similarity_biased", "mean of pi/2 - angle of A and B together, rad", _BIASED, unit="rad"),
    Quantity("clipped_numerator", "share of probes whose numerator is eps", _column("clipped_numerator"), unit="share"),
    Quantity(
        "clipped_denominator",
        "share of probes whose denominator is eps",
        _column("clipped_denominator"),
        unit="share",
    ),
    Quantity(
        "position",
        "1 - mean cosine of an object's feature with itself elsewhere on an empty canvas",
        _column("position"),
        places=frozenset({"table", "report", "compared"}),
        optional=True,
    ),
    Quantity(
        "position_other",
        "1 - mean cosine of the features of two different objects, to set `position` against",
        _different,
        places=frozenset({"table", "report"}),
        optional=True,
    ),
):
    register(_quantity)
