"""A table of strings in, text out: for a terminal, fitted to its width; as markdown; as LaTeX."""

from __future__ import annotations

from typing import Literal, get_args

import pandas as pd

from ..errors import ArgumentError

__all__ = ["Format", "as_text"]

Format = Literal["table", "markdown", "latex", "json", "csv"]
BETWEEN = "  "


def as_text(table: pd.DataFrame, form: str, *, width: int | None = None, lead: int = 1) -> str:
    """Return a table of strings for a terminal (`table`), as markdown or as LaTeX (booktabs, numbers to the right).

    Args:
        table: of strings; its first columns say whose a row is.
        form: table, markdown or latex.
        width: of the terminal, letters; a wider table is cut into several, one below the other, with the first columns
            in each. None never cuts.
        lead: how many columns say whose a row is.

    Raises:
        ArgumentError: no such format.
    """
    if form not in get_args(Format):
        raise ArgumentError(f"format must be one of {', '.join(get_args(Format))}, not {form!r}.")
    if form == "latex":
        columns = "l" + "r" * (len(table.columns) - 1)
        return table.to_latex(index=False, escape=True, column_format=columns).rstrip()
    if form == "markdown":
        rule = ["---", *["---:"] * (len(table.columns) - 1)]
        cells = [list(table.columns), *table.to_numpy().tolist()]
        head, *rows = [[str(text).replace("|", "\\|") for text in line] for line in cells]
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rows])
    return "\n\n".join(_aligned(part) for part in _parts(table, width, lead))


def _widths(table: pd.DataFrame) -> list[int]:
    return [max(len(str(name)), *(len(text) for text in table[name])) for name in table]


def _parts(table: pd.DataFrame, width: int | None, lead: int) -> list[pd.DataFrame]:
    """Cut a table into as few as fit a width, each with the columns that lead."""
    first, others = list(table.columns[:lead]), list(table.columns[lead:])
    lengths = dict(zip(table.columns, _widths(table), strict=True))
    parts: list[list[str]] = [[]]
    for name in others:
        taken = sum(lengths[other] + len(BETWEEN) for other in [*first, *parts[-1], name]) - len(BETWEEN)
        if width is not None and taken > width and parts[-1]:
            parts.append([])
        parts[-1].append(name)
    return [table[[*first, *names]] for names in parts]


def _aligned(table: pd.DataFrame) -> str:
    """Return a table with its first column to the left and the others' values under the beginning of their headings."""
    lengths = _widths(table)
    lines = [list(table.columns), *table.to_numpy().tolist()]
    return "\n".join(
        BETWEEN.join(str(text).ljust(length) for text, length in zip(line, lengths, strict=True)).rstrip()
        for line in lines
    )
