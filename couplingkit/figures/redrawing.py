"""A folder that a command wrote in, its figures out, drawn anew from its numbers in any style and width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ..errors import DataError, first_line
from ..runs.affinity_files import is_affinity, read_affinity
from ..runs.comparing import read_comparison
from ..runs.evaluation_files import is_evaluation, read_evaluations
from ..runs.learning import CURVE, read_curve
from ..runs.reading import read_run
from ..runs.relating import read_relation
from ..runs.survival import VISIBLE, read_visible
from ..runs.sweeping import points_of
from ..typed_files import read_json, read_json_lines
from .affinity_plots import MapLook, run_figure
from .comparison_plots import comparison_figure
from .pair_plots import pair_figure
from .plots import MOST_ROWS, coupling_figure
from .relation_plots import relation_figure
from .score_plots import score_figure
from .survival_plots import survival_figure
from .sweep_plots import sweep_figure
from .training_plots import coupling_curves, loss_figure

__all__ = ["Drawing", "drawings_of"]

LOG, MANIFEST = "metrics.jsonl", "probes.json"
Drawing = Callable[[float], Figure]


def drawings_of(folder: Path, look: MapLook | None = None) -> dict[str, tuple[str, Drawing]]:
    """Return the figures of a folder of any command: name -> (`column` or `page`, what draws it at a width in inches).

    Args:
        folder: of `measure`, `sweep`, `compare`, `evaluate`, `relate`, `affinity`, `masks`, `train`, `train-pair`
            or `demo`.
        look: how affinity maps are drawn; its width does not count.

    Raises:
        DataError: it is none of them, or not whole.
    """
    if not folder.is_dir():
        raise DataError(f"run {folder} is no folder; give one that a command wrote.")
    found: dict[str, tuple[str, Drawing]] = {}
    if is_affinity(folder):
        maps = read_affinity(folder)
        found["affinity"] = ("page", lambda width: run_figure(maps, look=replace(look or MapLook(), width_in=width)))
    for files, read in READERS:
        if all((folder / name).is_file() for name in files):
            return {**found, **read(folder)}
    if found and not (folder / MANIFEST).is_file():
        return found
    if not (folder / "summary.json").is_file():
        raise DataError(f"run {folder} holds nothing that a figure is drawn of; give a folder that a command wrote.")
    return {**found, **_of_rows(folder)}


def _of_rows(folder: Path) -> dict[str, tuple[str, Drawing]]:
    """Return the figures of a measurement, a sweep or an evaluation."""
    if is_evaluation(folder):
        scores = read_evaluations(folder).evaluations
        return {"scores": ("page", lambda width: score_figure(scores, width_in=width))}
    run = read_run(folder)
    if not run.swept:
        usual = "column" if len(run.measurements) <= MOST_ROWS else "page"
        return {"coupling": (usual, lambda width: coupling_figure(run.measurements, width_in=width))}
    points = points_of(run)
    return {
        f"sweep-{axis}": (
            "column",
            partial(_sweep, [point for point in points if point.axis == axis]),
        )
        for axis in dict.fromkeys(point.axis for point in points)
    }


def _sweep(points: list, width: float) -> Figure:
    return sweep_figure(points, width_in=width)


def _of_comparison(folder: Path) -> dict[str, tuple[str, Drawing]]:
    comparison = read_comparison(folder)
    return {"comparison": ("column", lambda width: comparison_figure(comparison, width_in=width))}


def _of_score_comparison(folder: Path) -> dict[str, tuple[str, Drawing]]:
    document = read_json(folder / "summary.json", dict, "summary")
    places = [Path(str(place)) for place in document.get("runs", [])]
    scores = [one for place in places for one in read_evaluations(place).evaluations]
    if not scores:
        raise DataError(f"comparison {folder} names no run of `evaluate`; make it anew.")
    return {"scores": ("page", lambda width: score_figure(scores, width_in=width))}


def _of_relation(folder: Path) -> dict[str, tuple[str, Drawing]]:
    relation = read_relation(folder)
    return {"relation": ("page", lambda width: relation_figure(relation, width_in=width))}


def _of_pair(folder: Path) -> dict[str, tuple[str, Drawing]]:
    try:
        runs = pd.read_csv(folder / "runs.csv")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / 'runs.csv'} cannot be read ({first_line(error)}).") from error
    return {"pair": ("column", lambda width: pair_figure(runs, width_in=width))}


def _of_masks(folder: Path) -> dict[str, tuple[str, Drawing]]:
    visible = read_visible(folder)
    return {"survival": ("page", lambda width: survival_figure(visible, width_in=width))}


def _of_training(folder: Path) -> dict[str, tuple[str, Drawing]]:
    found: dict[str, tuple[str, Drawing]] = {}
    lines = read_json_lines(folder / LOG, dict[str, float])
    if lines:
        found["loss"] = ("column", lambda width: loss_figure(lines, width_in=width))
    if (folder / CURVE).is_file():
        curve = read_curve(folder)
        found["coupling"] = ("column", lambda width: coupling_curves({folder.name: [curve]}, width_in=width))
    return found


# Files that tell a folder, and what reads its figures; the first that fits.
READERS: tuple[tuple[tuple[str, ...], Callable[[Path], dict[str, tuple[str, Drawing]]]], ...] = (
    (("comparison.csv", "groups.csv"), _of_comparison),
    (("comparison.csv",), _of_score_comparison),
    (("points.csv", "relations.csv"), _of_relation),
    (("runs.csv", "differences.csv"), _of_pair),
    ((VISIBLE,), _of_masks),
    ((LOG,), _of_training),
)
