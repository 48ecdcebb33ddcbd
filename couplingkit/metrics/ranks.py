"""Two numbers a model in, and the family of each: how they go together, over all models and within the families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ..streams import Stream
from .bootstrap import Estimate

__all__ = ["FEWEST_FAMILIES", "FEWEST_MODELS", "Point", "WithinFamilies", "rank_correlation", "within_families"]

Array = NDArray[np.float64]
# Models of one family are no independent evidence: below so many families nothing is inferred from all of them.
FEWEST_FAMILIES = 5
# Of a family that says something of itself.
FEWEST_MODELS = 3
PERMUTATIONS = 5000


@dataclass(frozen=True)
class Point:
    """A model in the plane.

    Attributes:
        family: method x architecture.
        x, y: both numbers with their intervals.
    """

    family: str
    x: Estimate
    y: Estimate


@dataclass(frozen=True)
class WithinFamilies:
    """What is left when families are held apart.

    Attributes:
        rho: mean of the families' own Spearman correlations; NaN where no family has three models.
        p: two-sided, by permuting the scores within families.
        families: how many have three models or more.
        models: in these.
    """

    rho: float
    p: float
    families: int
    models: int


def rank_correlation(
    points: Sequence[Point], stream: Stream, *, level: float = 0.95, resamples: int = 2000
) -> tuple[Estimate, int]:
    """Return Spearman's rho of all models with its interval, and the number of families.

    The interval resamples families, models within them, and each model's two numbers by the width of their intervals.
    NaN bounds below five families: no inference.
    """
    x, y = _columns(points)
    names = list(dict.fromkeys(point.family for point in points))
    value = _spearman(x, y) if len(points) >= FEWEST_MODELS else np.nan
    if len(names) < FEWEST_FAMILIES:
        return Estimate(value, np.nan, np.nan), len(names)
    members = [np.flatnonzero([point.family == name for point in points]) for name in names]
    spread_x, spread_y = (np.array([_spread(one, level) for one in part]) for part in _estimates(points))
    generator = stream.generator()
    draws = np.full(resamples, np.nan)
    for number in range(resamples):
        chosen = np.concatenate(
            [
                generator.choice(members[family], len(members[family]))
                for family in generator.integers(len(names), size=len(names))
            ]
        )
        noise = generator.standard_normal((2, len(chosen)))
        draws[number] = _spearman(x[chosen] + noise[0] * spread_x[chosen], y[chosen] + noise[1] * spread_y[chosen])
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(min(low, value)), float(max(high, value))), len(names)


def within_families(points: Sequence[Point], stream: Stream, *, permutations: int = PERMUTATIONS) -> WithinFamilies:
    """Return the mean of the families' rank correlations, and its p-value under no relation within any family."""
    names = list(dict.fromkeys(point.family for point in points))
    members = [np.flatnonzero([point.family == name for point in points]) for name in names]
    members = [own for own in members if len(own) >= FEWEST_MODELS]
    x, y = _columns(points)
    if not members:
        return WithinFamilies(np.nan, np.nan, 0, 0)
    ranks = [(_standard_ranks(x[own]), _standard_ranks(y[own])) for own in members]
    value = float(np.mean([first @ second for first, second in ranks]))
    generator = stream.generator()
    further = 0
    for _ in range(permutations):
        drawn = np.mean([first @ generator.permutation(second) for first, second in ranks])
        # What is equal but for rounding is as far.
        further += abs(drawn) >= abs(value) - 1e-12
    return WithinFamilies(value, (1 + further) / (1 + permutations), len(members), sum(map(len, members)))


def _estimates(points: Sequence[Point]) -> tuple[list[Estimate], list[Estimate]]:
    return [point.x for point in points], [point.y for point in points]


def _columns(points: Sequence[Point]) -> tuple[Array, Array]:
    x, y = (np.array([one.value for one in part], dtype=np.float64) for part in _estimates(points))
    return x, y


def _spread(estimate: Estimate, level: float) -> float:
    """Return the standard error that an interval stands for; 0 where there is none."""
    width = (estimate.high - estimate.low) / 2
    return 0.0 if np.isnan(width) else float(width / ndtri((1 + level) / 2))


def _standard_ranks(values: Array) -> Array:
    """Return ranks whose products sum up to Spearman's rho; 0 where all values are equal."""
    # Here, for it takes longer to import than most runs take to end.
    from scipy.stats import rankdata

    ranks = rankdata(values)
    ranks = ranks - ranks.mean()
    length = np.linalg.norm(ranks)
    return np.asarray(ranks / length if length > 0 else ranks)


def _spearman(x: Array, y: Array) -> float:
    return float(_standard_ranks(x) @ _standard_ranks(y))
