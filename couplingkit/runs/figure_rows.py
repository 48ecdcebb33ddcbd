"""Words like `photo.jpg@212,140` or a TOML of rows in, the rows of an affinity figure out: a photo and a point each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, DataError
from ..evaluation.affinity import Query
from ..typed_files import Record, as_record, read_toml
from ..words import as_path
from .pictures import Pictures, open_pictures

__all__ = ["FigureRow", "open_rows", "read_rows"]


@dataclass(frozen=True)
class FigureRow:
    """One row: a photo, a point of it, and what stands below.

    Attributes:
        image: the photo's path.
        x, y: px of the photo.
        caption: None stands for the point.
    """

    image: Path
    x: float
    y: float
    caption: str | None = None


class _Row(Record, frozen=True, forbid_unknown_fields=True):
    image: str
    point: tuple[float, float]
    caption: str | None = None


class _Rows(Record, frozen=True, forbid_unknown_fields=True):
    row: list[_Row]


def read_rows(words: Sequence[str]) -> list[FigureRow]:
    """Read the rows of a figure, in their order.

    Args:
        words: each `PHOTO@X,Y`, or the path of a TOML file with a [[row]] table each: `image` (from the file's folder),
            `point` = [x, y], and `caption`.

    Raises:
        ArgumentError: a word is neither.
        DataError: the file cannot be read, or says something else.
    """
    rows: list[FigureRow] = []
    for word in words:
        rows += _of_file(as_path(word)) if word.lower().endswith(".toml") else [_of_word(word)]
    return rows


def _of_word(word: str) -> FigureRow:
    path, _, point = word.rpartition("@")
    try:
        x, y = (float(part) for part in point.split(","))
    except ValueError:
        x = y = float("nan")
    if not path or x != x or y != y:
        raise ArgumentError(
            f"rows must be PHOTO@X,Y in px of the photo, like photo.jpg@212,140, or a .toml, not {word!r}."
        )
    return FigureRow(as_path(path), x, y)


def _of_file(path: Path) -> list[FigureRow]:
    content: Any = read_toml(path, "rows")
    read = as_record(content, _Rows, f"rows {path}")
    if not read.row:
        raise DataError(f"rows {path} has no [[row]]; give one with image and point.")
    return [FigureRow(path.parent / as_path(row.image), *row.point, row.caption) for row in read.row]


def open_rows(rows: Sequence[FigureRow]) -> tuple[Pictures, list[Query], list[str]]:
    """Read the photos of rows, each once, and return them, the rows' points and their captions.

    Raises:
        ArgumentError: a point lies outside its photo.
        DataError: a photo cannot be read.
    """
    paths = list(dict.fromkeys(row.image for row in rows))
    pictures = open_pictures(paths)
    if pictures.failures:
        raise DataError(pictures.failures[0])
    queries, captions = [], []
    for row in rows:
        place = paths.index(row.image)
        query = Query(place, row.x, row.y)
        query.check_inside(pictures.rgb[place], row.image.name)
        queries.append(query)
        captions.append(f"{row.x:g}, {row.y:g}" if row.caption is None else row.caption)
    return pictures, queries, captions
