"""Pictures and maps in, one figure of rows and columns out: every length is set in inches, so that nothing overlaps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from .plots import STYLE

__all__ = ["GridRow", "Panel", "Scale", "map_grid"]

GAP, MARGIN, CAPTION, LINE = 0.05, 0.04, 0.13, 0.115
BAR_ROOM, BAR_WIDTH = 0.52, 0.08
LINE_SPACING = 1.1
DOT_PT = 4.2
TALLEST_PANEL = 1.35
# A page's text block; a taller figure is made narrower instead.
TALLEST_IN = 9.0
HEADING_LINES = 4
HEADING_PT, CAPTION_PT = 6.5, 5.5
DPI = 300
UNDEFINED = "0.55"
RED = "#e2231a"


@dataclass(frozen=True)
class Scale:
    """The colours of one row or of all.

    Attributes:
        colours: a colour map's name.
        limits: lowest and highest value; None where each panel has its own.
        label: of the colour bar.
    """

    colours: str
    limits: tuple[float, float] | None
    label: str

    @property
    def colormap(self) -> Colormap:
        """The colour map, with gray for what is not defined."""
        return colormaps[self.colours].with_extremes(bad=UNDEFINED)


@dataclass(frozen=True)
class Panel:
    """One map: draws itself at (height, width) px, as values (H, W); NaN is undefined."""

    at_size: Callable[[tuple[int, int]], NDArray[np.float64]]
    scale: Scale


@dataclass(frozen=True)
class GridRow:
    """A picture, the query on it, and its maps.

    Attributes:
        picture: (H, W, 3), uint8 or float in [0, 1]; None leaves the place empty.
        size: height and width of the picture and of what the maps show, px.
        point: x, y of the query, px of the picture.
        caption: below the picture, or in its place.
        panels: one per column.
    """

    picture: NDArray | None
    size: tuple[int, int]
    point: tuple[float, float]
    caption: str
    panels: Sequence[Panel]


def map_grid(rows: Sequence[GridRow], headings: Sequence[str], *, width_in: float, first: str = "query") -> Figure:
    """Draw rows of one picture and several maps, with the query marked on each, and a colour bar per scale.

    A column whose name does not fit above it gets a letter, and the names stand below the figure.

    Args:
        rows: from the top.
        headings: one per column of maps.
        width_in: inches.
        first: heading of the pictures.
    """
    with rc_context(STYLE):
        layout = _Layout.of(rows, headings, width_in)
        figure = Figure(figsize=(width_in, layout.height))
        _write_names(figure, layout, first)
        tops = layout.row_tops(rows)
        for row, top in zip(rows, tops, strict=True):
            _draw_row(figure, layout, row, top)
        for scale in dict.fromkeys(panel.scale for row in rows for panel in row.panels):
            using = [place for place, row in enumerate(rows) if any(panel.scale == scale for panel in row.panels)]
            bottom = tops[using[-1]] + layout.row_height(rows[using[-1]])
            _draw_bar(figure, layout, scale, tops[using[0]], bottom)
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where things stand, in inches from the left and from the top."""

    width: float
    height: float
    panel: float
    left: float
    headings: list[list[str]]
    key: list[list[str]]
    heading_height: float

    @classmethod
    def of(cls, rows: Sequence[GridRow], names: Sequence[str], width: float) -> _Layout:
        columns = 1 + len(names)
        panel = (width - 2 * MARGIN - BAR_ROOM - GAP * (columns - 1)) / columns
        while True:
            headings = [_wrapped(name, panel, HEADING_PT) for name in names]
            key: list[list[str]] = []
            if max(len(lines) for lines in headings) > HEADING_LINES:
                letters = [f"({chr(97 + place)})" for place in range(len(names))]
                key = [
                    _wrapped(f"{letter} {name}", width - 2 * MARGIN, HEADING_PT)
                    for letter, name in zip(letters, names, strict=True)
                ]
                headings = [[letter] for letter in letters]
            heading_height = LINE * max(len(lines) for lines in headings) + 0.04
            key_height = LINE * sum(len(lines) for lines in key)
            drawn = cls(width, 0.0, panel, 0.0, headings, key, heading_height)
            height = (
                MARGIN + heading_height + sum(drawn.row_height(row) + CAPTION for row in rows) + key_height + MARGIN
            )
            if height <= TALLEST_IN or panel < 0.3:
                break
            panel *= 0.97
        block = columns * panel + GAP * (columns - 1) + BAR_ROOM
        return cls(width, height, panel, (width - block) / 2, headings, key, heading_height)

    def row_height(self, row: GridRow) -> float:
        return self.panel * min(row.size[0] / row.size[1], TALLEST_PANEL)

    def row_tops(self, rows: Sequence[GridRow]) -> list[float]:
        heights = [self.row_height(row) + CAPTION for row in rows]
        return [MARGIN + self.heading_height + sum(heights[:place]) for place in range(len(rows))]

    def column(self, place: int) -> float:
        return self.left + place * (self.panel + GAP)

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return a rectangle as fractions of the figure, as matplotlib wants them."""
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def _wrapped(text: str, width_in: float, size: float) -> list[str]:
    """Break a name into lines of at most `width_in` inches, after a separator where there is one."""
    parts = [part for part in re.split(r"(?<=[/_@,:.\- ])", text) if part]
    lines = [""]
    for part in parts:
        if _width(lines[-1] + part.rstrip(), size) <= width_in:
            lines[-1] += part
            continue
        lines.append("")
        for letter in part:
            if _width(lines[-1] + letter, size) > width_in:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()] or [""]


def _width(text: str, size: float) -> float:
    if not text:
        return 0.0
    return float(TextPath((0, 0), text.replace("$", r"\$"), size=size, prop=FontProperties()).get_extents().x1) / 72


def _write_names(figure: Figure, layout: _Layout, first: str) -> None:
    bottom = MARGIN + layout.heading_height - 0.04
    for place, lines in enumerate([[first], *layout.headings]):
        middle = layout.column(place) + layout.panel / 2
        _write(figure, layout, middle, bottom, "\n".join(lines), size=HEADING_PT, ha="center", va="bottom")
    if layout.key:
        text = "\n".join(line for lines in layout.key for line in lines)
        _write(figure, layout, MARGIN, layout.height - MARGIN, text, size=HEADING_PT, ha="left", va="bottom")


def _draw_row(figure: Figure, layout: _Layout, row: GridRow, top: float) -> None:
    height = layout.row_height(row)
    # A tall portrait keeps its aspect: its panels are narrower than their column.
    width = height * row.size[1] / row.size[0]
    inset = (layout.panel - width) / 2
    left = layout.column(0)
    if row.picture is None:
        lines = "\n".join(_wrapped(row.caption, layout.panel, CAPTION_PT))
        _write(figure, layout, left + layout.panel / 2, top + height / 2, lines, ha="center", va="center")
    else:
        axes = figure.add_axes(layout.box(left + inset, top, width, height))
        axes.imshow(row.picture, extent=_extent(row), interpolation="antialiased", aspect="auto")
        _mark(axes, row, min(width, height))
        _write(figure, layout, left + inset, top + height + 0.02, _cut(row.caption, layout.panel - inset))
    for place, panel in enumerate(row.panels, 1):
        left = layout.column(place) + inset
        values = panel.at_size((max(1, round(height * DPI)), max(1, round(width * DPI))))
        low, high = panel.scale.limits or _own_limits(values)
        axes = figure.add_axes(layout.box(left, top, width, height))
        axes.imshow(
            np.ma.masked_invalid(values),
            cmap=panel.scale.colormap,
            vmin=low,
            vmax=high,
            extent=_extent(row),
            interpolation="nearest",
            aspect="auto",
        )
        _mark(axes, row, min(width, height))
        if panel.scale.limits is None:
            _write(figure, layout, left, top + height + 0.02, f"{low:.2f} to {high:.2f}")


def _extent(row: GridRow) -> tuple[float, float, float, float]:
    return (-0.5, row.size[1] - 0.5, row.size[0] - 0.5, -0.5)


def _mark(axes: Axes, row: GridRow, side_in: float) -> None:
    """Mark the query: a red dot with a white rim, smaller on small panels."""
    dot = min(DOT_PT, max(2.4, 0.08 * 72 * side_in))
    x, y = row.point
    axes.plot(x, y, "o", color=RED, markeredgecolor="white", markersize=dot, markeredgewidth=dot / 5, clip_on=False)
    left, right, bottom, top = _extent(row)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_axis_off()


def _own_limits(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.isnan(values).all():
        return 0.0, 1.0
    return float(np.nanmin(values)), float(np.nanmax(values))


def _write(
    figure: Figure,
    layout: _Layout,
    left: float,
    top: float,
    text: str,
    *,
    size: float = CAPTION_PT,
    ha: Literal["left", "center", "right"] = "left",
    va: Literal["top", "center", "bottom"] = "top",
    rotation: float = 0,
) -> None:
    x, y, _, _ = layout.box(left, top, 0, 0)
    spacing = LINE_SPACING
    # Names of files are no mathematics, whatever dollars they hold.
    figure.text(x, y, text, ha=ha, va=va, fontsize=size, linespacing=spacing, rotation=rotation, parse_math=False)


def _cut(text: str, width_in: float) -> str:
    if _width(text, CAPTION_PT) <= width_in:
        return text
    while text and _width(text + "…", CAPTION_PT) > width_in:
        text = text[:-1]
    return text + "…"


def _draw_bar(figure: Figure, layout: _Layout, scale: Scale, top: float, bottom: float) -> None:
    left = layout.column(len(layout.headings)) + layout.panel + GAP
    height = min(bottom - top, 2.0)
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
    elif height < 0.7:
        axes.set_yticks([low, high], [f"{low:.2f}", f"{high:.2f}"])
    lines = "\n".join(_wrapped(scale.label, max(bottom - top, 0.4), CAPTION_PT))
    middle = top + (bottom - top) / 2
    _write(figure, layout, left + BAR_ROOM - GAP - 0.01, middle, lines, ha="right", va="center", rotation=90)
