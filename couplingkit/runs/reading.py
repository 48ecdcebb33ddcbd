"""Folders of finished runs in, the runs out: every number is derived from the rows anew, and must be as written."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pandas as pd

from ..data.coco import Eligibility
from ..errors import DataError, listed
from ..metrics.bootstrap import Estimate
from ..probes.manifest import read_manifest
from ..probes.spec import ProbeSpec
from ..study.measurement import Measurement, compared
from ..study.rows import read_rows, without_rates
from ..study.settings import MeasureSettings
from ..study.summarizing import summary_of
from ..typed_files import Record, as_record, decode_json, read_json, read_text
from ..words import as_path
from .models import CONTROL_ROW
from .records import FORMAT, PROBES, ROWS, SUMMARY, VERSION, ModelEntry, ModelFacts, PairedDifference, Run, SummaryFile
from .workspace import UNFINISHED

__all__ = ["check_derived", "named_models", "read_run", "written_identity"]

Kind = TypeVar("Kind")
# What the same sums give on two machines differs by rounding, and no more.
CLOSE, CLOSE_TO_ZERO = 1e-6, 1e-9


class _Said(Record, frozen=True):
    run: dict[str, Any]


class _Head(Record, frozen=True):
    format: str = ""
    version: int = 0


def read_run(folder: str | Path) -> Run:
    """Read what `measure`, `sweep` or `demo` wrote.

    Raises:
        DataError: it is no such folder, not whole, or its numbers are not those of its rows.
    """
    folder = as_path(folder)
    what = f"run {folder}: {SUMMARY}"
    if not (folder / SUMMARY).is_file():
        unfinished = folder.name.endswith(UNFINISHED) or folder.with_name(folder.name + UNFINISHED).exists()
        why = "its run is not finished: give its command again" if unfinished else "give the folder of a finished run"
        raise DataError(f"run {folder} has no {SUMMARY}; {why}.")
    text = read_text(folder / SUMMARY, f"run {folder}:")
    head = decode_json(text, _Head, what)
    if head.format != FORMAT:
        raise DataError(f"{what} is not of `measure` or `sweep`; give the folder of one of these.")
    if head.version != VERSION:
        way = "update couplingkit" if head.version > VERSION else "measure again"
        raise DataError(f"{what} has version {head.version}, and {VERSION} can be read here; {way}.")
    content = decode_json(text, SummaryFile, what)
    rows = read_rows(folder / ROWS)
    measurements = tuple(_measurement(entry, rows, f"run {folder}") for entry in content.models)
    if sum(len(measurement.rows) for measurement in measurements) != len(rows):
        raise DataError(f"run {folder} has rows of models that its {SUMMARY} does not name; measure again.")
    _check_pairs(folder, measurements)
    places = tuple(None if entry.axis is None else (entry.axis, entry.value) for entry in content.models)
    run = Run(
        measurements,
        places,
        failures=tuple(content.failures),
        held=content.held,
        command=content.command,
        identity=content.run,
        folder=folder,
        fresh=False,
    )
    return replace(run, differences=_differences(content, run))


def written_identity(folder: Path) -> dict[str, Any] | None:
    """Return whose results a folder says that it holds, whole or not; None where it does not say."""
    try:
        return read_json(folder / SUMMARY, _Said, "run").run
    except DataError:
        return None


def _measurement(entry: ModelEntry, rows: pd.DataFrame, what: str) -> Measurement:
    own = rows["model"] == entry.name
    if entry.axis is not None:
        if "axis" not in rows:
            raise DataError(f"{what} is a sweep whose rows have no axis; measure again.")
        own &= (rows["axis"] == entry.axis) & (rows["value"] == str(entry.value))
    what = f"{what}: {entry.name}"
    kept = rows[own].sort_values("probe", ignore_index=True)
    if list(kept["probe"]) != list(range(entry.probes.made)):
        raise DataError(f"{what} has {len(kept)} rows for {entry.probes.made} probes; the run is not whole.")
    provenance = msgspec.to_builtins(entry.provenance)
    as_record(provenance["model"], ModelFacts, f"{what}: its provenance")
    # The design stands there only where it is another than pairs.
    look = {"design": "pairs", **provenance["probes"]["spec"]}
    _whole_record(look, ProbeSpec, f"{what}: its spec")
    rules = {"exif": "auto", **provenance["probes"]["eligibility"]}
    _whole_record(rules, Eligibility, f"{what}: its eligibility")
    settings = _whole_record(provenance["settings"], MeasureSettings, f"{what}: its settings")
    if settings.level != entry.level:
        raise DataError(f"{what}: its settings have another level than its intervals; measure again.")
    kept = without_rates(kept, settings.eps, what)
    if not kept["measured"].any():
        raise DataError(f"{what} has no measured probe; measure again.")
    summary = summary_of(kept, settings, seed=entry.provenance.probes.seed)
    counts = (summary.probes, summary.measured, summary.source_images)
    if counts != (entry.probes.made, entry.probes.measured, entry.source_images):
        raise DataError(f"{what}: its counts are not those of its rows; measure again.")
    written = {name: one.estimate() for name, one in entry.statistics.items()}
    if not written.keys() & summary.estimates.keys() or "cr" not in written:
        raise DataError(f"{what}: its summary lacks cr; measure again.")
    for name in written.keys() & summary.estimates.keys():
        check_derived(written[name], summary.estimates[name], f"{what}: {name}")
    if entry.doubts != {name: list(reasons) for name, reasons in summary.doubts.items()}:
        raise DataError(f"{what}: it marks other quantities as no measurement than its rows do; measure again.")
    return Measurement(entry.name, kept, summary, provenance, tuple(entry.warnings))


def _whole_record(values: dict[str, Any], kind: type[Kind], what: str) -> Kind:
    """Return a dataclass of which a run states every field, and nothing else."""
    found = as_record(values, kind, what)
    if set(values) != {part.name for part in fields(found)}:  # type: ignore[arg-type]
        raise DataError(f"{what} are not those of a measurement; measure again.")
    return found


def check_derived(written: Estimate, derived: Estimate, what: str) -> None:
    """Raise `DataError` unless a number that is written is the one that the rows give."""
    for stated, other in zip(vars(written).values(), vars(derived).values(), strict=True):
        both_undefined = math.isnan(stated) and math.isnan(other)
        if not both_undefined and not math.isclose(stated, other, rel_tol=CLOSE, abs_tol=CLOSE_TO_ZERO):
            raise DataError(f"{what} is {stated:g} in {SUMMARY}, but {other:g} by its rows; measure again.")


def _check_pairs(folder: Path, measurements: Sequence[Measurement]) -> None:
    """Raise `DataError` if rows are not of the objects that the run's own manifest names."""
    if not (folder / PROBES).is_file():
        raise DataError(f"run {folder} has no {PROBES}; measure again.")
    pairs = read_manifest(folder / PROBES).pairs
    expected = [(pair.number, pair.annotation_a, pair.annotation_b, pair.direction) for pair in pairs]
    for measurement in measurements:
        columns = ["probe", "annotation_a", "annotation_b", "direction"]
        if list(measurement.rows[columns].itertuples(index=False, name=None)) != expected:
            raise DataError(
                f"run {folder}: the rows of {measurement.name} are not of the probes in {PROBES}; measure again."
            )


def _differences(content: SummaryFile, run: Run) -> tuple[PairedDifference, ...]:
    """Return the differences that a run states, each derived anew."""
    by_name = {measurement.name: measurement for measurement in run.measurements}
    found = []
    for entry in content.differences:
        what = f"run {run.folder}: the difference of {entry.first} and {entry.second}"
        if entry.first not in by_name or entry.second not in by_name:
            raise DataError(f"{what} is of a model that the run does not have; measure again.")
        seed = by_name[entry.first].provenance["probes"]["seed"]
        found_again = compared(by_name[entry.first], by_name[entry.second], entry.statistic, seed=seed)
        written = Estimate(*(math.nan if part is None else part for part in (entry.value, entry.low, entry.high)))
        check_derived(written, found_again.estimate, what)
        if (found_again.probes, found_again.below) != (entry.probes, entry.below_resolution):
            raise DataError(
                f"{what} is of {entry.probes} probes in {SUMMARY}, but of {found_again.probes}; measure again."
            )
        found.append(
            PairedDifference(
                entry.first, entry.second, entry.statistic, found_again.estimate, found_again.probes, found_again.below
            )
        )
    return tuple(found)


def named_models(runs: Sequence[Run], *, labelled: bool = False) -> dict[str, Measurement]:
    """Return the models of several runs, the control rows left out, by names that tell them apart.

    Of a sweep, what was measured along the gap counts, all gaps together. A run of one model is called by its folder,
    which its user chose; of several, models are called FOLDER/MODEL where the model's name alone would not do.

    Args:
        runs: as they are read.
        labelled: whether their models have labels already, and are called by them.

    Raises:
        DataError: a run is a sweep over something else, or two models cannot be told apart.
    """
    named: dict[str, Measurement] = {}
    folders = [run.folder.resolve() for run in runs if run.folder is not None]
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise DataError(f"run {twice[0]} is given twice; give each folder once.")
    measured = [_along_the_gap(run) if run.swept else list(run.measurements) for run in runs]
    models = [
        [measurement for measurement in of_run if measurement.name != CONTROL_ROW] or of_run for of_run in measured
    ]
    every = [measurement.name for of_run in models for measurement in of_run]
    for run, of_run in zip(runs, models, strict=True):
        for measurement in of_run:
            name = run.title if len(of_run) == 1 and len(runs) > 1 and not labelled else measurement.name
            if name in named or (len(of_run) > 1 and every.count(measurement.name) > 1):
                name = f"{run.title}/{measurement.name}"
            if name in named:
                raise DataError(f"two models are called {name}; give each run's folder once ({listed(named)}).")
            named[name] = replace(measurement, name=name)
    return named


def _along_the_gap(run: Run) -> list[Measurement]:
    """Return each model of a sweep with its rows at all gaps, narrowest first."""
    places = zip(run.measurements, run.places, strict=True)
    at: list[tuple[Any, Measurement]] = [(place[1], one) for one, place in places if place and place[0] == "gap"]
    if not at:
        raise DataError(
            f"run {run.folder} is a sweep without gaps; compare takes runs of `measure` and sweeps over the gap."
        )
    at.sort(key=lambda pair: pair[0])
    joined = []
    for name in dict.fromkeys(one.name for _, one in at):
        own = [one for _, one in at if one.name == name]
        records = [one.provenance["probes"] for one in own]
        together = {
            key: hashlib.sha256("".join(record[key] or "" for record in records).encode()).hexdigest()
            for key in ("identity", "fingerprint")
        }
        spec = records[0]["spec"] | {"gap": [record["spec"]["gap"] for record in records]}
        rows = pd.concat([one.rows for one in own], ignore_index=True)
        settings = MeasureSettings(**own[0].provenance["settings"])
        summary = summary_of(rows, settings, seed=records[0]["seed"])
        provenance = own[0].provenance | {"probes": records[0] | together | {"spec": spec}}
        joined.append(Measurement(name, rows, summary, provenance, own[0].warnings))
    return joined
