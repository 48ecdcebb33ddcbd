"""What trained models gave in, paired differences between methods out, and what may be said of a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..metrics.bootstrap import Estimate, Statistic, intervals, mean_statistic
from ..metrics.quantities import Quantity, shown_in
from ..metrics.seeds import over_seeds
from ..streams import Stream
from ..training.registry import SUFFIX
from .trained_models import START, UNTRAINED, TrainedModel

__all__ = ["ACCURACIES", "PairDifference", "pair_differences", "verdicts"]

# Name of a quantity of objects, and the words for it.
ACCURACIES = {"accuracy": "1-NN accuracy of objects", "linear": "linear accuracy of objects"}
MOST_CLIPPED = 0.05


@dataclass(frozen=True)
class PairDifference:
    """One method minus another, paired.

    Attributes:
        first, second: the methods; the value is first minus second.
        quantity: a quantity's `difference`, `accuracy` or `linear` (of objects).
        seeds: which one, or `all`: the mean over the seeds.
        estimate: of one seed, with an interval over the photos of the probes (or objects), which says nothing of other
            seeds; of all, with Student's interval over the seeds, which is what can be said of the method.
        scenes: the interval over photos; of all seeds, that of their mean.
        count: probes or objects that both models measured.
    """

    first: str
    second: str
    quantity: str
    seeds: str
    estimate: Estimate
    scenes: Estimate
    count: int


def pair_differences(
    plain: Sequence[TrainedModel],
    decoupled: Sequence[TrainedModel],
    untrained: Sequence[TrainedModel] = (),
    *,
    level: float = 0.95,
) -> list[PairDifference]:
    """Return X-D minus X and, where there are untrained networks, X and X-D minus those.

    Args:
        plain: runs of X.
        decoupled: runs of X-D, of the same seeds in the same order.
        untrained: what both began as, of the same seeds; or none.
        level: of the intervals.

    Raises:
        ArgumentError: the seeds are not the same, or the models were shown different probes.
    """
    found = _between(decoupled, plain, level=level)
    for trained in (plain, decoupled) if untrained else ():
        found += _between(trained, untrained, level=level)
    return found


def _between(
    first: Sequence[TrainedModel], second: Sequence[TrainedModel], *, level: float = 0.95
) -> list[PairDifference]:
    """Return first minus second per quantity that is compared, and of the accuracies: for each seed, and over all.

    Args:
        first, second: models of the same seeds in the same order.
        level: of the intervals.

    Raises:
        ArgumentError: the seeds are not the same, or the models were shown different probes.
    """
    seeds = [model.seed for model in second]
    if not seeds or seeds != [model.seed for model in first]:
        raise ArgumentError(f"first must have the seeds of second, {seeds}, but has {[m.seed for m in first]}.")
    shown = {str(model.measurement.provenance["probes"]["fingerprint"]) for model in (*first, *second)}
    if len(shown) > 1:
        raise ArgumentError("the runs were measured on different probes; only the same ones can be paired.")
    found = []
    between = first[0].method, second[0].method
    for name, statistic_of in _effects(first, second).items():
        photos = _photos(second[0], name)
        stream = Stream(0).child("bootstrap", "pair", name)
        pairs = [[statistic_of(model) for model in both] for both in zip(first, second, strict=True)]
        # (2 of a pair, columns, N): rows that every model measured, so that all seeds are judged by the same ones.
        columns = np.array([column for pair in pairs for one in pair for column in one.columns()])
        kept = np.asarray(~np.isnan(columns).any(axis=0))
        if not kept.any():
            continue
        gaps = [_gap(one, other, kept) for one, other in pairs]
        count = int(kept.sum())
        of_seeds = intervals(gaps, photos[kept], stream, level=level)
        for seed, estimate in zip(seeds, of_seeds, strict=True):
            found.append(PairDifference(*between, name, str(seed), estimate, estimate, count))
        if len(seeds) > 1:
            (scenes,) = intervals([mean_statistic(gaps)], photos[kept], stream, level=level)
            every = over_seeds([gap.value() for gap in gaps], level=level)
            found.append(PairDifference(*between, name, "all", every, scenes, count))
    return found


def _gap(first: Statistic, second: Statistic, kept: NDArray[np.bool_]) -> Statistic:
    """Return a statistic of one model minus that of the other, over some rows."""
    one, other = (
        replace(part, top=part.top[kept], bottom=None if part.bottom is None else part.bottom[kept])
        for part in (first, second)
    )
    return replace(one, minus=other)


def _effects(*models: Sequence[TrainedModel]) -> dict[str, Callable[[TrainedModel], Statistic]]:
    """Return what is compared: name -> what it is made of, NaN in rows that could not be measured."""
    every = [model.measurement.columns for part in models for model in part]
    known = [quantity for quantity in shown_in("compared") if all(quantity.known_from(columns) for columns in every)]

    def of_rows(quantity: Quantity, model: TrainedModel) -> Statistic:
        columns = model.measurement.columns
        return quantity.statistic(columns, np.ones(len(columns["cr"]), dtype=bool))

    def correct(name: str, model: TrainedModel) -> Statistic:
        rows = (model.objects if name == "accuracy" else model.linear).rows
        return Statistic(rows["correct"].to_numpy(dtype=np.float64, na_value=np.nan))

    found: dict[str, Callable[[TrainedModel], Statistic]] = {}
    found |= {quantity.difference: partial(of_rows, quantity) for quantity in known}
    found |= {name: partial(correct, name) for name in ACCURACIES}
    return found


def _photos(model: TrainedModel, name: str) -> NDArray[np.int64]:
    if name in ACCURACIES:
        return model.objects.rows["image"].to_numpy(dtype=np.int64)[:, None]
    return model.measurement.source_images[:, :2]


def verdicts(models: Sequence[TrainedModel], differences: Sequence[PairDifference]) -> list[str]:
    """Return what a reader must know before he believes a pair: sentences, none where nothing is wrong.

    A method that is no better than its untrained network has learnt nothing that a difference could be laid to; one
    that is no more coupled than it leaves nothing to take away; clipped denominators make rates of no measurement. Of
    runs that go on from a model, which is coupled already, only X-D is held against it.

    Args:
        models: of all runs.
        differences: of `pair_differences`, with untrained networks.
    """
    found = []
    if not any(gap.seeds == "all" for gap in differences):
        found.append("One seed says nothing of the method: its intervals are over scenes, of these networks.")
    if not any(gap.second in (UNTRAINED, START) for gap in differences):
        found.append(
            "What the runs began with was not measured: whether they are better than no training is not known."
        )
    every = {(gap.first, gap.second, gap.quantity): gap.estimate for gap in differences if gap.seeds == "all"}
    for (first, second, quantity), estimate in every.items():
        if second == UNTRAINED and not first.endswith(SUFFIX):
            if quantity in ACCURACIES and not estimate.low > 0:
                found.append(f"{first} is not above the untrained network in {ACCURACIES[quantity]} over the seeds.")
            if quantity == "specificity" and not estimate.low > 0:
                found.append(f"No coupling induced: {first}'s specificity is not above the untrained network's.")
        against = first == f"{second}{SUFFIX}" or (second == START and first.endswith(SUFFIX))
        if quantity in ("specificity", "leak", "displacement") and against and not estimate.high < 0:
            found.append(f"{first}'s {quantity} is not below {second}'s over the seeds.")
    for model in models:
        clipped = model.measurement.summary.estimates["clipped_denominator"].value
        if clipped >= MOST_CLIPPED:
            found.append(f"{model.method}, seed {model.seed}: {clipped:.0%} of the denominators are clipped.")
    return found
