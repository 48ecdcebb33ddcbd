"""Measurements in, tables out: for a terminal, for markdown and LaTeX, as CSV, and the summary as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..errors import ArgumentError, near
from ..metrics.bootstrap import Estimate
from ..metrics.quantities import QUANTITIES, Place, Quantity, shown_in
from ..metrics.summary import RateSummary
from ..runs.models import CONTROL_ROW
from ..runs.records import PairedDifference, Run
from ..runs.writing import summary_file
from ..study.alignment import LOCAL
from ..study.measurement import Measurement
from ..typed_files import json_text
from .labels import cut_labels, short_labels
from .text_tables import as_text

__all__ = [
    "WAYS",
    "bounds_columns",
    "chosen_columns",
    "columns_chosen",
    "controls_line",
    "difference_lines",
    "difference_text",
    "estimate_text",
    "heading_of",
    "marked_text",
    "marks_line",
    "number",
    "quantity_columns",
    "quantity_text",
    "render",
    "summary_numbers",
    "way_of_reading",
    "ways_unlike",
]

# How models were read; a column of the table only where they were not all read alike.
WAYS = ("input", "stride", "layer")
# Letters of a model's name in a table for a terminal.
LONGEST = 30


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
    return chosen_columns(summary, shown_in(place))


def chosen_columns(summary: RateSummary, quantities: Sequence[Quantity]) -> dict[str, str]:
    """Return quantities with their intervals as columns of a table for people; those that nobody knows are left out."""
    cells = {}
    for quantity in quantities:
        if quantity.optional and quantity.name not in summary.estimates:
            continue
        cells[heading_of(quantity)] = marked_text(quantity, summary)
    return cells


def heading_of(quantity: Quantity) -> str:
    """Return the heading of a quantity's column, with its unit."""
    return f"{quantity.name} (rad)" if quantity.unit == "rad" else quantity.name


def marked_text(quantity: Quantity, summary: RateSummary) -> str:
    """Return a quantity's value and interval as printed, with `(!)` behind the value where it is no measurement."""
    mark = " (!)" if summary.marks(quantity.name) else ""
    value, bracket, bounds = quantity_text(quantity, summary.estimates.get(quantity.name)).partition(" [")
    return value + mark + bracket + bounds


def quantity_text(quantity: Quantity, estimate: Estimate | None) -> str:
    """Return a quantity's value with its interval, as it is printed; `-` where there is none."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    text = quantity.text(estimate.value)
    if math.isnan(estimate.low):
        return text
    return f"{text} [{quantity.text(estimate.low)}, {quantity.text(estimate.high)}]"


def difference_text(quantity: Quantity, estimate: Estimate | None, *, below: bool) -> str:
    """Return a difference as it is printed: in words where it is below the resolution of the arithmetic."""
    return "below resolution" if below and estimate is not None else quantity_text(quantity, estimate)


def marks_line(summaries: Sequence[RateSummary]) -> list[str]:
    """Return the lines below a table that say what `(!)` means there; none where nothing is marked."""
    reasons: dict[str, dict[str, None]] = {}
    for summary in summaries:
        for name, why in summary.doubts.items():
            reasons.setdefault(name, {}).update(dict.fromkeys(why))
    return [f"(!) no measurement: {name}: {'; or '.join(why)}" for name, why in reasons.items()]


def _for_reading(
    measurements: Sequence[Measurement], quantities: Sequence[Quantity], longest: int | None
) -> pd.DataFrame:
    """Return the table as text, one row a model, intervals behind their values."""
    names = [measurement.name for measurement in measurements]
    labels = short_labels(names) if longest is None else cut_labels(names, longest)
    table = pd.DataFrame(
        [
            {
                "model": label,
                **chosen_columns(measurement.summary, quantities),
                "probes": f"{measurement.summary.measured}/{measurement.summary.probes}",
                **dict(zip(WAYS, way_of_reading(measurement), strict=True)),
            }
            for label, measurement in zip(labels, measurements, strict=True)
        ]
    ).fillna("-")
    unlike = ways_unlike(measurements)
    return table.drop(columns=[name for index, name in enumerate(WAYS) if index not in unlike])


def ways_unlike(measurements: Sequence[Measurement]) -> list[int]:
    """Return in which of `WAYS` not all models were read alike; the control row says nothing of the models."""
    models = [measurement for measurement in measurements if measurement.name != CONTROL_ROW] or list(measurements)
    ways = [way_of_reading(measurement) for measurement in models]
    return [index for index in range(len(WAYS)) if len({way[index] for way in ways}) > 1]


def way_of_reading(measurement: Measurement) -> tuple[str, str, str]:
    """Return how a model was read, in the order of `WAYS`: input, px; stride, px; layer."""
    model = measurement.provenance["model"]
    height, width = model["image_size"]
    size = str(height) if height == width else f"{height}x{width}"
    return size, str(model["stride_px"]), str(model.get("layer", "last"))


def controls_line(measurement: Measurement) -> str:
    """Return in a sentence what the controls of a measurement found."""
    controls = measurement.provenance["controls"]
    told = (
        f"with B left out, CR is exactly 1 on {controls['probes']} probes of the first batch, at the beginning and at "
        f"the end; other company in the batch moves an angle by {controls['other_batch_rad']:.1g} rad at most"
    )
    if controls["aligned"] < LOCAL:
        return f"{told}; whether the map is turned or shifted cannot be told."
    return f"{told}; the map answers where objects are (correlation {controls['aligned']:.2f})."


def estimate_text(estimate: Estimate | None) -> str:
    """Return a value with its interval, `-` where there is none."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    if math.isnan(estimate.low):
        return f"{estimate.value:z.3f}"
    return f"{estimate.value:z.3f} [{estimate.low:z.3f}, {estimate.high:z.3f}]"


def columns_chosen(names: Sequence[str]) -> list[Quantity]:
    """Return the quantities that are named; `all` stands for every one.

    Raises:
        ArgumentError: there is none of a name.
    """
    if "all" in names:
        return list(QUANTITIES.values())
    for name in names:
        if name not in QUANTITIES:
            raise ArgumentError(
                f"columns must be all, or of {', '.join(QUANTITIES)}; not {name!r}{near(name, QUANTITIES)}."
            )
    return [QUANTITIES[name] for name in names]


def render(run: Run, form: str, *, columns: Sequence[str] = (), width: int | None = 80) -> str:
    """Return what a run found as text in one of the formats of `Format`.

    Args:
        run: of `measure`.
        form: table, markdown, latex, json or csv.
        columns: names of quantities, or `all`; the panel by default.
        width: of the terminal, letters.

    Raises:
        ArgumentError: no such format, or no such quantity.
    """
    quantities = columns_chosen(columns) if columns else shown_in("table")
    if form == "json":
        return json_text(summary_file(run)).rstrip()
    if form == "csv":
        table = summary_numbers(run.measurements)
        if columns:
            bounds = [name + end for name in (one.name for one in quantities) for end in ("", "_low", "_high")]
            table = table[[name for name in table if name in ("model", *bounds, "made", "measured", "not_measurable")]]
        return table.to_csv(index=False).rstrip()
    longest = LONGEST if form == "table" and width is not None else None
    text = as_text(_for_reading(run.measurements, quantities, longest), form, width=width)
    if form != "table":
        return text
    summaries = [measurement.summary for measurement in run.measurements]
    foot = marks_line(summaries)
    foot.append(f"Brackets: {summaries[0].level:.0%} intervals over the probes' photos.")
    lines = [line for part in foot for line in textwrap.wrap(part, width or 10_000)]
    return "\n".join([text, *lines, *difference_lines(run.differences, width=width)])


def difference_lines(differences: Sequence[PairedDifference], *, width: int | None = None) -> list[str]:
    """Return a line for each paired difference, with an empty one before them."""
    lines = []
    for difference in differences:
        names = [difference.first, difference.second]
        left, right = cut_labels(names, LONGEST) if width else short_labels(names)
        name = difference.quantity
        text = difference_text(QUANTITIES[name], difference.estimate, below=difference.below)
        said = f"{name}({left}) - {name}({right}) = {text} on the {difference.probes} probes of both"
        lines += textwrap.wrap(said, width, subsequent_indent="  ") if width else [said]
    return ["", *lines] if lines else []


def number(value: float) -> float | None:
    """Return a number as JSON has it: null where it is not finite."""
    return value if math.isfinite(value) else None
