"""Measurements of many models in, one figure out: a row a model, a panel a quantity, names in full on the left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..metrics.bootstrap import Estimate
from ..metrics.quantities import QUANTITIES, Quantity, shown_in
from ..study.measurement import Measurement
from .labels import short_labels
from .map_layout import shortened, text_width, whole_words, wrapped
from .style import INK, LEVEL_ONE, MARK, PAGE_IN, PaperFigure, figure_rc
from .tables import marked_text

__all__ = ["forest_figure"]

NUMBERS_PT = 6.0
LETTERS_PT, ROW_IN, FOOT_IN, HEAD_IN = 6.5, 0.17, 0.44, 0.04
# Of the width: at most so much is the names', and the first panel is so much wider than the others.
NAMES_SHARE, FIRST = 0.34, 1.7
MARGIN_IN, BETWEEN_IN = 0.05, 0.16
# Beyond so many times the middle half's reach an interval is cut at the edge, so that one model does not hide all.
FENCE = 6.0


def forest_figure(measurements: Sequence[Measurement], *, width_in: float = PAGE_IN) -> Figure:
    """Draw `cr` and the other quantities that have curves, with their intervals, a row a model from the top.

    Beside each rate stands the middle half of its probes (blue). What reaches beyond the edge of a panel has an arrow.

    Args:
        measurements: of any number of models.
        width_in: inches.
    """
    shown = [
        quantity
        for quantity in shown_in("curve")
        if any(quantity.name in measurement.summary.estimates for measurement in measurements)
    ]
    names = short_labels([measurement.name for measurement in measurements])
    with figure_rc():
        room = width_in * NAMES_SHARE
        lines = [whole_words(name, room, LETTERS_PT, most=2) or [shortened(name, room, LETTERS_PT)] for name in names]
        names_in = max(text_width(line, LETTERS_PT) for own in lines for line in own) + 0.06
        row_in = ROW_IN * (1.25 if any(len(own) > 1 for own in lines) else 1.0)
        height = row_in * len(measurements) + FOOT_IN + HEAD_IN
        figure = PaperFigure(figsize=(width_in, height))
        left = MARGIN_IN + names_in
        numbers = [marked_text(QUANTITIES["cr"], measurement.summary) for measurement in measurements]
        numbers_in = max(text_width(text, NUMBERS_PT) for text in numbers) + 0.08
        free = width_in - left - 0.12 - numbers_in - BETWEEN_IN * (len(shown) - 1)
        part = free / (FIRST + len(shown) - 1)
        bottom, tall = FOOT_IN / height, row_in * len(measurements) / height
        for place, quantity in enumerate(shown):
            wide = part * (FIRST if place == 0 else 1.0)
            axes = figure.add_axes((left / width_in, bottom, wide / width_in, tall))
            _draw_panel(axes, measurements, quantity)
            left += wide + BETWEEN_IN + (numbers_in if place == 0 else 0.0)
            if place == 0:
                _write_numbers(axes, numbers)
                axes.set_yticks(range(len(lines)), ["\n".join(own) for own in lines])
                axes.tick_params(axis="y", length=0, labelsize=LETTERS_PT, pad=2)
        _write_legend(figure, measurements, names_in)
    return figure


def _write_legend(figure: Figure, measurements: Sequence[Measurement], room: float) -> None:
    """Say below the names what the marks mean."""
    level = measurements[0].summary.level
    words = f"red: {level:.0%} interval; blue: middle half of probes"
    if any(measurement.summary.marks(quantity.name) for measurement in measurements for quantity in shown_in("curve")):
        words += "; open, (!): no measurement"
    lines = wrapped(words, max(room, 1.0), NUMBERS_PT - 0.5)
    width, height = figure.get_size_inches()
    figure.text(
        MARGIN_IN / width, (FOOT_IN - 0.04) / height, "\n".join(lines), va="top", fontsize=NUMBERS_PT - 0.5,
        color=LEVEL_ONE, linespacing=1.1,
    )  # fmt: skip


def _write_numbers(axes: Axes, numbers: Sequence[str]) -> None:
    for row, text in enumerate(numbers):
        axes.annotate(
            text, (1, row), (3, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            va="center", fontsize=NUMBERS_PT, annotation_clip=False,
        )  # fmt: skip


def _draw_panel(axes: Axes, measurements: Sequence[Measurement], quantity: Quantity) -> None:
    estimates = [measurement.summary.estimates.get(quantity.name) for measurement in measurements]
    low, high = _reach([one for one in estimates if one is not None], quantity.neutral)
    axes.axvline(quantity.neutral, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    for row, (measurement, estimate) in enumerate(zip(measurements, estimates, strict=True)):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0, linewidth=0)
        if estimate is None or np.isnan(estimate.value):
            continue
        if quantity.name == "cr":
            rates = measurement.cr[~np.isnan(measurement.cr)]
            middle = np.clip(np.quantile(rates, [0.25, 0.75]), low, high)
            axes.plot(middle, [row, row], color=INK, linewidth=3.2, alpha=0.35, solid_capstyle="butt", zorder=2)
        ends = np.clip([estimate.low, estimate.high], low, high)
        axes.plot(ends, [row, row], color=MARK, linewidth=1.1, zorder=3)
        face = "white" if measurement.summary.marks(quantity.name) else MARK
        value = float(np.clip(estimate.value, low, high))
        beyond = "<" if estimate.value < low else ">" if estimate.value > high else "D"
        axes.plot(value, row, beyond, color=MARK, markerfacecolor=face, markersize=2.8, zorder=4, clip_on=False)
    axes.set_xlim(low, high)
    axes.set_ylim(len(measurements) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4 if quantity.name == "cr" else 2, min_n_ticks=2))
    axes.xaxis.set_major_formatter(lambda value, _place: f"{value:z.3g}")
    axes.set_yticks([])
    # Two lines, since a panel is narrower than both together.
    axes.set_xlabel(f"{quantity.name}\n(rad)" if quantity.unit == "rad" else quantity.name, labelpad=1.5, linespacing=1)
    axes.tick_params(axis="x", length=2, pad=1.5, labelsize=6)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _reach(estimates: Sequence[Estimate], neutral: float) -> tuple[float, float]:
    """Return the ends of an axis: all values and intervals but those far beyond what most models have."""
    values = np.array([one.value for one in estimates if np.isfinite(one.value)] or [neutral])
    bounds = np.array([bound for one in estimates for bound in (one.low, one.high) if np.isfinite(bound)] or [neutral])
    first, third = np.quantile(values, [0.25, 0.75])
    fence = FENCE * max(third - first, 0.02)
    low = min(neutral, max(float(first - fence), float(min(values.min(), bounds.min()))))
    high = max(neutral, min(float(third + fence), float(max(values.max(), bounds.max()))))
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room
