"""Scores and coupling of the same models in, how they go together out: over all models, within families, in pairs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..metrics.bootstrap import Estimate
from ..metrics.ranks import Point, WithinFamilies, rank_correlation, within_families
from ..streams import Stream

__all__ = ["PairChange", "RelatedModel", "Relation", "pairs_by_name", "relation_of"]

# What ends the name of a decoupled model, or of the folder of its runs.
DECOUPLED = re.compile(r"-d(?=$|[/@ +])")


@dataclass(frozen=True)
class RelatedModel:
    """A model whose coupling and whose scores are known.

    Attributes:
        name: of the model.
        family: method x architecture.
        scores: of its tasks.
        coupling: quantities that say how coupled it is.
        clipped: whether more than 5 % of its denominators are clipped, so that its rates are no measurement.
    """

    name: str
    family: str
    scores: Mapping[str, Estimate]
    coupling: Mapping[str, Estimate]
    clipped: bool


@dataclass(frozen=True)
class PairChange:
    """A decoupled model minus the plain one."""

    plain: str
    decoupled: str
    coupling: float
    score: float


@dataclass(frozen=True)
class Relation:
    """How one score goes with one quantity.

    Attributes:
        task: name of the score.
        quantity: of coupling.
        rho: Spearman's, over all models; without an interval below five families.
        families: how many there are.
        within: what is left within families.
        pairs: differences of X-D and X.
        models: names of those that both are known of.
    """

    task: str
    quantity: str
    rho: Estimate
    families: int
    within: WithinFamilies
    pairs: tuple[PairChange, ...]
    models: tuple[str, ...]

    @property
    def signs(self) -> tuple[int, int]:
        """Pairs in which less coupling goes with a higher score, and those in which it goes with a lower one."""
        moved = [pair.coupling * pair.score for pair in self.pairs]
        return sum(one < 0 for one in moved), sum(one > 0 for one in moved)


def pairs_by_name(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (plain, decoupled) of models whose names differ in a `-d` at the end of a part.

    >>> pairs_by_name(["bundled:ibot", "bundled:ibot-d", "runs/ibot/seed-0", "runs/ibot-d/seed-0", "dino"])
    [('bundled:ibot', 'bundled:ibot-d'), ('runs/ibot/seed-0', 'runs/ibot-d/seed-0')]
    """
    known = list(names)
    return [(plain, name) for name in known if (plain := DECOUPLED.sub("", name)) != name and plain in known]


def relation_of(
    models: Sequence[RelatedModel], task: str, quantity: str, pairs: Sequence[tuple[str, str]], *, seed: int = 0
) -> Relation:
    """Return how a score goes with a quantity, over the models that both are known of.

    Args:
        models: in any order.
        task: name of the score.
        quantity: of coupling.
        pairs: (plain, decoupled) by name.
        seed: of the resampling.
    """
    known = {one.name: one for one in models if task in one.scores and quantity in one.coupling}
    points = [Point(one.family, one.coupling[quantity], one.scores[task]) for one in known.values()]
    stream = Stream(seed).child("relation", task, quantity)
    rho, families = rank_correlation(points, stream.child("all"))
    changes = tuple(
        PairChange(
            plain,
            decoupled,
            known[decoupled].coupling[quantity].value - known[plain].coupling[quantity].value,
            known[decoupled].scores[task].value - known[plain].scores[task].value,
        )
        for plain, decoupled in pairs
        if plain in known and decoupled in known
    )
    within = within_families(points, stream.child("within"))
    return Relation(task, quantity, rho, families, within, changes, tuple(known))
