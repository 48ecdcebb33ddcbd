"""A relation of scores and coupling in, its figure and its table out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.relating import RelatedModel, Relation
from ..evaluation.task import SCORES
from ..metrics.ranks import FEWEST_FAMILIES
from ..runs.relating import QUANTITIES, RelationRun
from .labels import broken_labels
from .style import COLOURS, MARKS, PAGE_IN, PaperFigure, figure_rc
from .text_tables import as_text

__all__ = ["relation_figure", "relation_text"]

PANEL_IN = 1.7
ARROW = {"arrowstyle": "->", "color": "#444444", "lw": 0.9}
TITLES = {"cr_mean": "cr_mean", "specificity": "specificity", "displacement": "displacement, rad"}


def relation_figure(run: RelationRun, *, width_in: float = PAGE_IN) -> Figure:
    """Draw each score over each quantity: bars both ways, an arrow from X to X-D, open marks where rates are clipped.

    Args:
        run: of the models.
        width_in: inches.
    """
    tasks = list(dict.fromkeys(relation.task for relation in run.relations))
    families = list(dict.fromkeys(one.family for one in run.models))
    looks = {name: (COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]) for place, name in enumerate(families)}
    legend_in = 0.15 * math.ceil(len(families) / 2) + 0.1
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, PANEL_IN * len(tasks) + legend_in), layout="constrained")
        panels = figure.subplots(len(tasks), len(QUANTITIES), squeeze=False, sharex="col", sharey="row")
        for row, task in enumerate(tasks):
            for column, quantity in enumerate(QUANTITIES):
                relation = next(one for one in run.relations if (one.task, one.quantity) == (task, quantity))
                _draw(panels[row, column], relation, run.models, looks)
            panels[row, 0].set_ylabel(f"{SCORES[task].title} %")
        for column, quantity in enumerate(QUANTITIES):
            panels[-1, column].set_xlabel(TITLES[quantity])
        handles = [
            panels[0, 0].plot([], [], mark, color=colour, markersize=4, label=label)[0]
            for label, (colour, mark) in zip(broken_labels(families, width_in / 2 - 0.5), looks.values(), strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
    return figure


def _draw(axes: Axes, relation: Relation, models: Sequence[RelatedModel], looks: dict[str, tuple[str, str]]) -> None:
    places = {}
    for one in models:
        if one.name not in relation.models:
            continue
        x, y = one.coupling[relation.quantity], one.scores[relation.task]
        colour, mark = looks[one.family]
        axes.hlines(100 * y.value, x.low, x.high, color=colour, linewidth=0.8)
        axes.vlines(x.value, 100 * y.low, 100 * y.high, color=colour, linewidth=0.8)
        face = "white" if one.clipped else colour
        axes.plot(x.value, 100 * y.value, mark, color=colour, markersize=4, markerfacecolor=face, zorder=3)
        places[one.name] = (x.value, 100 * y.value)
    for pair in relation.pairs:
        axes.annotate("", places[pair.decoupled], places[pair.plain], arrowprops=ARROW)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def relation_text(run: RelationRun, form: str, *, width: int | None = None) -> str:
    """Return the relations as text in one of the formats of `Format`: all models, within families, pairs."""
    rows = []
    for relation in run.relations:
        fewer, more = relation.signs
        rows.append(
            {
                "score": relation.task,
                "over": relation.quantity,
                "rho": _rho(relation),
                "within": _within(relation),
                "pairs up:down": f"{fewer}:{more}" if relation.pairs else "-",
            }
        )
    table = pd.DataFrame(rows)
    if form == "csv":
        return table.to_csv(index=False).rstrip()
    if form == "json":
        return str(table.to_json(orient="records", indent=1))
    text = as_text(table, form, width=width, lead=2)
    if form != "table":
        return text
    families = len({one.family for one in run.models})
    foot = [
        f"{len(run.models)} models of {families} families, scores on {run.data}. rho: Spearman's over all models"
        + (
            f" (no inference: models of fewer than {FEWEST_FAMILIES} families are no independent evidence)."
            if families < FEWEST_FAMILIES
            else "; brackets: 95 % over families, models within them, and each model's own interval."
        ),
        "within: mean rho of the families with three models or more, p by permuting scores within them.",
        "pairs up:down: in how many of the pairs X, X-D less coupling went with a higher score, and with a lower one.",
    ]
    return "\n".join([text, *(line for part in foot for line in textwrap.wrap(part, width or 10_000))])


def _rho(relation: Relation) -> str:
    rho = relation.rho
    if math.isnan(rho.value):
        return "-"
    return f"{rho.value:z.2f}" if math.isnan(rho.low) else f"{rho.value:z.2f} [{rho.low:z.2f}, {rho.high:z.2f}]"


def _within(relation: Relation) -> str:
    within = relation.within
    return "-" if math.isnan(within.rho) else f"{within.rho:z.2f} (p {within.p:.3f}, {within.models} models)"
