"""Training runs in, what each gave out: coupling on probes, objects told apart, the untrained network beside it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..data.coco import CocoIndex
from ..errors import DataError
from ..evaluation.object_knn import KnnSettings, ObjectKnn, neighbours_of
from ..evaluation.object_linear import LinearSettings, ObjectLinear, separated
from ..evaluation.object_vectors import ObjectSettings, object_vectors
from ..features.loading import load_backbone
from ..probes.probeset import ProbeSet
from ..study.measurement import Measurement
from ..study.measuring import measure
from ..training.checkpoint import write_branches
from ..training.recipe import Recipe, build_method
from ..training.starting import load_start
from ..typed_files import Record, read_json_lines

__all__ = ["START", "UNTRAINED", "HeldOut", "TrainedModel", "check_photos", "evaluate_run", "evaluate_untrained"]

# What stands in a table for the networks that runs begin with: random ones, or a model that they go on from.
UNTRAINED, START = "untrained", "start"


@dataclass(frozen=True)
class TrainedModel:
    """What one training run gave.

    Attributes:
        method: like `ibot-d`.
        seed: of the run.
        measurement: of its coupling.
        objects: its object-level nearest neighbours.
        linear: its objects told apart by planes.
        steps_per_s: median over the run.
    """

    method: str
    seed: int
    measurement: Measurement
    objects: ObjectKnn
    linear: ObjectLinear
    steps_per_s: float


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


def check_photos(index: CocoIndex) -> None:
    """Raise `DataError` if objects are on too few photos to be told apart by planes, before hours of training."""
    photos, fewest = len({record.image_id for record in index.objects}), LinearSettings().fewest_photos
    if photos < fewest:
        raise DataError(
            f"annotations have objects on {photos} photos, but trained pairs are compared on {fewest} or more."
        )


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
    count = held_out.objects
    objects = object_vectors(backbone, held_out.index, held_out.images, ObjectSettings(count=count), progress=progress)
    return TrainedModel(
        method=method,
        seed=seed,
        measurement=measure(backbone, held_out.probes, progress=progress),
        objects=neighbours_of(objects, KnnSettings(count=count)),
        linear=separated(objects, LinearSettings(count=count)),
        steps_per_s=_steps_per_s(run),
    )


def evaluate_untrained(
    recipe: Recipe, held_out: HeldOut, *, device: str = "auto", progress: bool = False
) -> TrainedModel:
    """Measure what a run begins with: the network of its recipe before the first step, or the model it starts from.

    Args:
        recipe: of the run.
        held_out: what it is measured on.
        device: auto, cpu, cuda.
        progress: whether to show bars.
    """
    method = build_method(recipe)
    if recipe.start.model:
        load_start(method, recipe)
    with TemporaryDirectory(prefix="couplingkit-untrained-") as folder:
        write_branches(Path(folder), recipe, method)
        weights = Path(folder) / f"{method.evaluated}.safetensors"
        name = START if recipe.start.model else UNTRAINED
        return evaluate_run(weights, held_out, method=name, seed=recipe.run.seed, device=device, progress=progress)


def _steps_per_s(run: Path) -> float:
    log_file = run / "metrics.jsonl"
    seconds = [line.seconds for line in read_json_lines(log_file, _Timed)] if run.is_dir() else []
    return 1 / statistics.median(seconds) if seconds else float("nan")


class _Timed(Record, frozen=True):
    seconds: float
