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
    "Content",
    "Layout",
    "check_columns",
    "shortened",
    "text_width",
    "whole_words",
    "wrapped",
]

GAP, MARGIN, CAPTION, LINE = 0.05, 0.04, 0.13, 0.115
# Beside the columns, where a bar stands there; and below each of them.
BAR_ROOM, BAR_FOOT = 0.52, 0.3
TALLEST_PANEL = 1.35
# A page's text block; a taller figure is made narrower instead.
TALLEST_IN = 9.0
NARROWEST_PANEL = 0.3
SMALLEST_PANEL = 0.22
HEADING_LINES, CAPTION_LINES = 4, 2
HEADING_PT, CAPTION_PT = 6.5, 5.5
HINTING = 1.04
WIDEST_RANGE = "-0.99 to -0.99"

Size = tuple[int, int]


@dataclass(frozen=True)
class Content:
    """What a figure has to hold.

    Attributes:
        sizes: height and width of each row's picture, px.
        captions: of the rows.
        names: of the columns of maps.
        own_ranges: whether each panel says its range below it.
        bars: where colour bars stand; see `Layout`.
        foot: what stands beside bars that are below.
    """

    sizes: Sequence[Size]
    captions: Sequence[str]
    names: Sequence[str]
    own_ranges: bool = False
    bars: str = "beside"
    foot: str = ""


@dataclass(frozen=True)
class Layout:
    """Where things stand, in inches from the left and from the top.

    Attributes:
        width, height: of the figure.
        panel: width of a column.
        left: where the first column starts.
        headings: lines above each column of maps.
        key: lines below the figure that say what the letters above the columns mean; empty where the names fit.
        heading_height: room above the first row.
        captions: lines below each row's picture.
        caption: room for them, the same below each row.
        bars: whether colour bars stand `beside` the columns, `below` them, or nowhere (`none`).
    """

    width: float
    height: float
    panel: float
    left: float
    headings: list[list[str]]
    key: list[str]
    heading_height: float
    captions: list[list[str]]
    caption: float
    bars: str

    @classmethod
    def of(cls, content: Content, width: float) -> Layout:
        """Return the layout with the widest panels that fit on a page; `width` of the figure in inches."""
        check_columns(len(content.names), width, bars=content.bars)
        panel = _widest_panel(len(content.names), width, content.bars)
        while True:
            found = cls._with_panels(panel, content, width)
            if found.height <= TALLEST_IN or panel < NARROWEST_PANEL:
                return found
            panel *= 0.97

    @classmethod
    def _with_panels(cls, panel: float, content: Content, width: float) -> Layout:
        names, key = content.names, []
        headings = [whole_words(name, panel, HEADING_PT, most=HEADING_LINES) for name in names]
        if any(lines is None for lines in headings):
            letters = [f"({chr(97 + place)})" for place in range(len(names))]
            named = [f"{letter} {name}" for letter, name in zip(letters, names, strict=True)]
            key = [line for text in named for line in wrapped(text, width - 2 * MARGIN, HEADING_PT)]
            headings = [[letter] for letter in letters]
        above = [lines or [""] for lines in headings]
        captions = [_caption(text, panel) for text in content.captions]
        # A range that is wider than its panel takes a second line.
        ranges = 2 if content.own_ranges and text_width(WIDEST_RANGE, CAPTION_PT) > panel else 1
        caption = CAPTION + LINE * 0.75 * (max([ranges, *(len(lines) for lines in captions)]) - 1)
        heading_height = LINE * max(len(lines) for lines in above) + 0.04
        block = panel + (panel + GAP) * len(names) + (BAR_ROOM if content.bars == "beside" else 0)
        left = (width - block) / 2
        found = cls(width, 0.0, panel, left, above, key, heading_height, captions, caption, content.bars)
        foot = max(BAR_FOOT, LINE * 0.75 * len(wrapped(content.foot, panel, CAPTION_PT)) + 0.05)
        bottom = found.row_tops([*content.sizes, (0, 1)])[-1] + (foot if content.bars == "below" else 0)
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


def check_columns(models: int, width: float, *, bars: str = "beside") -> None:
    """Raise `ArgumentError` if so many columns of maps would be too narrow to see anything."""
    if _widest_panel(models, width, bars) < SMALLEST_PANEL:
        most = max(count for count in range(1, models) if _widest_panel(count, width, bars) >= SMALLEST_PANEL)
        raise ArgumentError(
            f"models must be at most {most} columns (a model's layers count each) in a figure of {width:g} inches, but "
            f"are {models}; draw them in several figures."
        )


def _widest_panel(models: int, width: float, bars: str) -> float:
    return (width - 2 * MARGIN - (BAR_ROOM if bars == "beside" else 0) - GAP * models) / (1 + models)


def whole_words(text: str, width_in: float, size: float, *, most: int) -> list[str] | None:
    """Break a name into at most `most` lines, only where it has a separator; None where that does not do."""
    lines = [""]
    for part in re.split(r"(?<=[/_@,:.\- ])", text):
        if text_width(part.strip(), size) > width_in:
            return None
        if text_width(lines[-1] + part.rstrip(), size) <= width_in:
            lines[-1] += part
        else:
            lines.append(part)
    found = [line.strip() for line in lines if line.strip()] or [""]
    return found if len(found) <= most else None


def _caption(text: str, panel: float) -> list[str]:
    return whole_words(text, panel, CAPTION_PT, most=CAPTION_LINES) or [shortened(text, panel, CAPTION_PT)]


def wrapped(text: str, width_in: float, size: float) -> list[str]:
    """Break a line into lines of at most `width_in` inches, within words only where one is wider than that."""
    lines = [""]
    for part in re.split(r"(?<=[/_@,:.\- ])", text):
        if text_width(lines[-1] + part.rstrip(), size) <= width_in:
            lines[-1] += part
            continue
        lines.append("")
        for letter in part:
            if text_width(lines[-1] + letter, size) > width_in:
                lines.append("")
            lines[-1] += letter
    return [line.strip() for line in lines if line.strip()] or [""]


def shortened(text: str, width_in: float, size: float) -> str:
    """Cut a line to `width_in` inches, with an ellipsis where something is gone."""
    if text_width(text, size) <= width_in:
        return text
    while text and text_width(text + "…", size) > width_in:
        text = text[:-1]
    return text + "…"


def text_width(text: str, size: float) -> float:
    """Return the width of a line of letters of `size` points, inches."""
    # Letters are set one beside the other; kerning makes a line narrower, rounding to the pixels of a screen wider.
    return HINTING * sum(_letter_width(letter) for letter in text) * size / 72


def _letter_width(letter: str) -> float:
    return _width_of(letter, FontProperties().get_name())


@cache
def _width_of(letter: str, _family: str) -> float:
    # Between two bars, since a space by itself has no extent. In units of the font's size.
    size = 100
    widths = [
        TextPath((0, 0), text, size=size, prop=FontProperties()).get_extents().width
        for text in (f"|{letter}|".replace("$", r"\$"), "||")
    ]
    return float(widths[0] - widths[1]) / size
