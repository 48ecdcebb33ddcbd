"""Measurements in, tables out: for a terminal, for markdown and LaTeX, as CSV, and the summary as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal, get_args

import pandas as pd

from ..errors import ArgumentError
from ..metrics.bootstrap import Estimate
from ..metrics.quantities import QUANTITIES, Place, Quantity, shown_in
from ..metrics.summary import RateSummary
from ..runs.records import PairedDifference, Run
from ..runs.writing import summary_file
from ..study.measurement import Measurement
from ..typed_files import json_text

__all__ = [
    "Format",
    "as_text",
    "bounds_columns",
    "difference_lines",
    "estimate_text",
    "marks_line",
    "number",
    "quantity_columns",
    "quantity_text",
    "render",
    "short_labels",
    "summary_numbers",
]

Format = Literal["table", "markdown", "latex", "json", "csv"]


def short_labels(names: Sequence[str]) -> list[str]:
    """Return the names with the paths of weights files cut to the shortest tails that tell them apart.

    >>> short_labels(["vit@runs/a/last.pth", "vit@runs/b/last.pth", "resnet50"])
    ['vit@a/last.pth', 'vit@b/last.pth', 'resnet50']
    """
    for depth in range(1, 20):
        labels = [_cut_path(name, depth) for name in names]
        if len(set(labels)) == len(set(names)):
            return labels
    return list(names)


def _cut_path(name: str, depth: int) -> str:
    architecture, at, path = name.partition("@")
    return architecture + at + "/".join(PurePath(path).parts[-depth:]) if at else name


def summary_numbers(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return one row a model: every quantity with its bounds (`NAME`, `NAME_low`, `NAME_high`), and the counts."""
    rows = []
    for measurement in measurements:
        summary = measurement.summary
        row: dict[str, Any] = {"model": measurement.name, **bounds_columns(summary)}
        lost = summary.probes - summary.measured
        rows.append(row | {"made": summary.probes, "measured": summary.measured, "not_measurable": lost})
    return pd.DataFrame(rows)


def bounds_columns(summary: RateSummary) -> dict[str, float]:
    """Return every quantity with its bounds, as columns of a table of numbers."""
    row: dict[str, float] = {}
    for name, estimate in summary.estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row


def quantity_columns(summary: RateSummary, place: Place) -> dict[str, str]:
    """Return the quantities that are shown in a place, as columns of a table for people; marked where they are none."""
    cells = {}
    for quantity in shown_in(place):
        estimate = summary.estimates.get(quantity.name)
        heading = f"{quantity.name} [{summary.level:.0%}]" if quantity.bounds else quantity.name
        text = quantity_text(quantity, estimate) if quantity.bounds else _value_text(quantity, estimate)
        cells[heading] = text + (" (!)" if summary.marks(quantity.name) else "")
    return cells


def quantity_text(quantity: Quantity, estimate: Estimate | None) -> str:
    """Return a quantity's value with its interval, as it is printed; `-` where there is none."""
    text = _value_text(quantity, estimate)
    if estimate is None or math.isnan(estimate.value) or math.isnan(estimate.low):
        return text
    return f"{text} [{quantity.text(estimate.low)}, {quantity.text(estimate.high)}]"


def _value_text(quantity: Quantity, estimate: Estimate | None) -> str:
    return "-" if estimate is None or math.isnan(estimate.value) else quantity.text(estimate.value)


def marks_line(summaries: Sequence[RateSummary]) -> list[str]:
    """Return the line below a table that says what `(!)` means there; none where nothing is marked."""
    reasons = [why for summary in summaries for name in summary.estimates for why in summary.marks(name)]
    return [f"(!) no measurement: {'; '.join(dict.fromkeys(reasons))}"] if reasons else []


def _for_reading(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return the table as text, one row a model, intervals behind their values."""
    labels = short_labels([measurement.name for measurement in measurements])
    return pd.DataFrame(
        [
            {
                "model": label,
                **quantity_columns(measurement.summary, "table"),
                "made": str(measurement.summary.probes),
                "measured": str(measurement.summary.measured),
                "not measurable": str(measurement.summary.probes - measurement.summary.measured),
            }
            for label, measurement in zip(labels, measurements, strict=True)
        ]
    )


def estimate_text(estimate: Estimate | None) -> str:
    """Return a value with its interval, `-` where there is none."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    if math.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def as_text(table: pd.DataFrame, form: str) -> str:
    """Return a table of strings for a terminal (`table`), as markdown or as LaTeX.

    Raises:
        ArgumentError: no such format.
    """
    if form not in get_args(Format):
        raise ArgumentError(f"format must be one of {', '.join(get_args(Format))}, not {form!r}.")
    if form == "latex":
        return table.to_latex(index=False, escape=True).rstrip()
    if form == "markdown":
        lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return table.to_string(index=False)


def render(run: Run, form: str) -> str:
    """Return what a run found as text in one of the formats of `Format`.

    Args:
        run: of `measure`.
        form: table, markdown, latex, json or csv.

    Raises:
        ArgumentError: no such format.
    """
    if form == "json":
        return json_text(summary_file(run)).rstrip()
    if form == "csv":
        return summary_numbers(run.measurements).to_csv(index=False).rstrip()
    text = as_text(_for_reading(run.measurements), form)
    if form != "table":
        return text
    foot = marks_line([measurement.summary for measurement in run.measurements])
    return "\n".join([text, *foot, *difference_lines(run.differences)])


def difference_lines(differences: Sequence[PairedDifference]) -> list[str]:
    """Return a line for each paired difference, with an empty one before them."""
    lines = []
    for difference in differences:
        left, right = short_labels([difference.first, difference.second])
        name = difference.quantity
        text = quantity_text(QUANTITIES[name], difference.estimate)
        lines.append(f"{name}({left}) - {name}({right}) = {text} on the {difference.probes} probes of both")
    return ["", *lines] if lines else []


def number(value: float) -> float | None:
    """Return a number as JSON has it: null where it is not finite."""
    return value if math.isfinite(value) else None
