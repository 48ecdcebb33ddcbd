"""Training runs of X and X-D in, the same probes and objects shown to all, differences with intervals out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MeasurementError
from ..features.identity import model_digests
from ..training.checkpoint import read_run_record
from ..training.recipe import Recipe
from .learning import common_probes, read_curve
from .pair_differences import PairDifference, pair_differences, verdicts
from .trained_models import HeldOut, TrainedModel, evaluate_run, evaluate_untrained

__all__ = ["PairRun", "common_curves", "compare_pair", "run_folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairRun:
    """What X and X-D gave, and what they began as, on what they were held out from.

    Attributes:
        recipes: of X and X-D for each seed, in turn.
        models: what each run gave: the untrained networks first, then X and X-D of each seed in turn.
        differences: X-D minus X, and each minus the untrained networks.
        verdicts: what has to be known before any of it is believed.
    """

    recipes: Sequence[Recipe]
    models: Sequence[TrainedModel]
    differences: Sequence[PairDifference]
    verdicts: Sequence[str]


def compare_pair(out: Path, recipes: Sequence[Recipe], held_out: HeldOut, *, device: str = "auto") -> PairRun:
    """Measure all runs of `train-pair`, and what they began with, on the same probes and objects.

    Args:
        out: OUT/METHOD/seed-N holds each run.
        recipes: of X and X-D for each seed, in turn.
        held_out: what they are measured on.
        device: where they are measured.
    """
    models = [
        evaluate_run(
            run_folder(out, recipe), held_out, method=recipe.name, seed=recipe.run.seed, device=device, progress=True
        )
        for recipe in recipes
    ]
    # X and X-D of a seed begin with the same weights.
    try:
        _check_start(out, recipes)
        untrained = [evaluate_untrained(recipe, held_out, device=device, progress=True) for recipe in recipes[::2]]
    except MeasurementError as error:
        log.warning("No rows of what the runs began with: %s", error)
        untrained = []
    differences = pair_differences(models[::2], models[1::2], untrained)
    every = [*untrained, *models]
    return PairRun(recipes, every, differences, verdicts(models, differences))


def _check_start(out: Path, recipes: Sequence[Recipe]) -> None:
    """Raise `MeasurementError` if the model that runs went on from is another one by now."""
    for recipe in recipes:
        model = recipe.start.model
        if model and read_run_record(run_folder(out, recipe)).started != model_digests(model):
            raise MeasurementError(f"{model} has changed since {run_folder(out, recipe)} began with it.")


def run_folder(out: Path, recipe: Recipe) -> Path:
    """Return where a run of a pair lies."""
    # Not every file system takes the colon of MODULE:CLASS.
    return out / recipe.name.replace(":", ".") / f"seed-{recipe.run.seed}"


def common_curves(out: Path, recipes: Sequence[Recipe]) -> dict[str, list[Any]] | None:
    """Return the looks at all runs while they trained, by method; None unless all saw the same probes."""
    curves: dict[str, list[Any]] = {}
    for recipe in recipes:
        curves.setdefault(recipe.name, []).append(read_curve(run_folder(out, recipe)))
    every = [curve for of_method in curves.values() for curve in of_method]
    if not any(every):
        return None
    steps = [set.intersection(*({line["step"] for line in curve} for curve in part)) for part in curves.values()]
    if not all(steps) or not common_probes(every):
        log.warning("No curves.png: not all runs were looked at with the same probes after common steps.")
        return None
    return curves
