"""Sizes of pictures and names of columns in, places in inches out; and lines of text that fit where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from ..errors import ArgumentError

__all__ = [
    "BAR_ROOM",
    "CAPTION_PT",
    "GAP",
    "HEADING_PT",
    "LINE",
    "MARGIN",
    "TALLEST_IN",
    "Layout",
    "check_columns",
    "shortened",
    "wrapped",
]

GAP, MARGIN, CAPTION, LINE = 0.05, 0.04, 0.13, 0.115
BAR_ROOM = 0.52
TALLEST_PANEL = 1.35
# A page's text block; a taller figure is made narrower instead.
TALLEST_IN = 9.0
NARROWEST_PANEL = 0.3
SMALLEST_PANEL = 0.22
HEADING_LINES = 4
HEADING_PT, CAPTION_PT = 6.5, 5.5
HINTING = 1.04
WIDEST_RANGE = "-0.99 to -0.99"

Size = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Where things stand, in inches from the left and from the top.

    Attributes:
        width, height: of the figure.
        panel: width of a column.
        left: where the first column starts.
        headings: lines above each column of maps.
        key: lines below the figure that say what the letters above the columns mean; empty where the names fit.
        heading_height, caption: room above the first row, and below each.
    """

    width: float
    height: float
    panel: float
    left: float
    headings: list[list[str]]
    key: list[str]
    heading_height: float
    caption: float

    @classmethod
    def of(cls, sizes: Sequence[Size], names: Sequence[str], width: float, *, own_ranges: bool) -> Layout:
        """Return the layout with the widest panels that fit on a page.

        Args:
            sizes: height and width of each row's picture, px.
            names: of the columns of maps.
            width: of the figure, inches.
            own_ranges: whether each panel says its range below it.
        """
        check_columns(len(names), width)
        panel = _widest_panel(len(names), width)
        while True:
            found = cls._with_panels(panel, sizes, names, width, own_ranges)
            if found.height <= TALLEST_IN or panel < NARROWEST_PANEL:
                return found
            panel *= 0.97

    @classmethod
    def _with_panels(
        cls, panel: float, sizes: Sequence[Size], names: Sequence[str], width: float, own_ranges: bool
    ) -> Layout:
        headings, key = [wrapped(name, panel, HEADING_PT) for name in names], []
        if max(len(lines) for lines in headings) > HEADING_LINES:
            letters = [f"({chr(97 + place)})" for place in range(len(names))]
            named = [f"{letter} {name}" for letter, name in zip(letters, names, strict=True)]
            key = [line for text in named for line in wrapped(text, width - 2 * MARGIN, HEADING_PT)]
            headings = [[letter] for letter in letters]
        # A range that is wider than its panel takes a second line.
        caption = CAPTION * (2 if own_ranges and _width(WIDEST_RANGE, CAPTION_PT) > panel else 1)
        heading_height = LINE * max(len(lines) for lines in headings) + 0.04
        block = panel + (panel + GAP) * len(names) + BAR_ROOM
        found = cls(width, 0.0, panel, (width - block) / 2, headings, key, heading_height, caption)
        bottom = found.row_tops([*sizes, (0, 1)])[-1]
        return cls(**{**vars(found), "height": bottom + LINE * len(key) + MARGIN})

    def row_height(self, size: Size) -> float:
        """Return the height of a row whose picture has this size."""
        return self.panel * min(size[0] / size[1], TALLEST_PANEL)

    def row_tops(self, sizes: Sequence[Size]) -> list[float]:
        """Return where each row starts."""
        heights = [self.row_height(size) + self.caption for size in sizes]
        return [MARGIN + self.heading_height + sum(heights[:place]) for place in range(len(sizes))]

    def column(self, place: int) -> float:
        """Return where a column starts; 0 is the pictures'."""
        return self.left + place * (self.panel + GAP)

    def box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return a rectangle as fractions of the figure, as matplotlib wants them."""
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def check_columns(models: int, width: float) -> None:
    """Raise `ArgumentError` if so many columns of maps would be too narrow to see anything."""
    if _widest_panel(models, width) < SMALLEST_PANEL:
        most = max(count for count in range(1, models) if _widest_panel(count, width) >= SMALLEST_PANEL)
        raise ArgumentError(
            f"models must be at most {most} columns (a model's layers count each) in a figure of {width:g} inches, but "
            f"are {models}; draw them in several figures."
        )


def _widest_panel(models: int, width: float) -> float:
    return (width - 2 * MARGIN - BAR_ROOM - GAP * models) / (1 + models)


def wrapped(text: str, width_in: float, size: float) -> list[str]:
    """Break a name into lines of at most `width_in` inches, after a separator where there is one."""
    lines = [""]
    for part in re.split(r"(?<=[/_@,:.\- ])", text):
        if _width(lines[-1] + part.rstrip(), size) <= width_in:
            lines[-1] += part
            continue
        lines.append("")
        for letter in part:
            if _width(lines[-1] + letter, size) > width_in:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()] or [""]


def shortened(text: str, width_in: float, size: float) -> str:
    """Cut a line to `width_in` inches, with an ellipsis where something is gone."""
    if _width(text, size) <= width_in:
        return text
    while text and _width(text + "…", size) > width_in:
        text = text[:-1]
    return text + "…"


def _width(text: str, size: float) -> float:
    """Return the width of a line in inches."""
    # Letters are set one beside the other; kerning makes a line narrower, rounding to the pixels of a screen wider.
    return HINTING * sum(_letter_width(letter) for letter in text) * size / 72


@cache
def _letter_width(letter: str) -> float:
    # Between two bars, since a space by itself has no extent. In units of the font's size.
    size = 100
    widths = [
        TextPath((0, 0), text, size=size, prop=FontProperties()).get_extents().width
        for text in (f"|{letter}|".replace("$", r"\$"), "||")
    ]
    return float(widths[0] - widths[1]) / size
