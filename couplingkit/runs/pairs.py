"""Training runs of X and X-D in, the same probes and objects shown to all, differences with intervals out."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.coco import CocoIndex
from ..errors import ArgumentError
from ..evaluation.object_knn import KnnSettings, ObjectKnn, object_knn
from ..features.loading import load_backbone
from ..metrics.bootstrap import Estimate, Statistic, intervals, mean_statistic
from ..metrics.quantities import Quantity, shown_in
from ..metrics.seeds import over_seeds
from ..probes.probeset import ProbeSet
from ..streams import Stream
from ..study.measurement import Measurement
from ..study.measuring import measure
from ..training.recipe import Recipe
from ..typed_files import Record, read_json_lines
from .learning import common_probes, read_curve

__all__ = [
    "HeldOut",
    "PairDifference",
    "PairRun",
    "TrainedModel",
    "common_curves",
    "compare_pair",
    "evaluate_run",
    "pair_differences",
    "run_folder",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedModel:
    """What one training run gave.

    Attributes:
        method: like `ibot-d`.
        seed: of the run.
        measurement: of its coupling.
        objects: its object-level nearest neighbours.
        steps_per_s: median over the run.
    """

    method: str
    seed: int
    measurement: Measurement
    objects: ObjectKnn
    steps_per_s: float


@dataclass(frozen=True)
class PairDifference:
    """X-D minus X, paired.

    Attributes:
        quantity: a quantity's `difference`, or `accuracy` (of objects).
        seeds: which one, or `all`: the mean over the seeds.
        estimate: of one seed, with an interval over the photos of the probes (or objects), which says nothing of other
            seeds; of all, with Student's interval over the seeds, which is what can be said of the method.
        scenes: the interval over photos; of all seeds, that of their mean.
        count: probes or objects that both models measured.
    """

    quantity: str
    seeds: str
    estimate: Estimate
    scenes: Estimate
    count: int


@dataclass(frozen=True)
class HeldOut:
    """What trained models are measured on: probes, and the objects that are classified.

    Attributes:
        probes: the same for all runs that are compared.
        index: the objects.
        images: folder of their photos.
        objects: how many are classified; all by default.
    """

    probes: ProbeSet
    index: CocoIndex
    images: Path
    objects: int | None = None


def evaluate_run(
    run: Path, held_out: HeldOut, *, method: str, seed: int, device: str = "auto", progress: bool = False
) -> TrainedModel:
    """Measure the last checkpoint of a run: coupling on probes, nearest neighbours on the objects of photos.

    Args:
        run: the run folder.
        held_out: what it is measured on.
        method: of the run.
        seed: of the run.
        device: auto, cpu, cuda.
        progress: whether to show bars.
    """
    backbone = load_backbone(str(run), device=device)
    backbone.name = f"{method}, seed {seed}"
    settings = KnnSettings(count=held_out.objects)
    return TrainedModel(
        method=method,
        seed=seed,
        measurement=measure(backbone, held_out.probes, progress=progress),
        objects=object_knn(backbone, held_out.index, held_out.images, settings, progress=progress),
        steps_per_s=_steps_per_s(run),
    )


def pair_differences(
    plain: Sequence[TrainedModel], decoupled: Sequence[TrainedModel], *, level: float = 0.95
) -> list[PairDifference]:
    """Return X-D minus X per quantity that is compared, and of the accuracy: for each seed, and over all.

    Args:
        plain: runs of X.
        decoupled: runs of X-D, of the same seeds in the same order.
        level: of the intervals.

    Raises:
        ArgumentError: the seeds are not the same, or the models were shown different probes.
    """
    seeds = [model.seed for model in plain]
    if not seeds or seeds != [model.seed for model in decoupled]:
        raise ArgumentError(
            f"decoupled must have the seeds of plain, {seeds}, but has {[model.seed for model in decoupled]}."
        )
    shown = {str(model.measurement.provenance["probes"]["fingerprint"]) for model in (*plain, *decoupled)}
    if len(shown) > 1:
        raise ArgumentError("the runs were measured on different probes; only the same ones can be paired.")
    found = []
    for name, statistic_of in _effects(plain, decoupled).items():
        photos = _photos(plain[0], name)
        stream = Stream(0).child("bootstrap", "pair", name)
        pairs = [[statistic_of(model) for model in both] for both in zip(decoupled, plain, strict=True)]
        # (2 of a pair, columns, N): rows that every model measured, so that all seeds are judged by the same ones.
        columns = np.array([column for pair in pairs for one in pair for column in one.columns()])
        kept = np.asarray(~np.isnan(columns).any(axis=0))
        if not kept.any():
            continue
        gaps = [_gap(first, second, kept) for first, second in pairs]
        count = int(kept.sum())
        of_seeds = intervals(gaps, photos[kept], stream, level=level)
        for seed, estimate in zip(seeds, of_seeds, strict=True):
            found.append(PairDifference(name, str(seed), estimate, estimate, count))
        if len(seeds) > 1:
            (scenes,) = intervals([mean_statistic(gaps)], photos[kept], stream, level=level)
            every = over_seeds([gap.value() for gap in gaps], level=level)
            found.append(PairDifference(name, "all", every, scenes, count))
    return found


def _gap(first: Statistic, second: Statistic, kept: NDArray[np.bool_]) -> Statistic:
    """Return a statistic of X-D minus that of X, over some rows."""
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

    def correct(model: TrainedModel) -> Statistic:
        return Statistic(model.objects.rows["correct"].to_numpy(dtype=np.float64, na_value=np.nan))

    return {quantity.difference: partial(of_rows, quantity) for quantity in known} | {"accuracy": correct}


def _photos(model: TrainedModel, name: str) -> NDArray[np.int64]:
    if name == "accuracy":
        return model.objects.rows["image"].to_numpy(dtype=np.int64)[:, None]
    return model.measurement.source_images[:, :2]


def _steps_per_s(run: Path) -> float:
    seconds = [line.seconds for line in read_json_lines(run / "metrics.jsonl", _Timed)]
    return 1 / statistics.median(seconds) if seconds else float("nan")


class _Timed(Record, frozen=True):
    seconds: float


@dataclass(frozen=True)
class PairRun:
    """What X and X-D gave, on what they were held out from.

    Attributes:
        recipes: of X and X-D for each seed, in turn.
        models: what each run gave, in the same order.
        differences: X-D minus X.
    """

    recipes: Sequence[Recipe]
    models: Sequence[TrainedModel]
    differences: Sequence[PairDifference]


def compare_pair(out: Path, recipes: Sequence[Recipe], held_out: HeldOut, *, device: str = "auto") -> PairRun:
    """Measure all runs of `train-pair` on the same probes and objects.

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
    return PairRun(recipes, models, pair_differences(models[::2], models[1::2]))


def run_folder(out: Path, recipe: Recipe) -> Path:
    """Return where a run of a pair lies."""
    return out / recipe.name / f"seed-{recipe.run.seed}"


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
