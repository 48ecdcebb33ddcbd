"""Measurements and probe images in, figures out, at the width of a paper's column; saving is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..metrics.quantities import QUANTITIES, Quantity, shown_in
from ..streams import Stream
from ..study.measurement import Measurement
from .forest_plots import forest_figure
from .labels import short_labels
from .map_layout import shortened, text_width, whole_words
from .style import COLUMN_IN, INK, LEVEL_ONE, MARK, PAGE_IN, PaperFigure, figure_rc
from .tables import marked_text

__all__ = [
    "MOST_ROWS",
    "coupling_figure",
    "draw_coupling",
    "draw_quantity",
    "figure_files",
    "probe_sheet",
    "save_figure",
]

ROW_IN, FOOT_IN = 0.45, 0.52
# From so many models on a row each is too tall; and a figure so wide has room for one line each.
MOST_ROWS, WIDE_IN = 6, 4.5
# The same of the panels below: a model's row, and ticks and names.
PANEL_ROW_IN, PANEL_FOOT_IN = 0.14, 0.32
# How far the axis goes: multiples of the quartiles' distance, and at most this far for an interval (log).
FENCE, DECADE = 3.0, float(np.log(10))
Array = NDArray[np.float64]
# Of a name in two lines.
LINE_IN, LETTERS_PT = 0.11, 7
PNG_LEVEL = 2
# Says in the file whose it is, so that it may be replaced.
MAKER = "couplingkit"


def coupling_figure(measurements: Sequence[Measurement], *, width_in: float | None = None) -> Figure:
    """Draw the coupling rates of each model, and below them, side by side, what else says how coupled it is.

    Above: a dot per probe, the quartiles, `cr` with its interval (filled) and `cr_mean` (open). Below: the other
    quantities that have curves, with their intervals, the models in the same order. Of more models than `MOST_ROWS`
    each has one line across the page (`forest_figure`).

    Args:
        measurements: one row of the figure each, from the top.
        width_in: inches; by default a column, and a page for many models.
    """
    if len(measurements) > MOST_ROWS and (width_in is None or width_in > WIDE_IN):
        return forest_figure(measurements, width_in=width_in or PAGE_IN)
    width_in = width_in or COLUMN_IN
    shown = [
        quantity
        for quantity in shown_in("curve")[1:]
        if any(quantity.name in measurement.summary.estimates for measurement in measurements)
    ]
    numbered = len(measurements) > 1
    labels = _row_labels(measurements, width_in, numbered=numbered)
    tall = max(label.count("\n") for label in labels)
    rates = (ROW_IN + LINE_IN * tall) * len(measurements) + FOOT_IN + LINE_IN * tall
    panels = PANEL_ROW_IN * len(measurements) + PANEL_FOOT_IN
    height = rates + panels
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, height))
        above = figure.add_axes((0.02, (panels + FOOT_IN) / height, 0.96, (rates - FOOT_IN - 0.02) / height))
        draw_coupling(above, measurements, labels=labels)
        left, between = 0.055, 0.045
        each = (0.98 - left - between * (len(shown) - 1)) / len(shown)
        for index, quantity in enumerate(shown):
            place = (left + index * (each + between), PANEL_FOOT_IN / height, each, (panels - PANEL_FOOT_IN) / height)
            axes = figure.add_axes(place)
            draw_quantity(axes, measurements, quantity)
            axes.tick_params(labelleft=index == 0)
    return figure


def draw_quantity(axes: Axes, measurements: Sequence[Measurement], quantity: Quantity) -> None:
    """Draw a quantity of each model with its interval into axes of the caller's, one row a model, numbered from 1.

    Args:
        axes: empty.
        measurements: from the top.
        quantity: of the table.
    """
    axes.axvline(quantity.neutral, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    reach = [quantity.neutral]
    for row, measurement in enumerate(measurements):
        estimate = measurement.summary.estimates.get(quantity.name)
        if estimate is None or np.isnan(estimate.value):
            continue
        reach += [bound for bound in vars(estimate).values() if not np.isnan(bound)]
        doubtful = bool(measurement.summary.marks(quantity.name))
        axes.plot([estimate.low, estimate.high], [row, row], color=MARK, linewidth=1.3, zorder=4)
        face = "white" if doubtful else MARK
        axes.plot(estimate.value, row, "D", color=MARK, markerfacecolor=face, markersize=3, zorder=5)
        if doubtful:
            axes.annotate("(!)", (estimate.value, row), (3, 2), textcoords="offset points", color=MARK, fontsize=6)
    room = 0.08 * (max(reach) - min(reach)) or 0.01
    axes.set_xlim(min(reach) - room, max(reach) + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))
    axes.set_yticks(range(len(measurements)), [str(row + 1) for row in range(len(measurements))])
    axes.set_ylim(len(measurements) - 0.5, -0.5)
    axes.set_xlabel(f"{quantity.name}, rad" if quantity.unit == "rad" else quantity.name, labelpad=1.5)
    axes.tick_params(axis="both", length=2, pad=1.5, labelsize=6)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def draw_coupling(axes: Axes, measurements: Sequence[Measurement], *, labels: Sequence[str] | None = None) -> None:
    """Draw the upper half of `coupling_figure` into axes of the caller's.

    Args:
        axes: emptied of ticks on its left.
        measurements: one row each, from the top.
        labels: of the rows, of one line or two; by default the models' names, as long as a column has room for.
    """
    rates = [measurement.cr[~np.isnan(measurement.cr)] for measurement in measurements]
    low, high = _limits(rates, measurements)
    labels = labels or _row_labels(measurements, COLUMN_IN, numbered=False)
    axes.axvline(1, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    for row, (label, measurement, cr) in enumerate(zip(labels, measurements, rates, strict=True)):
        jitter = Stream(0).child("jitter").generator().uniform(-0.16, 0.16, len(cr))
        shown = np.clip(cr, low, high)
        axes.scatter(shown, row + 0.12 + jitter, s=2, color=INK, alpha=0.25, linewidths=0, zorder=2, clip_on=False)
        axes.plot(np.quantile(shown, [0.25, 0.75]), [row + 0.12] * 2, color=INK, linewidth=3.5, alpha=0.55, zorder=3)
        summary = measurement.summary
        rate, mean = summary.estimates["cr"], summary.estimates["cr_mean"]
        ends = np.clip([rate.low, rate.high], low, high)
        axes.plot(ends, [row + 0.12] * 2, color=MARK, linewidth=1.3, zorder=4)
        of_mean = float(np.clip(mean.value, low, high))
        axes.plot(of_mean, row + 0.26, "D", color=MARK, markerfacecolor="white", markersize=3.4, zorder=5)
        axes.plot(np.clip(rate.value, low, high), row + 0.12, "D", color=MARK, markersize=3, zorder=6)
        if summary.marks("cr_mean"):
            below: dict[str, Any] = {"ha": "center", "va": "top", "color": MARK, "fontsize": 6}
            axes.annotate("(!)", (of_mean, row + 0.26), (0, -3), textcoords="offset points", zorder=7, **below)
        value = marked_text(QUANTITIES["cr"], summary)
        for x, text, side in ((0.0, label, "left"), (1.0, value, "right")):
            # Two lines grow upwards.
            where: Any = {"ha": side, "va": "bottom", "linespacing": 1.05, "parse_math": False}
            written = axes.text(x, row - 0.16, text, transform=axes.get_yaxis_transform(), **where)
            written.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    beyond = sum(int(((cr < low) | (cr > high)).sum()) for cr in rates)
    note = f", {beyond} beyond the edge" if beyond else ""
    level = measurements[0].summary.level
    marked = ", (!) no measurement" if any(one.summary.marks("cr_mean") for one in measurements) else ""
    axes.set_xlabel(
        f"coupling rate, log scale (dots: probes{note};\nbar: quartiles; red: cr, {level:.0%}; open: cr_mean{marked})"
    )
    axes.xaxis.label.set_fontsize(6.5)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _plain_log_ticks(axes, low, high)
    axes.set_ylim(len(measurements) - 0.5, -0.62 if any("\n" in label for label in labels) else -0.5)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _row_labels(measurements: Sequence[Measurement], width_in: float, *, numbered: bool) -> list[str]:
    """Return the models' names in lines that fit beside their rates, broken where they have a separator."""
    names = short_labels([measurement.name for measurement in measurements])
    led = [f"{row}  {name}" for row, name in enumerate(names, 1)] if numbered else names
    values = max(text_width(marked_text(QUANTITIES["cr"], one.summary), LETTERS_PT) for one in measurements)
    room = 0.96 * width_in - values - 0.1
    return [
        "\n".join(whole_words(name, room, LETTERS_PT, most=2) or [shortened(name, room, LETTERS_PT)]) for name in led
    ]


def _limits(rates: Sequence[Array], measurements: Sequence[Measurement]) -> tuple[float, float]:
    """Return where the axis ends: three times the quartiles' distance beyond them, and all intervals of `cr`.

    A few probes whose denominators are tiny would stretch it over decades; they are drawn at its edge and counted.
    """
    low, high = np.log(0.95), np.log(1.05)
    for measurement, cr in zip(measurements, rates, strict=True):
        first, third = np.quantile(np.log(cr), [0.25, 0.75])
        beyond = FENCE * (third - first)
        low, high = min(low, max(first - beyond, np.log(cr).min())), max(high, min(third + beyond, np.log(cr).max()))
        bounds = [*vars(measurement.summary.estimates["cr"]).values(), measurement.summary.estimates["cr_mean"].value]
        known = [float(np.log(bound)) for bound in bounds if np.isfinite(bound) and bound > 0]
        # A ratio over what may be 0 has an interval without end; a factor of 10 is drawn of it.
        middle = float(np.median(np.log(cr)))
        low, high = (
            min([low, *(max(bound, middle - DECADE) for bound in known)]),
            max([high, *(min(bound, middle + DECADE) for bound in known)]),
        )
    return float(np.exp(low)) * 0.98, float(np.exp(high)) * 1.02


def _plain_log_ticks(axes: Axes, low: float, high: float) -> None:
    fine = (1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 8, 9, 9.5)
    medium = (1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    steps: tuple[float, ...] = fine if high / low < 1.5 else medium
    if high / low > 4:
        steps = (1, 3) if high / low > 12 else (1, 2, 5)
    ticks = [step * 10.0**power for power in range(-4, 5) for step in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)


def probe_sheet(
    rows: Sequence[Sequence[NDArray[np.float32]]],
    captions: Sequence[str],
    headings: Sequence[str],
    *,
    width_in: float = PAGE_IN,
) -> Figure:
    """Draw probes as a sheet of pictures, one row a probe.

    Args:
        rows: the images of each probe, float (H, W, 3) in [0, 1].
        captions: one per row.
        headings: one per column.
        width_in: inches.
    """
    columns = len(headings)
    cell = width_in / columns
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, (cell + 0.2) * len(rows) + 0.2), layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for row, (images, caption) in enumerate(zip(rows, captions, strict=True)):
            for column, image in enumerate(images):
                axes = grid[row, column]
                axes.imshow(image, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                if row == 0:
                    axes.set_title(headings[column])
            grid[row, 0].set_xlabel(caption, loc="left", fontsize=6.5)
    return figure


def figure_files(figures: Mapping[str, Figure]) -> dict[str, Callable[[Path], None]]:
    """Return what writes figures as PNG and PDF: name of a file -> the function that writes it to a path."""
    return {
        f"{name}.{suffix}": partial(save_figure, figure)
        for name, figure in figures.items()
        for suffix in ("png", "pdf")
    }


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix: 300 dpi, who made it, and nothing of the day it was drawn on."""
    settings: dict[str, Any] = {
        # Photos hardly get smaller at higher levels, which take longer than everything else here.
        ".png": {"pil_kwargs": {"compress_level": PNG_LEVEL}, "metadata": {"Software": MAKER}},
        ".pdf": {"metadata": {"CreationDate": None, "Creator": MAKER}},
        ".svg": {"metadata": {"Date": None, "Creator": MAKER}},
    }
    with figure_rc():
        figure.savefig(path, dpi=300, **settings.get(path.suffix, {}))
