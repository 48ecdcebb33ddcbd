"""Points of sweeps in, one curve per model with its interval out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import listed
from ..metrics.quantities import QUANTITIES, Quantity, shown_in
from ..runs.records import Run
from ..runs.sweeping import points_of
from ..runs.writing import summary_file
from ..study.sweeping import SweepPoint
from ..typed_files import json_text
from .labels import broken_labels, cut_labels, short_labels
from .style import COLOURS, COLUMN_IN, MARKS, PaperFigure, figure_rc
from .tables import WAYS, bounds_columns, quantity_columns, way_of_reading, ways_unlike
from .text_tables import as_text

__all__ = ["sweep_figure", "sweep_notes", "sweep_numbers", "sweep_render", "sweep_text", "uneven"]

NAMES = {
    "gap": "gap between A and B (1/224 of the canvas)",
    "visible": "share of A that is visible",
    "canvas": "canvas",
    "object_size": "longer side of the objects (1/224 of the canvas)",
    "layer": "layer",
}
PANEL_IN = 1.5
# Room for a name in the legend, inches.
LEGEND_IN = 2.6
# And a table for a terminal, beside axis and value.
LONGEST_IN_TABLE = 24


def sweep_figure(points: Sequence[SweepPoint], *, width_in: float = COLUMN_IN) -> Figure:
    """Draw the quantities that have curves along one axis, one below the other: a curve per model, bars are intervals.

    Args:
        points: of one axis.
        width_in: inches.
    """
    statistics = [
        quantity
        for quantity in shown_in("curve")
        if all(quantity.name in point.measurement.summary.estimates for point in points)
    ]
    models = list(dict.fromkeys(point.measurement.name for point in points))
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, PANEL_IN * len(statistics) + 0.35), layout="constrained")
        panels = figure.subplots(len(statistics), squeeze=False, sharex=True)[:, 0]
        for axes, statistic in zip(panels, statistics, strict=True):
            _draw(axes, points, models, statistic)
        panels[-1].set_xlabel(NAMES[points[0].axis] + _caption(points))
        columns = 1 if max(map(len, models)) > 22 else 2
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=columns, frameon=False)
    return figure


def _caption(points: Sequence[SweepPoint]) -> str:
    """Return what a reader must know of the points."""
    told = []
    counts = {point.measurement.summary.measured for point in points}
    made = points[0].measurement.summary.probes
    some = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{min(counts)}"
    told.append(f"{made} probes" if counts == {made} else f"{some} of {made} probes measured")
    shown = [quantity.name for quantity in shown_in("curve")]
    reasons = [why for point in points for name in shown for why in point.measurement.summary.marks(name)]
    if reasons:
        told.append(f"open: {'; '.join(dict.fromkeys(reasons))}")
    return f"\n({'; '.join(told)})"


def _draw(axes: Axes, points: Sequence[SweepPoint], models: Sequence[str], quantity: Quantity) -> None:
    values = list(dict.fromkeys(point.value for point in points))
    numeric = all(isinstance(value, int | float) for value in values)
    shift = 0.012 * ((max(values) - min(values)) if numeric else len(values) - 1)
    labels = broken_labels(models, LEGEND_IN)
    for row, (model, label) in enumerate(zip(models, labels, strict=True)):
        own = [point for point in points if point.measurement.name == model]
        at = np.array([point.value if numeric else values.index(point.value) for point in own], dtype=np.float64)
        at += shift * (row - (len(models) - 1) / 2)
        found = [point.measurement.summary.estimates[quantity.name] for point in own]
        middle = np.array([estimate.value for estimate in found])
        colour, mark = COLOURS[row % len(COLOURS)], MARKS[row % len(MARKS)]
        low, high = (np.array([getattr(estimate, end) for estimate in found]) for end in ("low", "high"))
        # Between canvases there is nothing for a line to pass through.
        line = "none" if points[0].axis == "canvas" else "-"
        axes.plot(at, middle, color=colour, linewidth=1.0, linestyle=line, marker=mark, markersize=3.5, label=label)
        axes.vlines(at, low, high, color=colour, linewidth=1.0)
        marked = np.array([bool(point.measurement.summary.marks(quantity.name)) for point in own])
        axes.plot(at[marked], middle[marked], mark, markersize=3.5, markerfacecolor="white", markeredgecolor=colour)
    if numeric:
        axes.set_xticks(values, [f"{value:g}" for value in values])
    else:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.axhline(quantity.neutral, color="#555555", linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
    axes.set_ylabel(f"{quantity.name}, rad" if quantity.unit == "rad" else quantity.name)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def common_means(points: Sequence[SweepPoint]) -> list[tuple[float, int]]:
    """Return, of each point, the mean rate over the probes measured at all values of its axis, and how many those are.

    Where objects become too small to be measured along an axis, a curve over what is left is one of other probes.
    """
    groups: dict[tuple[str, str], list[SweepPoint]] = {}
    for point in points:
        groups.setdefault((point.axis, point.measurement.name), []).append(point)
    found = []
    for point in points:
        group = groups[point.axis, point.measurement.name]
        rates = np.stack([one.measurement.cr for one in group])  # (values, N)
        both = np.asarray(~np.isnan(rates).any(axis=0))
        statistic = QUANTITIES["cr"].statistic(point.measurement.columns, both)
        found.append((statistic.value() if both.any() else float("nan"), int(both.sum())))
    return found


def uneven(points: Sequence[SweepPoint]) -> list[str]:
    """Return a sentence for each curve whose points are of different probes."""
    told: dict[tuple[str, str], list[int]] = {}
    for point in points:
        told.setdefault((point.axis, point.measurement.name), []).append(point.measurement.summary.measured)
    return [
        f"along {axis}, {name} measures {min(counts)} to {max(counts)} probes, so that its points are of "
        "different ones; cr_common in sweep.csv is over those of all values."
        for (axis, name), counts in told.items()
        if len(set(counts)) > 1
    ]


def sweep_numbers(points: Sequence[SweepPoint]) -> pd.DataFrame:
    """Return one row a point: every statistic with its bounds, and the counts."""
    rows = []
    for point, (rate, count) in zip(points, common_means(points), strict=True):
        summary = point.measurement.summary
        row: dict[str, Any] = {"axis": point.axis, "value": point.value, "model": point.measurement.name}
        row |= bounds_columns(summary)
        counts = {"made": summary.probes, "measured": summary.measured}
        rows.append(row | counts | {"cr_common": rate, "common": count})
    return pd.DataFrame(rows)


def sweep_text(points: Sequence[SweepPoint], form: str, *, width: int | None = None) -> str:
    """Return the points as text; see `as_text`, and csv."""
    if form == "csv":
        return sweep_numbers(points).to_csv(index=False).rstrip()
    names = [point.measurement.name for point in points]
    labels = short_labels(names) if width is None else cut_labels(names, LONGEST_IN_TABLE)
    # Along `layer` that is what the value says.
    unlike = [index for index in ways_unlike([point.measurement for point in points]) if WAYS[index] != "layer"]
    rows = []
    for label, point in zip(labels, points, strict=True):
        summary = point.measurement.summary
        rows.append(
            {
                "axis": point.axis,
                "value": f"{point.value:g}" if isinstance(point.value, int | float) else str(point.value),
                "model": label,
                **quantity_columns(summary, "sweep"),
                "measured": f"{summary.measured} of {summary.probes}",
                **{WAYS[index]: way_of_reading(point.measurement)[index] for index in unlike},
            }
        )
    return as_text(pd.DataFrame(rows).fillna("-"), form, width=width, lead=3)


def sweep_render(run: Run, form: str, *, width: int | None = None) -> str:
    """Return what a sweep found as text in one of the formats of `Format`."""
    return json_text(summary_file(run)).rstrip() if form == "json" else sweep_text(points_of(run), form, width=width)


def sweep_notes(run: Run) -> list[str]:
    """Return what a reader of a sweep must know: curves of different probes, and warnings with their places."""
    points = points_of(run)
    noted: dict[str, list[str]] = {}
    for point in points:
        for warning in point.measurement.warnings:
            noted.setdefault(warning, []).append(f"{point.measurement.name} at {point.axis} {point.value}")
    return [
        *(f"Note: {sentence}" for sentence in uneven(points)),
        *(f"Note on {listed(places, most=3)}: {warning}" for warning, places in noted.items()),
    ]
