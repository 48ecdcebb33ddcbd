"""Numbers of trained pairs in, the figure that sets X beside X-D out: coupling above, what it costs below."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import ArgumentError
from ..metrics.quantities import shown_in
from ..runs.pair_differences import PairDifference
from ..runs.trained_models import START, UNTRAINED, TrainedModel
from .style import COLUMN_IN, INK, LEVEL_ONE, MARK, PaperFigure, figure_rc
from .tables import estimate_text, heading_of, quantity_columns
from .text_tables import as_text

__all__ = ["pair_figure", "pair_text"]

ROW_IN, FOOT_IN = 0.95, 0.3
# What runs begin with stands first.
FIRST, PLAIN = (UNTRAINED, START), "#888888"
ACCURACY_LABELS = {"accuracy": "1-NN accuracy", "linear": "linear accuracy"}
# Of the names of the decoupled ones.
SUFFIX = "-d"
# Between X and X-D, and between the seeds of one of them, where methods are 1 apart.
APART, SPREAD = 0.36, 0.18


def pair_figure(runs: pd.DataFrame, *, width_in: float = COLUMN_IN) -> Figure:
    """Draw what says coupling, and below how well objects are told apart, of each run: untrained, X and X-D.

    Bars are intervals over scenes. An open mark stands where the quantity is no measurement.

    Args:
        runs: one row a run, columns method, seed, the quantities with curves, accuracy, linear and their bounds
            (`run_table`).
        width_in: inches.

    Raises:
        ArgumentError: there are no runs.
    """
    if runs.empty:
        raise ArgumentError("runs must hold at least one row; train something first.")
    names = [n for n in dict.fromkeys(str(name).removesuffix(SUFFIX) for name in runs["method"]) if n not in FIRST]
    first = [name for name in FIRST if name in set(runs["method"])]
    shown = [quantity for quantity in shown_in("curve") if quantity.name in runs]
    objects = {column: words for column, words in ACCURACY_LABELS.items() if column in runs}
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, ROW_IN * (len(shown) + len(objects)) + FOOT_IN), layout="constrained")
        panels = list(figure.subplots(len(shown) + len(objects), 1, sharex=True))
        for axes, quantity in zip(panels, shown, strict=False):
            axes.axhline(quantity.neutral, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)))
            _draw_methods(axes, runs, [*first, *names], quantity.name)
            axes.set_ylabel(heading_of(quantity))
        for axes, (column, words) in zip(panels[len(shown) :], objects.items(), strict=True):
            _draw_methods(axes, runs, [*first, *names], column)
            axes.set_ylabel(words)
            axes.axhline(float(runs["chance"].mean()), color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (1, 2)))
            axes.set_ylim(0, 1)
        places = [index + side * APART / 2 for index in range(len(first), len(first) + len(names)) for side in (-1, 1)]
        labels = [name + ending for name in names for ending in ("", SUFFIX)]
        panels[-1].set_xticks([*range(len(first)), *places], [*first, *labels])
        panels[-1].tick_params(axis="x", labelsize=7 if len(names) < 3 else 6)
        panels[-1].set_xlim(-0.6, len(first) + len(names) - 0.4)
    return figure


def _draw_methods(axes: Axes, runs: pd.DataFrame, names: Sequence[str], column: str) -> None:
    for index, name in enumerate(names):
        if name in FIRST:
            _draw_runs(axes, runs[runs["method"] == name].sort_values("seed"), column, index, PLAIN)
            continue
        for method, side, colour in ((name, -1, MARK), (name + SUFFIX, 1, INK)):
            part = runs[runs["method"] == method].sort_values("seed")
            _draw_runs(axes, part, column, index + side * APART / 2, colour)
    for edge in ("right", "top"):
        axes.spines[edge].set_visible(False)


def _draw_runs(axes: Axes, part: pd.DataFrame, column: str, centre: float, colour: str) -> None:
    where = centre + np.linspace(-SPREAD / 2, SPREAD / 2, len(part)) if len(part) > 1 else np.array([centre])
    for x, row in zip(where, part.to_dict("records"), strict=True):
        axes.plot([x, x], [row[f"{column}_low"], row[f"{column}_high"]], color=colour, linewidth=1, alpha=0.7)
        unsure = column in ("cr", "specificity") and not row["similarity_true_low"] > 0
        face = "white" if unsure else colour
        axes.plot(x, row[column], "o", color=colour, markerfacecolor=face, markersize=3.5, markeredgewidth=0.8)


def pair_text(
    models: Sequence[TrainedModel], differences: Sequence[PairDifference], verdicts: Sequence[str] = ()
) -> str:
    """Return the numbers of the runs and their differences as two tables in markdown, and what to know of them."""
    runs = pd.DataFrame([_run_words(model) for model in models])
    gaps = pd.DataFrame(
        [
            {
                "difference": f"{difference.first} minus {difference.second}",
                "of": difference.quantity,
                "seed": difference.seeds,
                "over seeds [95%, t]": estimate_text(difference.estimate) if difference.seeds == "all" else "-",
                "over scenes [95%]": estimate_text(difference.scenes),
                "n": str(difference.count),
            }
            for difference in differences
        ]
    )
    said = [f"- {verdict}" for verdict in verdicts]
    return "\n\n".join([as_text(runs, "markdown"), as_text(gaps, "markdown"), *(["\n".join(said)] if said else [])])


def _run_words(model: TrainedModel) -> dict[str, str]:
    return {
        "method": model.method,
        "seed": str(model.seed),
        **quantity_columns(model.measurement.summary, "pairs"),
        "1-NN accuracy": estimate_text(model.objects.accuracy),
        "linear accuracy": estimate_text(model.linear.accuracy),
        "steps/s": "-" if math.isnan(model.steps_per_s) else f"{model.steps_per_s:.2f}",
    }
