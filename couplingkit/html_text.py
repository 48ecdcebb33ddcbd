"""Rows of text in, a small HTML table out, as notebooks show records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["table_html"]

NUMBER = "text-align: right; font-variant-numeric: tabular-nums"


def table_html(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", notes: Iterable[str] = ()
) -> str:
    """Return an HTML table, its first column to the left, with a caption above and notes below; all of it escaped.

    >>> table_html(["a", "b"], [["1 < 2", "3"]], caption="two")[:35]
    '<div><p><b>two</b></p><table><thead'
    """

    def cells(row: Sequence[str], tag: str) -> str:
        styles = ["text-align: left", *[NUMBER] * (len(row) - 1)]
        found = (f'<{tag} style="{style}">{escape(cell)}</{tag}>' for style, cell in zip(styles, row, strict=True))
        return f"<tr>{''.join(found)}</tr>"

    head = f"<p><b>{escape(caption)}</b></p>" if caption else ""
    foot = "".join(f"<p>{escape(note)}</p>" for note in notes)
    body = "".join(cells(row, "td") for row in rows)
    return f"<div>{head}<table><thead>{cells(headings, 'th')}</thead><tbody>{body}</tbody></table>{foot}</div>"
