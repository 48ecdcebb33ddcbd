"""A run in, its folder out: rows, what derives from them, which probes they are of; all of it or none."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pandas as pd

from ..files import new_folder
from ..probes.manifest import Manifest
from ..study.measurement import Measurement
from ..study.rows import file_rows
from ..typed_files import as_record, json_text
from .records import (
    FORMAT,
    PROBES,
    ROWS,
    SUMMARY,
    VERSION,
    CountsEntry,
    DifferenceEntry,
    EstimateEntry,
    ModelEntry,
    PairedDifference,
    Run,
    SummaryFile,
)

__all__ = ["Writer", "command_line", "dropped_files", "summary_file", "write_run"]

# Writes one file of a run to the path that it is given.
Writer = Callable[[Path], None]


def command_line() -> str:
    """Return what was typed."""
    return shlex.join(["couplingkit", *sys.argv[1:]])


def dropped_files(faults: Mapping[int, str]) -> dict[str, Writer]:
    """Return what writes the list of the annotations that could not be used: `dropped.csv`; nothing of none.

    Args:
        faults: annotation id -> why; see `CocoIndex`.
    """
    table = pd.DataFrame({"annotation": list(faults), "reason": list(faults.values())})
    return {"dropped.csv": lambda path: table.to_csv(path, index=False)} if faults else {}


def write_run(
    folder: Path, run: Run, probes: Manifest, *, files: Mapping[str, Writer] | None = None, overwrite: bool = False
) -> Run:
    """Write a run: rows.csv, summary.json, probes.json and what else there is, all of it or none.

    Args:
        folder: where it goes.
        run: what was measured.
        probes: the manifest of what was shown.
        files: further files: name -> what writes it (figures, ...).
        overwrite: whether an older run there may be replaced.

    Returns:
        The run as it lies there.

    Raises:
        OutputError: the place is taken, or the disk refuses.
    """
    with new_folder(folder, overwrite=overwrite) as draft:
        rows_table(run).to_csv(draft / ROWS, index=False)
        (draft / SUMMARY).write_text(json_text(summary_file(run)), encoding="utf-8")
        (draft / PROBES).write_text(probes.text(), encoding="utf-8")
        for name, write in (files or {}).items():
            write(draft / name)
    return replace(run, folder=folder)


def rows_table(run: Run) -> pd.DataFrame:
    """Return the rows of all models one under the other; of a sweep with axis and value in front."""
    if not run.swept:
        return pd.concat([file_rows(measurement.rows, measurement.eps) for measurement in run.measurements])
    rows = [
        file_rows(measurement.rows, measurement.eps).assign(model=measurement.name, axis=place[0], value=str(place[1]))
        for measurement, place in zip(run.measurements, run.places, strict=True)
        if place is not None
    ]
    table = pd.concat(rows)
    return table[["axis", "value", *[name for name in table if name not in ("axis", "value")]]]


def summary_file(run: Run) -> SummaryFile:
    """Return everything that is printed of a run, and where it comes from."""
    return SummaryFile(
        format=FORMAT,
        version=VERSION,
        command=run.command,
        models=[_model(measurement, place) for measurement, place in zip(run.measurements, run.places, strict=True)],
        differences=[_difference(difference) for difference in run.differences],
        failures=list(run.failures),
        run=run.identity,
        held=run.held,
    )


def _model(measurement: Measurement, place: tuple[str, object] | None) -> ModelEntry:
    summary = measurement.summary
    axis, value = place or (None, None)
    return as_record(
        {
            "name": measurement.name,
            "statistics": {
                name: msgspec.to_builtins(EstimateEntry.of(estimate)) for name, estimate in summary.estimates.items()
            },
            "doubts": {name: list(reasons) for name, reasons in summary.doubts.items()},
            "level": summary.level,
            "probes": msgspec.to_builtins(
                CountsEntry(
                    made=summary.probes, measured=summary.measured, not_measurable=summary.probes - summary.measured
                )
            ),
            "source_images": summary.source_images,
            "warnings": list(measurement.warnings),
            "provenance": msgspec.to_builtins(measurement.provenance),
            "axis": axis,
            "value": value,
        },
        ModelEntry,
        f"the summary of {measurement.name}",
    )


def _difference(difference: PairedDifference) -> DifferenceEntry:
    bounds = EstimateEntry.of(difference.estimate)
    return DifferenceEntry(
        statistic=difference.quantity,
        first=difference.first,
        second=difference.second,
        value=bounds.value,
        low=bounds.low,
        high=bounds.high,
        probes=difference.probes,
        below_resolution=difference.below,
    )
