"""A comparison in, its table and its figure out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..metrics.bootstrap import Estimate
from ..metrics.quantities import shown_in
from ..runs.comparing import difference_table
from ..study.comparing import Comparison
from .labels import broken_labels, short_labels
from .style import COLOURS, COLUMN_IN, MARKS, PaperFigure, figure_rc
from .tables import WAYS, difference_text, marked_text, marks_line, way_of_reading, ways_unlike
from .text_tables import as_text

__all__ = ["comparison_figure", "comparison_text"]

# Pairs of categories are too many for a figure; they are in the table of groups.
SHORT = {"direction": "B {}", "size": "{} quarter of A", "gap": "gap {}"}
ROW_IN = 0.17


def comparison_text(comparison: Comparison, form: str, *, width: int | None = None) -> str:
    """Return the table, one row a model, as text in one of the formats of `Format`; see `as_text` for the width."""
    if form == "csv":
        return difference_table(list(comparison.differences)).to_csv(index=False).rstrip()
    if form == "json":
        return str(difference_table(list(comparison.differences)).to_json(orient="records", indent=1))
    labels = dict(zip(comparison.models, short_labels(list(comparison.models)), strict=True))
    main, *others = shown_in("compared")
    unlike = ways_unlike(list(comparison.models.values()))
    rows = []
    for name, model in comparison.models.items():
        row: dict[str, Any] = {"model": labels[name], f"{main.name} (own probes)": marked_text(main, model.summary)}
        for quantity in (main, *others):
            gap = next((gap for gap in comparison.overall(quantity.difference) if gap.model == name), None)
            if gap is None and quantity.optional:
                continue
            estimate, below = (None, False) if gap is None else (gap.estimate, gap.below)
            text = difference_text(quantity, estimate, below=below)
            row[f"d {quantity.difference}"] = text
            if quantity is main:
                row["p"] = _p_text(gap.p) if gap else "-"
                row["p (Holm)"] = _p_text(gap.p_holm) if gap else "-"
                row["common probes"] = str(gap.probes if gap else model.summary.measured)
        rows.append(row | {WAYS[index]: way_of_reading(model)[index] for index in unlike})
    table = as_text(pd.DataFrame(rows).fillna("-"), form, width=width)
    if form != "table":
        return table
    foot = marks_line([model.summary for model in comparison.models.values()])
    foot.append(f"d: minus {labels[comparison.baseline]}, on the probes of both; brackets: intervals over photos.")
    if comparison.across:
        foot.append(f"Not alike, as was meant: {'; '.join(comparison.across.values())}")
    return "\n".join([table, *(line for part in foot for line in textwrap.wrap(part, width or 10_000))])


def _p_text(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.4f}"


def comparison_figure(comparison: Comparison, *, width_in: float = COLUMN_IN) -> Figure:
    """Draw each model's difference of the coupling rate with its interval: over all probes, and by group."""
    models = [difference.model for difference in comparison.overall()]
    labels = broken_labels(models, width_in - 0.6)
    effect = shown_in("compared")[0].difference
    first = [
        difference
        for difference in comparison.differences
        if difference.effect == effect and difference.model == models[0]
    ]
    rows = [("all", "all"), *((one.grouping, one.group) for one in first if one.grouping in SHORT)]
    found = {
        (difference.model, difference.grouping, difference.group): difference
        for difference in comparison.differences
        if difference.effect == effect
    }
    heading = 0.16 * len(models) + 0.1
    height = ROW_IN * len(rows) * max(1.0, 0.55 * len(models)) + 0.55 + heading
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, height), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color="#555555", linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
        step = 0.7 / len(models)
        unsure = False
        for index, (model, label) in enumerate(zip(models, labels, strict=True)):
            shift = step * (index - (len(models) - 1) / 2)
            own = {row + shift: found[(model, *key)].estimate for row, key in enumerate(rows) if (model, *key) in found}
            unsure |= _draw_model(axes, own, label, (COLOURS[index % len(COLOURS)], MARKS[index % len(MARKS)]))
        names = ["all probes", *(SHORT[grouping].format(group) for grouping, group in rows[1:])]
        axes.set_yticks(range(len(rows)), names)
        for row in range(1, len(rows)):
            if rows[row][0] != rows[row - 1][0]:
                axes.axhline(row - 0.5, color="#cccccc", linewidth=0.5, zorder=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        note = "\n(open: too few photos for an interval)" if unsure else ""
        figure.supxlabel(f"{effect} minus that of {short_labels([comparison.baseline])[0]}{note}", fontsize=7)
        figure.legend(loc="outside upper left", ncols=1, frameon=False)
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
    return figure


def _draw_model(axes: Axes, own: Mapping[float, Estimate], label: str, look: tuple[str, str]) -> bool:
    """Draw a model's differences by the height that each has; return whether one of them has no interval."""
    (colour, mark), heights, estimates = look, list(own), list(own.values())
    low, high = ([getattr(estimate, end) for estimate in estimates] for end in ("low", "high"))
    axes.hlines(heights, low, high, color=colour, linewidth=1.1)
    axes.plot([estimate.value for estimate in estimates], heights, mark, color=colour, markersize=3.5, label=label)
    # Without an interval a mark would pass for a precise one.
    bare = [(estimate.value, height) for height, estimate in own.items() if math.isnan(estimate.low)]
    for value, height in bare:
        axes.plot(value, height, mark, markersize=3.5, color=colour, markerfacecolor="white")
    return bool(bare)
