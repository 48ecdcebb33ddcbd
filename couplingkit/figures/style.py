"""The one style of all figures: sizes of columns, letters, colours that eyes of all kinds tell apart."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from ..errors import ArgumentError, listed, near

__all__ = [
    "COLOURS",
    "COLUMN_IN",
    "INK",
    "LEVEL_ONE",
    "MAPS",
    "MARK",
    "MARKS",
    "PAGE_IN",
    "STYLES",
    "FigureStyle",
    "PaperFigure",
    "check_colour_map",
    "chosen_style",
    "figure_rc",
    "in_style",
]

SCREEN_DPI = 150
SANS, SERIF = "DejaVu Sans", "STIXGeneral"
# Of one quantity, beside the level that means nothing.
INK, MARK, LEVEL_ONE = "#33567a", "#c03a2b", "#555555"
# Of models: Okabe and Ito's, which eyes of all kinds tell apart, darkest first; and by marks, in gray, too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vPX"
# Of affinity maps: even in lightness, so that they read in gray.
MAPS = ("inferno", "magma", "plasma", "viridis", "cividis", "gray")


@dataclass(frozen=True)
class FigureStyle:
    """What a place of publication asks of figures.

    Attributes:
        column_in: width of one column, inches.
        page_in: of the text block.
        family: of letters; Times-like where the text is, from what comes with matplotlib.
    """

    column_in: float
    page_in: float
    family: str = SANS


STYLES = {
    "paper": FigureStyle(3.35, 6.9),
    "cvpr": FigureStyle(3.25, 6.875, SERIF),
    "iccv": FigureStyle(3.25, 6.875, SERIF),
    "eccv": FigureStyle(4.8, 4.8, SERIF),
    "iclr": FigureStyle(5.5, 5.5, SERIF),
    "icml": FigureStyle(3.25, 6.75, SERIF),
    "neurips": FigureStyle(5.5, 5.5, SERIF),
    "tpami": FigureStyle(3.5, 7.16, SERIF),
}
COLUMN_IN, PAGE_IN = STYLES["paper"].column_in, STYLES["paper"].page_in
_CURRENT: ContextVar[FigureStyle] = ContextVar("figure style", default=STYLES["paper"])


def chosen_style(name: str) -> FigureStyle:
    """Return a style by its name.

    >>> chosen_style("cvpr").column_in
    3.25

    Raises:
        ArgumentError: there is none of this name.
    """
    if name not in STYLES:
        raise ArgumentError(f"style must be one of {listed(STYLES)}, not {name!r}{near(name, STYLES)}.")
    return STYLES[name]


@contextmanager
def in_style(style: FigureStyle) -> Iterator[None]:
    """Let all figures that are drawn in the block be of a style."""
    token = _CURRENT.set(style)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def figure_rc(**more: Any) -> Any:
    """Return matplotlib's settings for the style of the running block, as a context: nothing else is touched."""
    settings: Any = {
        "font.family": _CURRENT.get().family,
        "mathtext.fontset": "stix" if _CURRENT.get().family == SERIF else "dejavusans",
        "font.size": 7,
        "axes.linewidth": 0.6,
        "axes.titlesize": 7,
        "xtick.labelsize": 7,
        "xtick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        # Fonts are embedded whole, as publishers ask; in SVG letters are shapes, the same on every machine.
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.fonttype": "path",
        **more,
    }
    return rc_context(settings)


class PaperFigure(Figure):
    """A figure that notebooks show inline, wherever it was made: it belongs to no window."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        with figure_rc():
            self.savefig(stream, format="png", dpi=SCREEN_DPI)
        return stream.getvalue()


def check_colour_map(name: str) -> None:
    """Raise `ArgumentError` for a colour map that is none, or whose lightness goes up and down (jet, rainbow)."""
    if name not in MAPS:
        known = "which is uneven in lightness" if name in colormaps else "which is none"
        raise ArgumentError(f"cmap must be one of {listed(MAPS)}, not {name!r}, {known}.")
