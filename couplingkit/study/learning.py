"""A run that trains and some probes in, its coupling rate over the steps out: a line a look, and the rows behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DataError
from ..features.loading import load_backbone
from ..files import new_file
from ..metrics.summary import STATISTICS
from ..probes.probeset import ProbeSet
from .measuring import measure
from .record import Measurement

__all__ = ["CURVE", "common_probes", "look_at", "read_curve"]

CURVE = "coupling.csv"
ROWS = "coupling"


def look_at(run: Path, step: int, weights: Path, probes: ProbeSet, **options: Any) -> Measurement:
    """Measure a network of a run; write its rows and add a line to the run's `coupling.csv`.

    A line of the same step, or of later ones (which a run that was stopped makes again), is replaced.

    Args:
        run: the run folder.
        step: steps that are done.
        weights: of the network.
        probes: what it is shown, the same at each look.
        options: of `load_backbone`: device, precision.

    Raises:
        MeasurementError: no probe can be measured, or features are not finite.
        OutputError: the disk refuses.
    """
    backbone = load_backbone(str(weights), **options)
    found = measure(backbone, probes)
    name = f"step {step}"
    with new_file(run / ROWS / f"step-{step:08d}.csv", overwrite=True) as draft:
        found.rows.assign(model=name).to_csv(draft, index=False)
    lines = [line for line in read_curve(run) if line["step"] < step]
    with new_file(run / CURVE, overwrite=True) as draft:
        pd.DataFrame([*lines, _line(step, found)]).to_csv(draft, index=False)
    return found


def read_curve(run: Path) -> list[dict[str, float]]:
    """Return the lines of a run's `coupling.csv`, first step first; none where nobody looked.

    Each has `step`, `probes`, `measured`, `fingerprint` and, of each statistic, its value, NAME_low and NAME_high.

    Raises:
        DataError: the file is not whole.
    """
    path = run / CURVE
    if not path.exists():
        return []
    try:
        table = pd.read_csv(path)
        lines = table.sort_values("step").to_dict(orient="records")
        return [{str(name): value for name, value in line.items()} for line in lines]
    except (ValueError, KeyError) as error:
        raise DataError(f"coupling curve {path} cannot be read ({error}); delete it to begin a new one.") from error


def common_probes(curves: Sequence[Sequence[dict[str, Any]]]) -> bool:
    """Return whether all looks of several runs were at the same probes, so that their curves may stand side by side."""
    return len({line["fingerprint"] for curve in curves for line in curve}) <= 1


def _line(step: int, found: Measurement) -> dict[str, Any]:
    summary = found.summary
    line: dict[str, Any] = {"step": step, "probes": summary.probes, "measured": summary.measured}
    line["fingerprint"] = found.provenance["probes"]["fingerprint"]
    for name in STATISTICS:
        if name in summary.estimates:
            estimate = summary.estimates[name]
            line |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return line
