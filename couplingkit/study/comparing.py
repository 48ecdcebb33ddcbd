"""Models that saw the same probes in, paired differences to a baseline out: overall, and by what the probes show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ArgumentError, MeasurementError, listed, near
from ..metrics.bootstrap import Estimate, mean_and_p
from ..metrics.multiple import holm
from ..streams import Stream
from .record import Measurement, different_settings, images_of, same_probes

__all__ = ["EFFECTS", "Comparison", "Difference", "compare_models"]

QUARTERS = ("smallest", "small", "large", "largest")
# What is compared on each probe; the first one is tested.
EFFECTS = {
    "cr": "coupling rate",
    "ln_cr": "ln of the coupling rate",
    "specificity": "coupling rate minus the control's",
    "displacement": "angle by which A's feature moved, rad",
}


@dataclass(frozen=True)
class Difference:
    """One model minus the baseline.

    Attributes:
        model: its name.
        effect: what is compared; see `EFFECTS`.
        grouping: `all`, or `direction` (where B stands), `size` (quarter of A's area in its photo), `gap`, or `pair`
            (categories of A and B).
        group: which probes.
        estimate: mean and interval over source photos.
        probes: how many both measured.
        p: two-sided p-value; NaN where it was not tested.
        p_holm: the same corrected for the number of models.
    """

    model: str
    effect: str
    grouping: str
    group: str
    estimate: Estimate
    probes: int
    p: float = float("nan")
    p_holm: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """Several models against one.

    Attributes:
        baseline: its name.
        models: name -> measurement, the baseline first.
        differences: of all probes, and by group.
    """

    baseline: str
    models: Mapping[str, Measurement]
    differences: tuple[Difference, ...]

    def overall(self, effect: str = "cr") -> list[Difference]:
        """Return each model's difference over all probes."""
        return [one for one in self.differences if one.grouping == "all" and one.effect == effect]


def compare_models(
    models: Mapping[str, Measurement], *, baseline: str | None = None, seed: int = 0, level: float = 0.95
) -> Comparison:
    """Compare models with a baseline, probe by probe.

    Intervals and p-values resample source photos (`metrics.bootstrap`); p-values of the coupling rate are corrected for
    the number of models by Holm's procedure. Groups have intervals, no tests.

    Args:
        models: name -> measurement.
        baseline: one of the names; the first by default.
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
    for name in others:
        apart = same_probes(models[name].provenance["probes"], reference.provenance["probes"])
        if apart:
            raise MeasurementError(
                f"{name} and {first} were measured on different probes: {listed(apart)}; only the same can be paired."
            )
        unlike = different_settings(reference, models[name])
        if unlike:
            raise MeasurementError(
                f"{name} and {first} were measured with other settings: {listed(unlike)}; measure them alike."
            )
    found = []
    for name in others:
        found += _of_model(name, models[name], reference, Stream(seed).child("bootstrap", "paired"), level)
    tested = [place for place, one in enumerate(found) if one.grouping == "all" and one.effect == "cr"]
    corrected = dict(zip(tested, holm([found[place].p for place in tested]), strict=True))
    differences = tuple(
        Difference(**{**vars(one), "p_holm": corrected[place]}) if place in corrected else one
        for place, one in enumerate(found)
    )
    return Comparison(first, {name: models[name] for name in (first, *others)}, differences)


def effects_of(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return each effect's value on each probe, (N,), NaN where it is not measured."""
    numbers = {
        name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in ("cr", "cr_control", "displacement")
    }
    return {
        "cr": numbers["cr"],
        "ln_cr": np.log(numbers["cr"]),
        "specificity": numbers["cr"] - numbers["cr_control"],
        "displacement": numbers["displacement"],
    }


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
    rows = model.rows
    images = images_of(rows)
    first, second = effects_of(rows), effects_of(reference.rows)
    found = []
    for effect in EFFECTS:
        gap = first[effect] - second[effect]
        kept = ~np.isnan(gap)
        if not kept.any():
            if effect == "cr":
                raise MeasurementError(f"{name} and {reference.name} have no measured probe in common.")
            continue
        # The photo of C is a third thing that probes share, where C is compared with.
        shared = images[kept] if effect == "specificity" else images[kept, :2]
        estimate, p = mean_and_p(gap[kept], shared, stream, level=level)
        count = int(kept.sum())
        tested = p if effect == "cr" else float("nan")
        found.append(Difference(name, effect, "all", "all", estimate, count, tested))
    gap = first["cr"] - second["cr"]
    for grouping, groups in groups_of(rows).items():
        for group in sorted(groups.unique(), key=_order):
            kept = (groups == group).to_numpy() & ~np.isnan(gap)
            if kept.any():
                estimate, _ = mean_and_p(gap[kept], images[kept, :2], stream, level=level)
                found.append(Difference(name, "cr", grouping, str(group), estimate, int(kept.sum())))
    return found


def _order(group: str) -> tuple[int, str]:
    return (QUARTERS.index(group) if group in QUARTERS else 0, group.zfill(4) if group.isdecimal() else group)
