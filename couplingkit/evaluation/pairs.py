"""Training runs of X and X-D in, the same probes and objects shown to all, differences with intervals out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.coco import CocoIndex
from ..errors import ArgumentError
from ..features.loading import load_backbone
from ..files import read_json_lines
from ..metrics.bootstrap import Estimate
from ..metrics.summary import STATISTICS, paired_difference
from ..probes.probeset import ProbeSet
from ..streams import Stream
from ..study import Measurement, measure
from .object_knn import ObjectKnn, object_knn

__all__ = ["PairDifference", "TrainedModel", "difference_table", "evaluate_run", "pair_differences", "run_table"]

# Quantity -> what a difference of it is.
QUANTITIES = {
    "cr_mean": "mean coupling rate",
    "ln_cr": "mean of ln(coupling rate): the difference of ln(cr_geomean)",
    "specificity": "mean coupling rate minus that with a third object in the neighbour's place",
    "displacement": "mean angle by which A's feature moved, rad",
    "accuracy": "share of objects whose nearest neighbour is of their category",
}


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
        quantity: of `QUANTITIES`.
        seeds: which one, or `all`: each probe's mean over the seeds.
        estimate: with an interval over the photos of the probes (or objects); it says nothing of other seeds.
        count: probes or objects that both models measured.
    """

    quantity: str
    seeds: str
    estimate: Estimate
    count: int


def evaluate_run(
    run: Path,
    probes: ProbeSet,
    index: CocoIndex,
    images: Path,
    *,
    method: str,
    seed: int,
    objects: int | None = None,
    device: str = "auto",
    progress: bool = False,
) -> TrainedModel:
    """Measure the last checkpoint of a run: coupling on probes, nearest neighbours on the objects of photos.

    Args:
        run: the run folder.
        probes: the same for all runs that are compared.
        index: the objects that are classified.
        images: folder of their photos.
        method: of the run.
        seed: of the run.
        objects: how many are classified; all by default.
        device: auto, cpu, cuda.
        progress: whether to show bars.
    """
    backbone = load_backbone(str(run), device=device)
    backbone.name = f"{method}, seed {seed}"
    return TrainedModel(
        method=method,
        seed=seed,
        measurement=measure(backbone, probes, progress=progress),
        objects=object_knn(backbone, index, images, count=objects, progress=progress),
        steps_per_s=_steps_per_s(run),
    )


def pair_differences(
    plain: Sequence[TrainedModel], decoupled: Sequence[TrainedModel], *, level: float = 0.95
) -> list[PairDifference]:
    """Return X-D minus X per quantity of `QUANTITIES`: for each seed, and over all.

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
    for quantity in QUANTITIES:
        first, second = (np.stack([_values(model, quantity) for model in models]) for models in (decoupled, plain))
        photos = _photos(plain[0], quantity)
        every = [("all", first.mean(axis=0), second.mean(axis=0))] if len(seeds) > 1 else []
        for name, one, other in [*zip(map(str, seeds), first, second, strict=True), *every]:
            stream = Stream(0).child("bootstrap", "pair", quantity)
            found.append(PairDifference(quantity, name, *paired_difference(one, other, photos, stream, level=level)))
    return found


def run_table(models: Sequence[TrainedModel]) -> pd.DataFrame:
    """Return one row a run: its numbers with their bounds (`NAME`, `NAME_low`, `NAME_high`)."""
    rows = []
    for model in models:
        summary, accuracy = model.measurement.summary, model.objects.accuracy
        row: dict[str, object] = {"method": model.method, "seed": model.seed}
        found = {name: summary.estimates[name] for name in STATISTICS if name in summary.estimates}
        for name, estimate in {**found, "accuracy": accuracy}.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        counts = {"probes": summary.probes, "measured": summary.measured, "objects": len(model.objects.rows)}
        rows.append(row | counts | {"chance": model.objects.chance, "steps_per_s": model.steps_per_s})
    return pd.DataFrame(rows)


def difference_table(differences: Sequence[PairDifference]) -> pd.DataFrame:
    """Return one row a difference."""
    return pd.DataFrame(
        [{"quantity": one.quantity, "seed": one.seeds, **vars(one.estimate), "count": one.count} for one in differences]
    )


def _values(model: TrainedModel, quantity: str) -> NDArray[np.float64]:
    """Return a quantity of each probe or object, NaN where it could not be measured."""
    if quantity == "accuracy":
        return model.objects.rows["correct"].to_numpy(dtype=np.float64, na_value=np.nan)
    if quantity == "ln_cr":
        return np.log(model.measurement.cr)
    if quantity == "specificity":
        control = model.measurement.rows["cr_control"].to_numpy(dtype=np.float64, na_value=np.nan)
        found: NDArray[np.float64] = model.measurement.cr - control
        return found
    column = {"cr_mean": "cr"}.get(quantity, quantity)
    return model.measurement.rows[column].to_numpy(dtype=np.float64, na_value=np.nan)


def _photos(model: TrainedModel, quantity: str) -> NDArray[np.int64]:
    if quantity == "accuracy":
        return model.objects.rows["image"].to_numpy(dtype=np.int64)[:, None]
    # The control's object comes from a third photo.
    return model.measurement.source_images[:, : 3 if quantity == "specificity" else 2]


def _steps_per_s(run: Path) -> float:
    seconds = [line["seconds"] for line in read_json_lines(run / "metrics.jsonl")]
    return 1 / statistics.median(seconds) if seconds else float("nan")
