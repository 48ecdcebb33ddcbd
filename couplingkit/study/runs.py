"""Folders of finished runs in, their measurements out, as they were when they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DataError, listed
from ..metrics.bootstrap import Estimate
from ..metrics.summary import RateSummary
from .concluding import summary_of
from .record import Measurement
from .rows import read_rows
from .run_folder import SUMMARY

__all__ = ["CONTROL_ROW", "Run", "named_models", "read_run"]

CONTROL_ROW = "control:cell"
ROWS = "rows.csv"


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: where it lies.
        measurements: of each model and, in a sweep, of each value.
        places: axis and value of each measurement; empty dicts where nothing was swept.
        command: that made it.
        failures: a sentence for each model that failed.
        differences: paired differences that the run itself states.
        held: of a sweep, what stays where it is not swept.
    """

    folder: Path
    measurements: tuple[Measurement, ...]
    places: tuple[dict[str, Any], ...]
    command: str
    failures: tuple[str, ...]
    differences: tuple[dict[str, Any], ...]
    held: str = ""

    @property
    def swept(self) -> bool:
        """Whether it is a sweep."""
        return any(self.places)


def read_run(folder: Path) -> Run:
    """Read what `measure`, `sweep` or `demo` wrote.

    Raises:
        DataError: it is no such folder, or not whole.
    """
    path = folder / SUMMARY
    try:
        document = json.loads(path.read_text())
        models = document["models"]
    except OSError as error:
        unfinished = folder.with_name(folder.name + ".unfinished").exists()
        why = "its run is not finished: give its command again" if unfinished else "give what --out of `measure` named"
        raise DataError(f"run {folder} has no {SUMMARY}; {why}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"run {folder}: {SUMMARY} is not of `measure` or `sweep`.") from error
    rows = read_rows(folder / ROWS)
    try:
        places = tuple({key: told[key] for key in ("axis", "value") if key in told} for told in models)
        measurements = tuple(_measurement(told, place, rows) for told, place in zip(models, places, strict=True))
    except (KeyError, TypeError) as error:
        raise DataError(f"run {folder}: {SUMMARY} lacks {error}; was it written by an older couplingkit?") from error
    return Run(
        folder,
        measurements,
        places,
        str(document.get("command", "")),
        tuple(document.get("failures", ())),
        tuple(document.get("differences", ())),
        str(document.get("held", "")),
    )


def _measurement(told: dict[str, Any], place: dict[str, Any], rows: pd.DataFrame) -> Measurement:
    own = rows["model"] == told["name"]
    if place:
        own &= (rows["axis"] == place["axis"]) & (rows["value"] == str(place["value"]))
    counts = told["probes"]
    if int(own.sum()) != counts["made"]:
        raise DataError(f"{told['name']} has {int(own.sum())} rows and {counts['made']} probes; the run is not whole.")
    estimates = {
        name: Estimate(*(float("nan") if one[key] is None else one[key] for key in ("value", "low", "high")))
        for name, one in told["statistics"].items()
    }
    summary = RateSummary(estimates, counts["made"], counts["measured"], told["source_images"], told["level"])
    kept = rows[own].reset_index(drop=True)
    return Measurement(told["name"], kept, summary, told["provenance"], tuple(told["warnings"]))


def named_models(runs: Sequence[Run]) -> dict[str, Measurement]:
    """Return the models of several runs, the control rows left out, by names that tell them apart.

    Of a sweep, what was measured along the gap counts, all gaps together. A run of one model is called by its folder,
    which its user chose; of several, models are called FOLDER/MODEL where the model's name alone would not do.

    Raises:
        DataError: a run is a sweep over something else, or two models cannot be told apart.
    """
    found: dict[str, Measurement] = {}
    folders = [run.folder.resolve() for run in runs]
    twice = [run.folder for run in runs if folders.count(run.folder.resolve()) > 1]
    if twice:
        raise DataError(f"run {twice[0]} is given twice; give each folder once.")
    measured = [_along_the_gap(run) if run.swept else list(run.measurements) for run in runs]
    models = [[one for one in of_run if one.name != CONTROL_ROW] or of_run for of_run in measured]
    every = [one.name for of_run in models for one in of_run]
    for run, of_run in zip(runs, models, strict=True):
        for one in of_run:
            folder = run.folder.absolute().name
            name = folder if len(of_run) == 1 and len(runs) > 1 else one.name
            if name in found or (len(of_run) > 1 and every.count(one.name) > 1):
                name = f"{folder}/{one.name}"
            if name in found:
                raise DataError(f"two models are called {name}; give each run's folder once ({listed(found)}).")
            found[name] = replace(one, name=name)
    return found


def _along_the_gap(run: Run) -> list[Measurement]:
    """Return each model of a sweep with its rows at all gaps, narrowest first."""
    at = sorted(
        (
            (place["value"], one)
            for one, place in zip(run.measurements, run.places, strict=True)
            if place["axis"] == "gap"
        ),
        key=lambda pair: pair[0],
    )
    if not at:
        raise DataError(
            f"run {run.folder} is a sweep without gaps; compare takes runs of `measure` and sweeps over --gap."
        )
    found = []
    for name in dict.fromkeys(one.name for _, one in at):
        own = [one for _, one in at if one.name == name]
        records = [one.provenance["probes"] for one in own]
        together = {
            key: hashlib.sha256("".join(record[key] for record in records).encode()).hexdigest()
            for key in ("identity", "fingerprint")
        }
        spec = records[0]["spec"] | {"gap": [record["spec"]["gap"] for record in records]}
        rows = pd.concat([one.rows for one in own], ignore_index=True)
        settings = own[0].provenance["settings"]
        summary = summary_of(rows, settings, seed=records[0]["seed"], control=spec["control"])
        provenance = own[0].provenance | {"probes": records[0] | together | {"spec": spec}}
        found.append(Measurement(name, rows, summary, provenance, own[0].warnings))
    return found
