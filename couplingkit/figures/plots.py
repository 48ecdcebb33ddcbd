"""Measurements and probe images in, figures out, at the width of a paper's column; saving is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..streams import Stream
from ..study.measurement import Measurement
from .tables import short_labels

__all__ = [
    "COLUMN_IN",
    "PAGE_IN",
    "coupling_figure",
    "draw_coupling",
    "figure_files",
    "probe_sheet",
    "save_figure",
    "shorten",
]

COLUMN_IN = 3.35
PAGE_IN = 6.9
ROW_IN, FOOT_IN = 0.45, 0.5
STYLE: Any = {
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.titlesize": 7,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "pdf.fonttype": 42,  # fonts embedded whole, as publishers ask
    "svg.fonttype": "path",  # likewise: letters as shapes, the same on every machine
}
INK, MARK, LEVEL_ONE = "#33567a", "#c03a2b", "#555555"
LETTERS_PER_IN = 17
PNG_LEVEL = 2
# Says in the file whose it is, so that it may be replaced.
MAKER = "couplingkit"


def coupling_figure(measurements: Sequence[Measurement], *, width_in: float = COLUMN_IN) -> Figure:
    """Draw the distribution of the coupling rate of each model, with its mean and interval.

    Args:
        measurements: one row of the figure each, from the top.
        width_in: inches.
    """
    with rc_context(STYLE):
        height = ROW_IN * len(measurements) + FOOT_IN
        figure = Figure(figsize=(width_in, height))
        figure.subplots_adjust(left=0.02, right=0.98, top=1 - 0.02 / height, bottom=FOOT_IN / height)
        draw_coupling(figure.subplots(), measurements, longest_label=int(width_in * LETTERS_PER_IN) - 22)
    return figure


def draw_coupling(axes: Axes, measurements: Sequence[Measurement], *, longest_label: int = 34) -> None:
    """Draw the rows of `coupling_figure` into axes of the caller's: one dot a probe, bar of the quartiles, mean.

    Args:
        axes: emptied of ticks on its left.
        measurements: one row each, from the top.
        longest_label: letters of a model's name that are shown; longer ones lose their middle.
    """
    rates = [measurement.cr[~np.isnan(measurement.cr)] for measurement in measurements]
    low, high = _limits(rates)
    names = short_labels([measurement.name for measurement in measurements])
    labels = [shorten(name, longest_label) for name in names]
    if len(set(labels)) < len(set(names)):
        # What tells them apart fell out of the middle.
        labels = [f"{row}: {shorten(name, longest_label - 3)}" for row, name in enumerate(names, 1)]
    axes.axvline(1, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)), zorder=1)
    for row, (label, measurement, cr) in enumerate(zip(labels, measurements, rates, strict=True)):
        jitter = Stream(0).child("jitter").generator().uniform(-0.16, 0.16, len(cr))
        shown = np.clip(cr, low, high)
        axes.scatter(shown, row + 0.12 + jitter, s=2, color=INK, alpha=0.25, linewidths=0, zorder=2, clip_on=False)
        axes.plot(np.quantile(shown, [0.25, 0.75]), [row + 0.12] * 2, color=INK, linewidth=3.5, alpha=0.55, zorder=3)
        estimate = measurement.summary.estimates["cr_mean"]
        axes.plot([estimate.low, estimate.high], [row + 0.12] * 2, color=MARK, linewidth=1.3, zorder=4)
        axes.plot(estimate.value, row + 0.12, "D", color=MARK, markersize=3, zorder=5)
        value = f"{estimate.value:.3f}"
        value += "" if np.isnan(estimate.low) else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
        for x, text, side in ((0.0, label, "left"), (1.0, value, "right")):
            written = axes.text(x, row - 0.28, text, transform=axes.get_yaxis_transform(), ha=side, va="center")
            written.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    beyond = sum(int(((cr < low) | (cr > high)).sum()) for cr in rates)
    level = measurements[0].summary.level
    note = f"; {beyond} off the axis" if beyond else ""
    axes.set_xlabel(f"coupling rate, log scale (dots: probes{note};\nbar: quartiles; red: mean, {level:.0%} interval)")
    axes.xaxis.label.set_fontsize(6.5)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    _plain_log_ticks(axes, low, high)
    axes.set_ylim(len(measurements) - 0.5, -0.55)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _limits(rates: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return where the axis ends: the central 99 % of every model, and at least 0.95 to 1.05."""
    low = min([0.95, *(float(np.quantile(cr, 0.005)) for cr in rates)])
    high = max([1.05, *(float(np.quantile(cr, 0.995)) for cr in rates)])
    return low * 0.97, high * 1.03


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


def shorten(label: str, longest: int) -> str:
    """Return a label without its middle where it has more than `longest` letters."""
    half = longest // 2 - 1
    return label if len(label) <= longest else f"{label[:half]}…{label[-half:]}"


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
    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, (cell + 0.2) * len(rows) + 0.2), layout="constrained")
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
    with rc_context(STYLE):
        figure.savefig(path, dpi=300, **settings.get(path.suffix, {}))
