"""Points of sweeps in, one curve per model with its interval out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..metrics.summary import CLIPPED_LIMIT
from ..study import SweepPoint
from .plots import COLUMN_IN, STYLE, shorten
from .tables import as_text, estimate_text, short_labels

__all__ = ["sweep_figure", "sweep_numbers", "sweep_text", "uneven"]

NAMES = {
    "gap": "gap between A and B (1/224 of the canvas)",
    "visible": "share of A that is visible",
    "canvas": "canvas",
    "object_size": "longer side of the objects (1/224 of the canvas)",
    "layer": "layer",
}
# Told apart by colour and by mark, also in gray and by eyes that mix up red and green.
COLOURS = ("#33567a", "#c03a2b", "#d69a2d", "#4f8f5b", "#7b5a9e", "#5c5c5c")
MARKS = "osD^vP"
PANEL_IN = 2.1
# Letters of a name that a legend of one column has room for.
LONGEST = 42


def sweep_figure(points: Sequence[SweepPoint], *, width_in: float = COLUMN_IN) -> Figure:
    """Draw `cr_mean` and, below, the specificity along one axis: a curve per model, bars are the intervals.

    Args:
        points: of one axis.
        width_in: inches.
    """
    statistics = ["cr_mean"]
    if all("specificity" in point.measurement.summary.estimates for point in points):
        statistics.append("specificity")
    models = list(dict.fromkeys(point.measurement.name for point in points))
    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, PANEL_IN * len(statistics) + 0.35), layout="constrained")
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
    told.append(f"{made} probes" if counts == {made} else f"{min(counts)} to {max(counts)} of {made} probes measured")
    if any(point.measurement.summary.clipped_denominator > CLIPPED_LIMIT for point in points):
        told.append(f"open: over {CLIPPED_LIMIT:.0%} of denominators clipped")
    return f"\n({'; '.join(told)})"


def _draw(axes: Axes, points: Sequence[SweepPoint], models: Sequence[str], statistic: str) -> None:
    values = list(dict.fromkeys(point.value for point in points))
    numeric = all(isinstance(value, int | float) for value in values)
    shift = 0.012 * ((max(values) - min(values)) if numeric else len(values) - 1)
    labels = [shorten(label, LONGEST) for label in short_labels(models)]
    for row, (model, label) in enumerate(zip(models, labels, strict=True)):
        own = [point for point in points if point.measurement.name == model]
        at = np.array([point.value if numeric else values.index(point.value) for point in own], dtype=np.float64)
        at += shift * (row - (len(models) - 1) / 2)
        found = [point.measurement.summary.estimates[statistic] for point in own]
        middle = np.array([one.value for one in found])
        colour, mark = COLOURS[row % len(COLOURS)], MARKS[row % len(MARKS)]
        low, high = (np.array([getattr(one, end) for one in found]) for end in ("low", "high"))
        # Between canvases there is nothing for a line to pass through.
        line = "none" if points[0].axis == "canvas" else "-"
        axes.plot(at, middle, color=colour, linewidth=1.0, linestyle=line, marker=mark, markersize=3.5, label=label)
        axes.vlines(at, low, high, color=colour, linewidth=1.0)
        clipped = np.array([point.measurement.summary.clipped_denominator > CLIPPED_LIMIT for point in own])
        axes.plot(at[clipped], middle[clipped], mark, markersize=3.5, markerfacecolor="white", markeredgecolor=colour)
    if numeric:
        axes.set_xticks(values, [f"{value:g}" for value in values])
    else:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    axes.axhline(1 if statistic == "cr_mean" else 0, color="#555555", linewidth=0.7, linestyle=(0, (4, 2)), zorder=0)
    axes.set_ylabel("coupling rate (mean)" if statistic == "cr_mean" else statistic)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def common_means(points: Sequence[SweepPoint]) -> list[tuple[float, int]]:
    """Return, of each point, the mean rate over the probes measured at all values of its axis, and how many those are.

    Where objects become too small to be measured along an axis, a curve over what is left is one of other probes.
    """
    rates: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for point in points:
        rates.setdefault((point.axis, point.measurement.name), []).append(point.measurement.cr)
    kept = {key: ~np.isnan(np.stack(values)).any(axis=0) for key, values in rates.items()}
    found = []
    for point in points:
        both = kept[point.axis, point.measurement.name]
        found.append((float(point.measurement.cr[both].mean()) if both.any() else float("nan"), int(both.sum())))
    return found


def uneven(points: Sequence[SweepPoint]) -> list[str]:
    """Return a sentence for each curve whose points are of different probes."""
    told: dict[tuple[str, str], list[int]] = {}
    for point in points:
        told.setdefault((point.axis, point.measurement.name), []).append(point.measurement.summary.measured)
    return [
        f"along {axis}, {name} measures {min(counts)} to {max(counts)} probes, so that its points are of "
        "different ones; cr_mean_common in sweep.csv is over those of all values."
        for (axis, name), counts in told.items()
        if len(set(counts)) > 1
    ]


def sweep_numbers(points: Sequence[SweepPoint]) -> pd.DataFrame:
    """Return one row a point: every statistic with its bounds, and the counts."""
    rows = []
    for point, (mean, count) in zip(points, common_means(points), strict=True):
        summary = point.measurement.summary
        row: dict[str, Any] = {"axis": point.axis, "value": point.value, "model": point.measurement.name}
        for name, estimate in summary.estimates.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        counts = {"made": summary.probes, "measured": summary.measured}
        rows.append(row | counts | {"cr_mean_common": mean, "common": count})
    return pd.DataFrame(rows)


def sweep_text(points: Sequence[SweepPoint], form: str) -> str:
    """Return the points as text; see `as_text`, and csv."""
    if form == "csv":
        return sweep_numbers(points).to_csv(index=False).rstrip()
    labels = short_labels([point.measurement.name for point in points])
    rows = []
    for label, point in zip(labels, points, strict=True):
        summary = point.measurement.summary
        mark = " (!)" if summary.clipped_denominator > CLIPPED_LIMIT else ""
        rows.append(
            {
                "axis": point.axis,
                "value": f"{point.value:g}" if isinstance(point.value, int | float) else str(point.value),
                "model": label,
                f"cr_mean [{summary.level:.0%}]": estimate_text(summary.estimates["cr_mean"]) + mark,
                "cr_geomean": f"{summary.cr_geomean:.3f}",
                "cr_of_means": f"{summary.cr_of_means:.3f}",
                f"specificity [{summary.level:.0%}]": estimate_text(summary.estimates.get("specificity")),
                "displacement": f"{summary.displacement:.3f}",
                "clipped den": f"{summary.clipped_denominator:.1%}",
                "measured": f"{summary.measured} of {summary.probes}",
            }
        )
    return as_text(pd.DataFrame(rows), form)
