"""A run that trains and some probes in, its coupling rate over the steps out: a line a look, and the rows behind it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..data.coco import CocoIndex, read_instances
from ..data.kept_scenes import kept_scenes
from ..errors import ArgumentError, DataError, MeasurementError, first_line
from ..evaluation.object_knn import KnnSettings, object_knn
from ..features.backbone import DenseBackbone
from ..features.loading import load_backbone
from ..files import new_file
from ..metrics.quantities import shown_in
from ..probes.probeset import ProbeSet
from ..study.measurement import Measurement
from ..study.measuring import measure
from ..study.rows import file_rows
from ..training.callbacks import Trackers, Watch
from ..words import as_path

__all__ = [
    "CURVE",
    "SCENES_SEED",
    "Shown",
    "WatchSettings",
    "common_probes",
    "look_at",
    "probe_files",
    "read_curve",
    "watching",
]

log = logging.getLogger(__name__)
CURVE = "coupling.csv"
KNN = "knn"
LOOK_OBJECTS = 400
ROWS = "coupling"
NEEDED = ("step", "fingerprint", "cr", "similarity_true")
SCENES = 300
# Other pictures than those of any run: their seed is the training's, which nobody sets this high.
SCENES_SEED = 20_240_507


@dataclass(frozen=True)
class WatchSettings:
    """How a run is looked at while it trains.

    Attributes:
        probe_every: steps between looks at the coupling rate; None never looks.
        probes: how many it is shown.
        probe_annotations: instances JSON that the probes are cut out of; built-in scenes by default.
        probe_images: folder of its photos.
        trackers: that the log is passed on to, of `TRACKERS`.
    """

    probe_every: int | None = None
    probes: int = 100
    probe_annotations: str | None = None
    probe_images: str | None = None
    trackers: tuple[str, ...] = ()


@contextmanager
def watching(
    out: Path, done: int, settings: WatchSettings, *, device: str, draw: Callable[[Path], None] | None = None
) -> Iterator[Watch]:
    """Give what looks at a run in its first process, which has made `done` steps.

    Args:
        out: the run folder.
        done: steps.
        settings: how it is looked at.
        device: where its networks are measured.
        draw: called with the run folder after each look, to draw its curve.

    Raises:
        ArgumentError: a tracker is not installed, or only one of the two paths of the probes is given.
        DataError: the probes cannot be made.
    """
    every = settings.probe_every or 0
    if os.environ.get("RANK", "0") != "0":
        yield Watch(every=every)
        return
    with ExitStack() as held:
        trackers = Trackers(settings.trackers, out, done)
        held.callback(trackers.close)
        shown = _shown(settings, held) if every else None

        def look(step: int, weights: Path) -> None:
            if shown is None:
                return
            try:
                line = look_at(out, step, weights, shown, device=device)
            except MeasurementError as error:
                # A network that has not learnt yet, or has collapsed, need not give a map; it may go on learning.
                log.warning("Step %d is not measured: %s", step, error)
                return
            if draw is not None:
                draw(out)
            names = [*(quantity.name for quantity in shown_in("curve")), KNN]
            trackers.add({f"coupling/{name}": line[name] for name in names if name in line}, step)

        yield Watch(line=trackers.line, look=look, every=every)


@dataclass(frozen=True)
class Shown:
    """What a network is looked at with.

    Attributes:
        probes: of the coupling.
        index: the objects that are told apart.
        images: folder of their photos.
    """

    probes: ProbeSet
    index: CocoIndex
    images: Path


def _shown(settings: WatchSettings, held: ExitStack) -> Shown:
    scratch = Path(held.enter_context(TemporaryDirectory(prefix="couplingkit-scenes-")))
    annotations, images = probe_files(settings.probe_annotations, settings.probe_images, scratch)
    probes = ProbeSet.from_coco(annotations, images, count=settings.probes, seed=0)
    return Shown(probes, read_instances(annotations), images)


def probe_files(
    annotations: str | Path | None, images: str | Path | None, scratch: Path, *, progress: bool = True
) -> tuple[Path, Path]:
    """Return the instances JSON and the photos that were given; without any, built-in scenes, drawn in `scratch`."""
    if (annotations is None) != (images is None):
        raise ArgumentError("`probe_annotations` and `probe_images` go together; give both, or none.")
    if annotations is not None and images is not None:
        return as_path(annotations), as_path(images)
    return kept_scenes(SCENES, SCENES_SEED, scratch=scratch / "scenes", progress=progress)


def look_at(run: Path, step: int, weights: Path, shown: Shown, *, device: str = "auto") -> dict[str, Any]:
    """Measure a network of a run; write its rows, add a line to the run's `coupling.csv` and return it.

    Beside the coupling stands what it is to be weighed against: how many objects have a neighbour of their category.

    A line of the same step, or of later ones (which a run that was stopped makes again), is replaced.

    Args:
        run: the run folder.
        step: steps that are done.
        weights: of the network.
        shown: what it is shown, the same at each look.
        device: where it is measured.

    Raises:
        MeasurementError: no probe can be measured, or features are not finite.
        OutputError: the disk refuses.
    """
    backbone = load_backbone(str(weights), device=device)
    measured = measure(backbone, shown.probes)
    with new_file(run / ROWS / f"step-{step:08d}.csv", mark=None) as draft:
        file_rows(measured.rows, measured.eps).assign(model=f"step {step}").to_csv(draft, index=False)
    lines = [line for line in read_curve(run) if line["step"] < step]
    line = _line(step, measured) | _objects(backbone, shown)
    with new_file(run / CURVE, mark=None) as draft:
        pd.DataFrame([*lines, line]).to_csv(draft, index=False)
    return line


def _objects(backbone: DenseBackbone, shown: Shown) -> dict[str, float]:
    try:
        found = object_knn(backbone, shown.index, shown.images, KnnSettings(count=LOOK_OBJECTS))
    except (MeasurementError, DataError) as error:
        log.warning("Objects are not told apart: %s", error)
        return {}
    value = found.accuracy
    return {KNN: value.value, f"{KNN}_low": value.low, f"{KNN}_high": value.high, "chance": found.chance}


def read_curve(run: Path) -> list[dict[str, float]]:
    """Return the lines of a run's `coupling.csv`, first step first; none where nobody looked.

    Each has `step`, `probes`, `measured`, `fingerprint` and, of each statistic, its value, NAME_low and NAME_high.

    Raises:
        DataError: the file is not whole.
    """
    path = run / CURVE
    if not path.exists():
        return []
    try:
        table = pd.read_csv(path)
        if not pd.api.types.is_integer_dtype(table["step"]) or table[[*NEEDED]].isna().any(axis=None):
            raise ValueError("a line of it is not whole")
        lines = table.sort_values("step").to_dict(orient="records")
        return [{str(name): value for name, value in line.items()} for line in lines]
    except (OSError, ValueError, KeyError) as error:
        why = first_line(error)
        raise DataError(f"coupling curve {path} cannot be read ({why}); delete it to begin a new one.") from error


def common_probes(curves: Sequence[Sequence[dict[str, Any]]]) -> bool:
    """Return whether all looks of several runs were at the same probes, so that their curves may stand side by side."""
    return len({line["fingerprint"] for curve in curves for line in curve}) <= 1


def _line(step: int, found: Measurement) -> dict[str, Any]:
    summary = found.summary
    line: dict[str, Any] = {"step": step, "probes": summary.probes, "measured": summary.measured}
    line["fingerprint"] = found.provenance["probes"]["fingerprint"]
    for name, estimate in summary.estimates.items():
        line |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return line
