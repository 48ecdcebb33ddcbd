"""Evaluations and measurements in, what a report says of scores out: their table, their figure, and the relation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from ..errors import CouplingKitError
from ..evaluation.task import SCORES
from ..runs.evaluation_files import EvaluationRun
from ..runs.relating import relate
from ..study.measurement import Measurement
from .evaluation_tables import by_task, data_facts, how_trained, percent_text
from .labels import short_labels
from .relation_plots import relation_figure, relation_text
from .score_plots import score_figure

__all__ = ["score_sections"]

FIGURE_IN = 6.2
OF_FROZEN = (
    "red strokes: true labels at the cells' resolution; dotted: the commonest class, or the whole photo as a box."
)


def score_sections(
    runs: Sequence[EvaluationRun], measurements: Sequence[Measurement], draw: Callable[[Figure], str]
) -> list[dict[str, Any]]:
    """Return what the page says of each evaluation.

    Args:
        runs: as they are read.
        measurements: of the same page; those of the same networks stand beside the scores.
        draw: makes a picture's address of a figure.
    """
    return [_section(run, measurements, draw) for run in runs]


def _section(run: EvaluationRun, measurements: Sequence[Measurement], draw: Callable[[Figure], str]) -> dict[str, Any]:
    tasks = by_task(run.evaluations)
    data, trained = run.evaluations[0].provenance["data"], how_trained(run)
    rows = []
    for model, label in zip(run.models, short_labels(run.models), strict=True):
        found = [run.of(model, task) for task in tasks]
        cells = [{"text": percent_text(one.score), "sort": repr(one.score.value)} if one else _EMPTY for one in found]
        rows.append([{"text": label, "sort": label.lower()}, *cells])
    floors = [{"text": percent_floor(own), "sort": "0"} for own in tasks.values()]
    return {
        "name": run.title,
        "title": "Scores of what was trained on the networks" if trained else "Scores of frozen features",
        "command": run.command,
        "failures": run.failures,
        "facts": f"{data_facts(data)} Scores in %; brackets: 95 % over photos, of these networks; "
        + (" ".join(trained) if trained else OF_FROZEN),
        "head": ["model", *(SCORES[task].title for task in tasks)],
        "rows": [*rows, [{"text": "(floor)", "sort": "~"}, *floors]],
        "figure": draw(score_figure(run.evaluations, width_in=FIGURE_IN)),
        "relation": _relation(run, measurements, draw),
    }


_EMPTY = {"text": "-", "sort": ""}


def percent_floor(evaluations: Sequence[Any]) -> str:
    """Return the floor of a task in per cent, or its range over the models."""
    values = sorted({f"{100 * one.floor:.1f}" for one in evaluations})
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _relation(
    run: EvaluationRun, measurements: Sequence[Measurement], draw: Callable[[Figure], str]
) -> dict[str, str] | None:
    """Return the figure and the numbers of scores over coupling; None where no model has both."""
    try:
        found = relate(list(measurements), run.evaluations)
    except CouplingKitError:
        return None
    return {"figure": draw(relation_figure(found, width_in=FIGURE_IN)), "text": relation_text(found, "table")}
