"""Evaluations of models in, their folder out; and such a folder in, the evaluations out, derived from its rows anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from ..errors import DataError
from ..evaluation.concluding import concluded
from ..evaluation.scores import Evaluation, ScoreGap
from ..evaluation.task import SCORES, EvaluateSettings
from ..files import new_folder
from ..probes.manifest import Manifest
from ..typed_files import Record, as_record, decode_json, json_text, read_text
from ..words import as_path
from .evaluation_rows import DETECTED, OBJECTS, as_flags, detected_rows, own_rows, read_rows, score_rows
from .reading import check_derived
from .records import COUPLING, ROWS, SUMMARY, EstimateEntry, Run
from .workspace import UNFINISHED
from .writing import Writer, write_run

__all__ = ["EvaluationRun", "is_evaluation", "read_evaluations", "score_rows", "write_evaluations"]

FORMAT, VERSION = "couplingkit evaluation", 1


@dataclass(frozen=True)
class EvaluationRun:
    """What several models score on the same photos.

    Attributes:
        evaluations: of each model, layer and score; the random networks last.
        gaps: of each model to the first, in every score.
        failures: a sentence for each model that failed.
        coupling: of the same networks, where it was measured, too.
        command: that made it.
        identity: everything that decides its numbers, as JSON values.
        folder: where it lies; None where it was not written.
        fresh: whether it was scored just now, or read back whole.
    """

    evaluations: tuple[Evaluation, ...]
    gaps: tuple[ScoreGap, ...] = ()
    failures: tuple[str, ...] = ()
    coupling: Run | None = None
    command: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    fresh: bool = True

    @property
    def title(self) -> str:
        """What pages call it: the name of its folder."""
        return "evaluation" if self.folder is None else self.folder.absolute().name

    @property
    def models(self) -> list[str]:
        """Names of its models, each once."""
        return list(dict.fromkeys(one.name for one in self.evaluations))

    def of(self, model: str, task: str) -> Evaluation | None:
        """Return what a model scores in a task; None where it was not scored in it."""
        return next((one for one in self.evaluations if (one.name, one.task) == (model, task)), None)


class _Entry(Record, frozen=True):
    model: str
    task: str
    score: EstimateEntry
    ceiling: float | None
    floor: float | None
    extras: dict[str, EstimateEntry]
    provenance: dict[str, Any]


class _Gap(Record, frozen=True):
    model: str
    baseline: str
    task: str
    effect: str
    difference: EstimateEntry
    photos: int
    p: float | None


class _File(Record, frozen=True):
    format: str
    version: int
    command: str
    evaluations: list[_Entry]
    differences: list[_Gap]
    failures: list[str]
    run: dict[str, Any]


class _Head(Record, frozen=True):
    format: str = ""
    version: int = 0


class _Provenance(Record, frozen=True):
    """What every evaluation's provenance has; it may have more."""

    model: dict[str, Any]
    data: dict[str, Any]
    settings: EvaluateSettings


def is_evaluation(folder: Path) -> bool:
    """Return whether a folder says that it holds evaluations, whole or not."""
    try:
        return decode_json(read_text(folder / SUMMARY, "run"), _Head, "run").format == FORMAT
    except DataError:
        return False


def write_evaluations(
    folder: Path,
    run: EvaluationRun,
    *,
    probes: Manifest | None = None,
    files: Mapping[str, Writer] | None = None,
    overwrite: bool = False,
) -> EvaluationRun:
    """Write rows.csv, objects.csv, summary.json, the measured coupling and what else there is, all of it or none.

    Args:
        folder: where it goes.
        run: what was scored.
        probes: that coupling was measured on, where it was.
        files: further files: name -> what writes it.
        overwrite: whether an older evaluation there may be replaced.

    Raises:
        OutputError: the place is taken, or the disk refuses.
    """
    with new_folder(folder, overwrite=overwrite) as draft:
        for name, table in score_rows(run.evaluations).items():
            table.to_csv(draft / name, index=False)
        (draft / SUMMARY).write_text(json_text(_file(run)), encoding="utf-8")
        if run.coupling is not None and probes is not None:
            write_run(draft / COUPLING, run.coupling, probes)
        for name, write in (files or {}).items():
            write(draft / name)
    return replace(run, folder=folder)


def _file(run: EvaluationRun) -> _File:
    return _File(
        format=FORMAT,
        version=VERSION,
        command=run.command,
        evaluations=[
            _Entry(
                model=one.name,
                task=one.task,
                score=EstimateEntry.of(one.score),
                ceiling=_number(one.ceiling),
                floor=_number(one.floor),
                extras={name: EstimateEntry.of(estimate) for name, estimate in one.extras.items()},
                provenance=one.provenance,
            )
            for one in run.evaluations
        ],
        differences=[
            _Gap(
                model=gap.model,
                baseline=gap.baseline,
                task=gap.task,
                effect=gap.effect,
                difference=EstimateEntry.of(gap.estimate),
                photos=gap.photos,
                p=_number(gap.p),
            )
            for gap in run.gaps
        ],
        failures=list(run.failures),
        run=run.identity,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_evaluations(folder: str | Path) -> EvaluationRun:
    """Read what `evaluate` wrote.

    Raises:
        DataError: it is no such folder, not whole, or its numbers are not those of its rows.
    """
    folder = as_path(folder)
    what = f"evaluation {folder}"
    if not (folder / SUMMARY).is_file():
        begun = folder.with_name(folder.name + UNFINISHED).exists()
        why = "it is not finished: give its command again" if begun else "give the folder of a finished evaluation"
        raise DataError(f"{what} has no {SUMMARY}; {why}.")
    text = read_text(folder / SUMMARY, what)
    head = decode_json(text, _Head, what)
    if head.format != FORMAT:
        raise DataError(f"{what} is not of `evaluate`; give the folder of one.")
    if head.version != VERSION:
        raise DataError(f"{what} has version {head.version}, and {VERSION} can be read here; evaluate again.")
    content = decode_json(text, _File, f"{what}: {SUMMARY}")
    tables = {name: read_rows(folder / name, what) for name in (ROWS, OBJECTS)}
    if any(entry.task in SCORES and SCORES[entry.task].reads for entry in content.evaluations):
        tables[DETECTED] = read_rows(folder / DETECTED, what)
    evaluations = tuple(_evaluation(entry, tables, what) for entry in content.evaluations)
    gaps = tuple(
        ScoreGap(
            gap.model, gap.baseline, gap.task, gap.effect, gap.difference.estimate(), gap.photos,
            math.nan if gap.p is None else gap.p,
        )
        for gap in content.differences
    )  # fmt: skip
    return EvaluationRun(
        evaluations,
        gaps,
        tuple(content.failures),
        command=content.command,
        identity=content.run,
        folder=folder,
        fresh=False,
    )


def _evaluation(entry: _Entry, tables: Mapping[str, pd.DataFrame], what: str) -> Evaluation:
    what = f"{what}: {entry.model}, {entry.task}"
    if entry.task not in SCORES:
        raise DataError(f"{what} is no score that is known here; evaluate again.")
    as_record(entry.provenance, _Provenance, f"{what}: its provenance")
    if SCORES[entry.task].reads is None:
        own, of_objects = (
            own_rows(tables[ROWS], entry.model, entry.task),
            own_rows(tables[OBJECTS], entry.model, entry.task),
        )
    else:
        own, of_objects = detected_rows(tables, entry.model, entry.task, what)
    for name in ("intersection", "predicted", "labelled", "seed"):
        if name in own:
            own[name] = own[name].astype("int64")
    for name in ("hit", "correct", "measured"):
        for table in (own, of_objects):
            if name in table:
                table[name] = as_flags(table[name])
    bounds = [math.nan if part is None else part for part in (entry.ceiling, entry.floor)]
    try:
        found = concluded(
            entry.model,
            entry.task,
            own,
            of_objects if len(of_objects) else None,
            bounds=(bounds[0], bounds[1]),
            provenance=entry.provenance,
        )
    except (KeyError, AssertionError, ValueError, TypeError) as error:
        raise DataError(f"{what}: its rows are not whole ({error}); evaluate again.") from error
    check_derived(entry.score.estimate(), found.score, f"{what}: its score")
    if entry.extras.keys() != found.extras.keys():
        raise DataError(f"{what}: its summary does not say what its rows do; evaluate again.")
    for name, estimate in found.extras.items():
        check_derived(entry.extras[name].estimate(), estimate, f"{what}: {name}")
    return found


def plain_evaluations(run: EvaluationRun) -> dict[str, Any]:
    """Return what summary.json says, as JSON values."""
    plain: dict[str, Any] = msgspec.to_builtins(_file(run))
    return plain
