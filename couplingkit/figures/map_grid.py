"""Pictures and maps in, one figure of rows and columns out: every length is set in inches, so that nothing overlaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .map_layout import BAR_ROOM, CAPTION_PT, GAP, HEADING_PT, LINE, MARGIN, Content, Layout, wrapped
from .style import PaperFigure, figure_rc

__all__ = ["GridRow", "Panel", "Scale", "map_grid"]

# A bar lower than the lowest has no room for a number at either end.
BAR_WIDTH, TALLEST_BAR, LOWEST_BAR = 0.08, 2.0, 0.25
LINE_SPACING = 1.1
# Inches that letters reach below their baseline.
DESCENT = 0.025
OUTLINE_PT = 0.5
DOT_PT, SMALLEST_DOT_PT = 4.2, 2.4
# A smooth map of some dozen cells needs no more; the blocks of `nearest` do, for their edges.
SMOOTH_DPI, SHARP_DPI = 150, 300
# Of a photo's longer side: a column's width at 600 dpi and more.
MOST_PX = 2000
UNDEFINED = "0.55"
RED = "#e2231a"


@dataclass(frozen=True)
class Scale:
    """The colours of one row or of all.

    Attributes:
        colours: a colour map's name.
        limits: lowest and highest value; None where each panel has its own.
        label: of the colour bar.
        column: whose bar it is, where each column has its own; None of a bar beside the rows that use it.
        overlay: how much of the map is seen over the picture, in (0, 1]; at 1 nothing of the picture is.
    """

    colours: str
    limits: tuple[float, float] | None
    label: str
    column: int | None = None
    overlay: float = 1.0

    @property
    def colormap(self) -> Colormap:
        """The colour map, with gray for what is not defined."""
        return colormaps[self.colours].with_extremes(bad=UNDEFINED)


@dataclass(frozen=True)
class Panel:
    """One map.

    Attributes:
        at_size: draws it at (height, width) px, as values (H, W); NaN is undefined.
        scale: its colours.
        smooth: whether it has no edges.
    """

    at_size: Callable[[tuple[int, int]], NDArray[np.float64]]
    scale: Scale
    smooth: bool


@dataclass(frozen=True)
class GridRow:
    """A picture, the query on it, and its maps.

    Attributes:
        picture: (H, W, 3), uint8 or float in [0, 1]; None leaves the place empty.
        size: height and width of the picture and of what the maps show, px.
        point: x, y of the query, px of the picture.
        caption: below the picture, or in its place.
        panels: one per column.
        outline: bool (H, W), a mask whose outline is drawn on all of them; None draws none.
    """

    picture: NDArray | None
    size: tuple[int, int]
    point: tuple[float, float]
    caption: str
    panels: Sequence[Panel]
    outline: NDArray[np.bool_] | None = None


def map_grid(rows: Sequence[GridRow], headings: Sequence[str], *, width_in: float, first: str = "query") -> Figure:
    """Draw rows of one picture and several maps, with the query marked on each, and a colour bar per scale.

    A column whose name does not fit above it gets a letter, and the names stand below the figure.

    Args:
        rows: from the top.
        headings: one per column of maps.
        width_in: inches.
        first: heading of the pictures.
    """
    with figure_rc():
        scales = list(dict.fromkeys(panel.scale for row in rows for panel in row.panels))
        by_column = any(scale.column is not None for scale in scales)
        sizes = [row.size for row in rows]
        content = Content(
            sizes,
            [row.caption if row.picture is not None else "" for row in rows],
            headings,
            own_ranges=any(scale.limits is None for scale in scales),
            bars="below" if by_column else "beside",
            foot=scales[0].label if by_column else "",
        )
        layout = Layout.of(content, width_in)
        figure = PaperFigure(figsize=(width_in, layout.height))
        _write_names(figure, layout, first)
        tops = layout.row_tops(sizes)
        for row, top, lines in zip(rows, tops, layout.captions, strict=True):
            _draw_row(figure, layout, row, (top, lines))
        for scale in scales:
            if scale.column is not None:
                _draw_bar_below(figure, layout, scale, tops[-1] + layout.row_height(sizes[-1]) + layout.caption)
                continue
            using = [index for index, row in enumerate(rows) if any(panel.scale == scale for panel in row.panels)]
            bottom = tops[using[-1]] + layout.row_height(rows[using[-1]].size)
            _draw_bar(figure, layout, scale, tops[using[0]], bottom)
    return figure


def _write_names(figure: Figure, layout: Layout, first: str) -> None:
    bottom = MARGIN + layout.heading_height - 0.04
    for index, lines in enumerate([[first], *layout.headings]):
        middle = layout.column(index) + layout.panel / 2
        for above, line in enumerate(reversed(lines)):
            # On one baseline, whether or not a name has letters that reach below it.
            place_y = bottom - DESCENT - LINE * above
            _write(figure, layout, (middle, place_y), line, size=HEADING_PT, ha="center", va="baseline")
    if layout.key:
        text = "\n".join(layout.key)
        _write(figure, layout, (MARGIN, layout.height - MARGIN), text, size=HEADING_PT, ha="left", va="bottom")


def _draw_row(figure: Figure, layout: Layout, row: GridRow, place: tuple[float, list[str]]) -> None:
    top, caption = place
    height = layout.row_height(row.size)
    # A tall portrait keeps its aspect: its panels are narrower than their column.
    width = height * row.size[1] / row.size[0]
    inset = (layout.panel - width) / 2
    left = layout.column(0)
    if row.picture is None:
        lines = "\n".join(wrapped(row.caption, layout.panel, CAPTION_PT))
        _write(figure, layout, (left + layout.panel / 2, top + height / 2), lines, ha="center", va="center")
    else:
        axes = figure.add_axes(layout.box(left + inset, top, width, height))
        axes.imshow(_reduced(row.picture), extent=_extent(row), interpolation="antialiased", aspect="auto")
        _mark(axes, row, min(width, height))
        # From the column's edge, since a tall photo is narrower than its words may be.
        _write(figure, layout, (left, top + height + 0.02), "\n".join(caption))
    for index, panel in enumerate(row.panels, 1):
        left = layout.column(index) + inset
        dpi = SMOOTH_DPI if panel.smooth else SHARP_DPI
        values = panel.at_size((max(1, round(height * dpi)), max(1, round(width * dpi))))
        own = None if np.isnan(values).all() else (float(np.nanmin(values)), float(np.nanmax(values)))
        low, high = panel.scale.limits or own or (0.0, 1.0)
        axes = figure.add_axes(layout.box(left, top, width, height))
        if panel.scale.overlay < 1 and row.picture is not None:
            axes.imshow(_gray(row.picture), extent=_extent(row), interpolation="antialiased", aspect="auto")
        axes.imshow(
            np.ma.masked_invalid(values),
            alpha=panel.scale.overlay if row.picture is not None else None,
            cmap=panel.scale.colormap,
            vmin=low,
            vmax=high,
            extent=_extent(row),
            # As it is into a PDF: resampled there, it would be six times as large.
            interpolation="none",
            aspect="auto",
        )
        _mark(axes, row, min(width, height))
        if panel.scale.limits is None:
            text = f"{low:z.2f} to {high:z.2f}" if own else "undefined"
            lines = "\n".join(wrapped(text, layout.panel, CAPTION_PT))
            _write(figure, layout, (left + width / 2, top + height + 0.02), lines, ha="center")


def _reduced(picture: NDArray) -> NDArray:
    """Return a picture no larger than print shows it; the drawing of an aerial photo would take 65 bytes a pixel."""
    factor = max(picture.shape[:2]) // MOST_PX
    if factor < 2 or picture.dtype != np.uint8:
        return picture
    height, width = (side // factor for side in picture.shape[:2])
    # The last pixels that fill no block are not shown.
    blocks = picture[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    shown: NDArray = blocks.mean(axis=(1, 3), dtype=np.float32).round().astype(np.uint8)
    return shown


def _gray(picture: NDArray) -> NDArray:
    """Return a picture without its colours, which are the map's: float (H, W, 3) in [0, 1]."""
    shown = _reduced(picture)
    values = shown / 255 if shown.dtype == np.uint8 else shown
    gray: NDArray = np.repeat((values @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=2)
    return gray


def _extent(row: GridRow) -> tuple[float, float, float, float]:
    return (-0.5, row.size[1] - 0.5, row.size[0] - 0.5, -0.5)


def _mark(axes: Axes, row: GridRow, side_in: float) -> None:
    """Mark the query, a red dot with a white rim (smaller on small panels), and the outline of its object."""
    if row.outline is not None:
        # Padded, so that an object at the border of its photo has a closed outline.
        step = max(1, max(row.outline.shape) // MOST_PX)
        mask = np.pad(row.outline[::step, ::step], 1).astype(np.float32)
        across, down = ((np.arange(side) - 1) * step for side in (mask.shape[1], mask.shape[0]))
        axes.contour(across, down, mask, levels=[0.5], colors="white", linewidths=OUTLINE_PT)
    dot = min(DOT_PT, max(SMALLEST_DOT_PT, 0.08 * 72 * side_in))
    x, y = row.point
    axes.plot(x, y, "o", color=RED, markeredgecolor="white", markersize=dot, markeredgewidth=dot / 5, clip_on=False)
    left, right, bottom, top = _extent(row)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()


def _write(
    figure: Figure,
    layout: Layout,
    at: tuple[float, float],
    text: str,
    *,
    size: float = CAPTION_PT,
    ha: Literal["left", "center", "right"] = "left",
    va: Literal["top", "center", "bottom", "baseline"] = "top",
    rotation: float = 0,
) -> None:
    x, y, _, _ = layout.box(*at, 0, 0)
    spacing = LINE_SPACING
    # Names of files are no mathematics, whatever dollars they hold.
    figure.text(x, y, text, ha=ha, va=va, fontsize=size, linespacing=spacing, rotation=rotation, parse_math=False)


def _draw_bar(figure: Figure, layout: Layout, scale: Scale, top: float, bottom: float) -> None:
    left = layout.column(len(layout.headings)) + layout.panel + GAP
    height = min(bottom - top, TALLEST_BAR)
    axes = figure.add_axes(layout.box(left, top + (bottom - top - height) / 2, BAR_WIDTH, height))
    low, high = scale.limits or (0.0, 1.0)
    axes.imshow(
        np.linspace(1, 0, 256)[:, None], cmap=scale.colormap, aspect="auto", extent=(0, 1, low, high), vmin=0, vmax=1
    )
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=CAPTION_PT, width=0.4, length=1.5, pad=1)
    if scale.limits is None:
        axes.set_yticks([low, high], ["low", "high"])
    elif height < LOWEST_BAR:
        axes.set_yticks([])
        ends = f"{high:z.2f}\n{low:z.2f}"
        _write(figure, layout, (left + BAR_WIDTH + 0.03, top + (bottom - top) / 2), ends, va="center")
    elif height < 0.7:
        axes.set_yticks([low, high], [f"{low:z.2f}", f"{high:z.2f}"])
    lines = "\n".join(wrapped(scale.label, max(bottom - top, 0.4), CAPTION_PT))
    middle = top + (bottom - top) / 2
    _write(figure, layout, (left + BAR_ROOM - GAP - 0.01, middle), lines, ha="right", va="center", rotation=90)


def _draw_bar_below(figure: Figure, layout: Layout, scale: Scale, top: float) -> None:
    """Draw the bar of one column below it, with its ends; what it means stands below the pictures."""
    assert scale.column is not None
    left = layout.column(scale.column + 1)
    axes = figure.add_axes(layout.box(left, top, layout.panel, BAR_WIDTH))
    low, high = scale.limits or (0.0, 1.0)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=scale.colormap, aspect="auto", extent=(low, high, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([])
    for x, value, side in ((left, low, "left"), (left + layout.panel, high, "right")):
        _write(figure, layout, (x, top + BAR_WIDTH + 0.02), f"{value:z.2f}", ha="left" if side == "left" else "right")
    if scale.column == 0:
        lines = "\n".join(wrapped(scale.label, layout.panel, CAPTION_PT))
        _write(figure, layout, (layout.column(0), top - 0.01), lines)
