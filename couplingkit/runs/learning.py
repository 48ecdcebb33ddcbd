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

from ..data.scenes import write_scenes
from ..errors import ArgumentError, DataError, MeasurementError, first_line
from ..features.loading import load_backbone
from ..files import new_file
from ..metrics.quantities import shown_in
from ..probes.probeset import ProbeSet
from ..study.measurement import Measurement
from ..study.measuring import measure
from ..study.rows import file_rows
from ..training.callbacks import TensorBoard, Watch
from ..words import as_path

__all__ = [
    "CURVE",
    "SCENES_SEED",
    "WatchSettings",
    "common_probes",
    "look_at",
    "probe_files",
    "read_curve",
    "watching",
]

log = logging.getLogger(__name__)
CURVE = "coupling.csv"
ROWS = "coupling"
NEEDED = ("step", "fingerprint", "cr", "similarity_true_low")
SCENES = 120
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
        tensorboard: whether the log is written for TensorBoard, too.
    """

    probe_every: int | None = None
    probes: int = 100
    probe_annotations: str | None = None
    probe_images: str | None = None
    tensorboard: bool = False


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
        ArgumentError: TensorBoard is not installed, or only one of the two paths of the probes is given.
        DataError: the probes cannot be made.
    """
    every = settings.probe_every or 0
    if os.environ.get("RANK", "0") != "0":
        yield Watch(every=every)
        return
    with ExitStack() as held:
        board = TensorBoard(out / "tensorboard", done) if settings.tensorboard else None
        if board is not None:
            held.callback(board.close)
        probes = _probes(settings, held) if every else None

        def look(step: int, weights: Path) -> None:
            if probes is None:
                return
            try:
                measured = look_at(out, step, weights, probes, device=device)
            except MeasurementError as error:
                # A network that has not learnt yet, or has collapsed, need not give a map; it may go on learning.
                log.warning("Step %d is not measured: %s", step, error)
                return
            if draw is not None:
                draw(out)
            if board is not None:
                for quantity in shown_in("curve"):
                    if quantity.name in measured.summary.estimates:
                        board.add(f"coupling/{quantity.name}", getattr(measured.summary, quantity.name), step)

        yield Watch(line=board.line, look=look, every=every) if board else Watch(look=look, every=every)


def _probes(settings: WatchSettings, held: ExitStack) -> ProbeSet:
    scratch = Path(held.enter_context(TemporaryDirectory(prefix="couplingkit-scenes-")))
    files = probe_files(settings.probe_annotations, settings.probe_images, scratch)
    return ProbeSet.from_coco(*files, count=settings.probes, seed=0)


def probe_files(
    annotations: str | Path | None, images: str | Path | None, scratch: Path, *, progress: bool = True
) -> tuple[Path, Path]:
    """Return the instances JSON and the photos that were given; without any, built-in scenes, drawn in `scratch`."""
    if (annotations is None) != (images is None):
        raise ArgumentError("`probe_annotations` and `probe_images` go together; give both, or none.")
    if annotations is not None and images is not None:
        return as_path(annotations), as_path(images)
    return write_scenes(scratch / "scenes", count=SCENES, seed=SCENES_SEED, progress=progress)


def look_at(run: Path, step: int, weights: Path, probes: ProbeSet, *, device: str = "auto") -> Measurement:
    """Measure a network of a run; write its rows and add a line to the run's `coupling.csv`.

    A line of the same step, or of later ones (which a run that was stopped makes again), is replaced.

    Args:
        run: the run folder.
        step: steps that are done.
        weights: of the network.
        probes: what it is shown, the same at each look.
        device: where it is measured.

    Raises:
        MeasurementError: no probe can be measured, or features are not finite.
        OutputError: the disk refuses.
    """
    measured = measure(load_backbone(str(weights), device=device), probes)
    with new_file(run / ROWS / f"step-{step:08d}.csv", mark=None) as draft:
        file_rows(measured.rows, measured.eps).assign(model=f"step {step}").to_csv(draft, index=False)
    lines = [line for line in read_curve(run) if line["step"] < step]
    with new_file(run / CURVE, mark=None) as draft:
        pd.DataFrame([*lines, _line(step, measured)]).to_csv(draft, index=False)
    return measured


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
