"""Models that saw the same probes in, paired differences to a baseline out: overall, and by what the probes show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..errors import ArgumentError, MeasurementError, listed, near
from ..html_text import table_html
from ..metrics.bootstrap import Estimate
from ..metrics.multiple import holm
from ..metrics.quantities import Quantity, shown_in
from ..metrics.summary import PairedQuantity
from ..streams import Stream
from .measurement import Measurement, check_alike, different_settings, paired

__all__ = ["Comparison", "Difference", "compare_models"]

QUARTERS = ("smallest", "small", "large", "largest")


@dataclass(frozen=True)
class Difference:
    """One model minus the baseline.

    Attributes:
        model: its name.
        effect: what is compared: a quantity's `difference`.
        grouping: `all`, or `direction` (where B stands), `size` (quarter of A's area in its photo), `gap`, or `pair`
            (categories of A and B).
        group: which probes.
        estimate: mean and interval over source photos.
        probes: how many both measured.
        p: two-sided p-value; NaN where it was not tested, came from too few photos, or is below the resolution.
        p_holm: the same corrected for the number of models.
        below: whether it is below the resolution of the arithmetic, and so says nothing.
    """

    model: str
    effect: str
    grouping: str
    group: str
    estimate: Estimate
    probes: int
    p: float = float("nan")
    p_holm: float = float("nan")
    below: bool = False


@dataclass(frozen=True)
class Comparison:
    """Several models against one.

    Attributes:
        baseline: its name.
        models: name -> measurement, the baseline first.
        differences: of all probes, and by group.
        across: the settings in which models differ, as was meant: name -> what they are.
    """

    baseline: str
    models: Mapping[str, Measurement]
    differences: tuple[Difference, ...]
    across: Mapping[str, str]

    def _repr_html_(self) -> str:
        rows = [
            [
                one.model,
                one.effect,
                one.estimate.text(),
                str(one.probes),
                "-" if one.p_holm != one.p_holm else f"{one.p_holm:.4f}",
            ]
            for one in self.differences
            if one.grouping == "all"
        ]
        notes = ["Intervals over photos, on the probes of both."]
        headings = ["model", "difference of", "value", "probes", "p (Holm)"]
        return table_html(headings, rows, caption=f"minus {self.baseline}", notes=notes)

    def overall(self, effect: str | None = None) -> list[Difference]:
        """Return each model's difference over all probes; of the first effect by default."""
        wanted = shown_in("compared")[0].difference if effect is None else effect
        return [
            difference
            for difference in self.differences
            if difference.grouping == "all" and difference.effect == wanted
        ]


def compare_models(
    models: Mapping[str, Measurement],
    *,
    baseline: str | None = None,
    across: Collection[str] = (),
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compare models with a baseline, probe by probe, in every quantity that is compared.

    Intervals and p-values resample source photos (`metrics.bootstrap`). The first quantity of the table is tested; its
    p-values are corrected for the number of models by Holm's procedure. Groups have intervals, no tests.

    Args:
        models: name -> measurement.
        baseline: one of the names; the first by default.
        across: settings in which the models are meant to differ; see `SETTINGS`.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        ArgumentError: there are less than two models, or no such baseline.
        MeasurementError: they were measured on different probes, or with other settings; the sentence says which.
    """
    names = list(models)
    if len(names) < 2:
        raise ArgumentError(f"models must be at least two, but are {len(names)} ({listed(names)}).")
    first = names[0] if baseline is None else baseline
    if first not in models:
        raise ArgumentError(f"baseline {first!r} is none of {listed(names)}{near(first, names)}.")
    others = [name for name in names if name != first]
    reference = models[first]
    differing: dict[str, str] = {}
    for name in others:
        named = [replace(models[one], name=one) for one in (first, name)]
        check_alike(*named, across=across)
        differing |= different_settings(*named)
    found = []
    for name in others:
        found += _of_model(name, models[name], reference, Stream(seed).child("bootstrap", "paired"), level)
    # What is below resolution was looked at, too, and counts among the tests, as one that finds nothing.
    main = shown_in("compared")[0].difference
    looked = [
        index
        for index, difference in enumerate(found)
        if (difference.grouping, difference.effect) == ("all", main) and (difference.below or difference.p >= 0)
    ]
    ps = [1.0 if found[index].below else found[index].p for index in looked]
    corrected = {index: p for index, p in zip(looked, holm(ps), strict=True) if not found[index].below}
    differences = tuple(
        replace(difference, p_holm=corrected.get(index, difference.p_holm)) for index, difference in enumerate(found)
    )
    return Comparison(first, {name: models[name] for name in (first, *others)}, differences, differing)


def groups_of(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the group of each probe under each grouping; what has one group only is left out."""
    ranks = rows["area_a"].rank(method="first", pct=True)
    quarter = np.minimum((ranks.to_numpy() * 4 - 1e-9).astype(int), 3)
    found = {
        "direction": rows["direction"].astype(str),
        "size": pd.Series([QUARTERS[place] for place in quarter], index=rows.index),
        "gap": rows["gap"].astype(str),
        "pair": rows["category_a"].astype(str) + " beside " + rows["category_b"].astype(str),
    }
    return {name: groups for name, groups in found.items() if len(groups.unique()) > 1}


def _of_model(name: str, model: Measurement, reference: Measurement, stream: Stream, level: float) -> list[Difference]:
    main, *rest = shown_in("compared")
    found = []
    for quantity in (main, *rest):
        overall = paired(model, reference, quantity, stream, level=level)
        if overall is None:
            if quantity is main:
                raise MeasurementError(f"{name} and {reference.name} have no measured probe in common.")
            continue
        found.append(_difference(name, quantity, "all", "all", overall, tested=quantity is main))
    for grouping, groups in groups_of(model.rows).items():
        for group in sorted(groups.unique(), key=_order):
            among = (groups == group).to_numpy()
            part = paired(model, reference, main, stream, level=level, among=among)
            if part is not None:
                found.append(_difference(name, main, grouping, str(group), part, tested=False))
    return found


def _difference(
    name: str, quantity: Quantity, grouping: str, group: str, found: PairedQuantity, *, tested: bool
) -> Difference:
    p = found.p if tested else float("nan")
    return Difference(name, quantity.difference, grouping, group, found.estimate, found.probes, p, below=found.below)


def _order(group: str) -> tuple[int, str]:
    return (QUARTERS.index(group) if group in QUARTERS else 0, group.zfill(4) if group.isdecimal() else group)
