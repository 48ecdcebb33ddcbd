"""Evaluations in, a figure of scores out: one panel a task, floor and ceiling in each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.scores import Evaluation
from ..evaluation.task import SCORES
from .evaluation_tables import by_task
from .labels import broken_labels
from .style import INK, MARK, PAGE_IN, PaperFigure, figure_rc

__all__ = ["score_figure"]

ROW_IN, FOOT_IN = 0.17, 0.75
# Room for the names of models, inches.
NAMES_IN = 1.6
MOST_PANELS = 3
RANDOM = "random:"


def score_figure(evaluations: Sequence[Evaluation], *, width_in: float = PAGE_IN) -> Figure:
    """Draw each model's scores with their intervals over photos; open marks are random networks.

    Args:
        evaluations: of several models, in one task or several.
        width_in: inches.
    """
    tasks = by_task(evaluations)
    models = list(dict.fromkeys(one.name for one in evaluations))
    columns = min(MOST_PANELS, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, rows * (ROW_IN * len(models) + FOOT_IN)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, (task, own) in zip(panels, tasks.items(), strict=False):
            _draw(axes, task, own, models)
        panels[0].set_yticks(range(len(models)), broken_labels(models, NAMES_IN))
        panels[0].set_ylim(len(models) - 0.5, -0.5)
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
    return figure


def _draw(axes: Axes, task: str, evaluations: Sequence[Evaluation], models: Sequence[str]) -> None:
    for one in evaluations:
        height, colour = models.index(one.name), INK
        is_random = one.name.startswith(RANDOM)
        low, value, high = (100 * end for end in (one.score.low, one.score.value, one.score.high))
        axes.hlines(height, low, high, color=colour, linewidth=1.1)
        axes.plot(value, height, "o", color=colour, markersize=3.8, markerfacecolor="white" if is_random else colour)
        if not math.isnan(one.ceiling):
            axes.plot(100 * one.ceiling, height, "|", color=MARK, markersize=6)
    floors = {100 * one.floor for one in evaluations if not math.isnan(one.floor)}
    for floor in floors:
        axes.axvline(floor, color="#888888", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    axes.set_title(SCORES[task].title)
    axes.set_xlabel("%")
    axes.set_xlim(left=0)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
