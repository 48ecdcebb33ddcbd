"""Measurements in, tables out: for a terminal, for markdown and LaTeX, as CSV, and the summary as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal, get_args

import pandas as pd

from ..errors import ArgumentError
from ..metrics.bootstrap import Estimate
from ..metrics.summary import CLIPPED_LIMIT, RateSummary
from ..study import Measurement

__all__ = [
    "Format",
    "as_text",
    "estimate_text",
    "number",
    "render",
    "short_labels",
    "summary_document",
    "summary_numbers",
]

Format = Literal["table", "markdown", "latex", "json", "csv"]
Difference = tuple[str, str, Estimate, int]


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
    """Return one row a model: every statistic with its bounds (`NAME`, `NAME_low`, `NAME_high`), and the counts."""
    rows = []
    for measurement in measurements:
        summary = measurement.summary
        row: dict[str, Any] = {"model": measurement.name}
        for name, estimate in summary.estimates.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        lost = summary.probes - summary.measured
        rows.append(row | {"made": summary.probes, "measured": summary.measured, "not_measurable": lost})
    return pd.DataFrame(rows)


def _for_reading(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """Return the table as text, one row a model, intervals behind their values."""
    labels = short_labels([measurement.name for measurement in measurements])
    rows = []
    for label, measurement in zip(labels, measurements, strict=True):
        summary = measurement.summary
        found = summary.estimates
        clipped = (found["clipped_numerator"].value, found["clipped_denominator"].value)
        rows.append(
            {
                "model": label,
                f"cr_mean [{summary.level:.0%}]": estimate_text(found["cr_mean"]) + _mark(summary),
                "cr_median": f"{found['cr_median'].value:.3f}",
                "cr_geomean": f"{found['cr_geomean'].value:.3f}",
                "cr_of_means": f"{found['cr_of_means'].value:.3f}",
                f"specificity [{summary.level:.0%}]": estimate_text(found.get("specificity")),
                "displacement": f"{found['displacement'].value:.3f}",
                "clipped num/den": " / ".join(f"{share:.1%}" for share in clipped),
                "made": str(summary.probes),
                "measured": str(summary.measured),
                "not measurable": str(summary.probes - summary.measured),
            }
        )
    return pd.DataFrame(rows)


def _mark(summary: RateSummary) -> str:
    return " (!)" if summary.clipped_denominator > CLIPPED_LIMIT else ""


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


def render(
    measurements: Sequence[Measurement],
    form: str,
    *,
    differences: Sequence[Difference] = (),
    command: str = "",
) -> str:
    """Return the results as text in one of the formats of `Format`.

    Args:
        measurements: one per model.
        form: table, markdown, latex, json or csv.
        differences: (first, second, estimate, probes in common) of paired models.
        command: what was run, for the JSON.

    Raises:
        ArgumentError: no such format.
    """
    if form == "json":
        return json.dumps(summary_document(measurements, differences=differences, command=command), indent=1)
    if form == "csv":
        return summary_numbers(measurements).to_csv(index=False).rstrip()
    text = as_text(_for_reading(measurements), form)
    if form != "table":
        return text
    marked = any(_mark(measurement.summary) for measurement in measurements)
    foot = [f"(!) no measurement: over {CLIPPED_LIMIT:.0%} of the denominators are clipped"] if marked else []
    return "\n".join([text, *foot, *_difference_lines(differences)])


def _difference_lines(differences: Sequence[Difference]) -> list[str]:
    lines = []
    for first, second, estimate, count in differences:
        left, right = short_labels([first, second])
        lines.append(f"cr_mean({left}) - cr_mean({right}) = {estimate_text(estimate)} on the {count} probes of both")
    return ["", *lines] if lines else []


def summary_document(
    measurements: Sequence[Measurement], *, differences: Sequence[Difference] = (), command: str = ""
) -> dict[str, Any]:
    """Return everything that is printed, and where it comes from, as JSON values (undefined numbers are null)."""
    return {
        "command": command,
        "models": [
            {
                "name": measurement.name,
                "statistics": {
                    name: {key: number(value) for key, value in vars(estimate).items()}
                    for name, estimate in measurement.summary.estimates.items()
                },
                "level": measurement.summary.level,
                "probes": {
                    "made": measurement.summary.probes,
                    "measured": measurement.summary.measured,
                    "not_measurable": measurement.summary.probes - measurement.summary.measured,
                },
                "source_images": measurement.summary.source_images,
                "warnings": list(measurement.warnings),
                "provenance": measurement.provenance,
            }
            for measurement in measurements
        ],
        "differences": [
            {
                "statistic": "cr_mean",
                "first": first,
                "second": second,
                **{key: number(value) for key, value in vars(estimate).items()},
                "probes": count,
            }
            for first, second, estimate, count in differences
        ],
    }


def number(value: float) -> float | None:
    """Return a number as JSON has it: null where it is not finite."""
    return value if math.isfinite(value) else None
