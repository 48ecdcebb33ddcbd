"""Folders of `evaluate` in, the paired differences of their models' scores out, and the folder that they go to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..errors import DataError, listed, near
from ..evaluation.scores import Evaluation, ScoreGap, score_gaps
from ..files import new_folder
from ..typed_files import json_text
from .evaluation_files import EvaluationRun
from .writing import Writer, command_line

__all__ = ["compare_evaluations", "write_score_comparison"]


def _named(runs: Sequence[EvaluationRun]) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each model, called FOLDER/MODEL where the model's name alone would not do."""
    folders = [run.folder.resolve() for run in runs if run.folder is not None]
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise DataError(f"run {twice[0]} is given twice; give each folder once.")
    every = [model for run in runs for model in run.models]
    named: dict[str, list[Evaluation]] = {}
    for run in runs:
        for model in run.models:
            own = [one for one in run.evaluations if one.name == model]
            same = named.get(model)
            if same is not None and [one.score for one in same] == [one.score for one in own]:
                # The random network that stands beside the models of two runs is one.
                continue
            name = f"{run.title}/{model}" if every.count(model) > 1 and same is not None else model
            if name in named:
                raise DataError(f"two models are called {name}; give each run's folder once ({listed(named)}).")
            named[name] = [replace(one, name=name) for one in own]
    return named


def compare_evaluations(runs: Sequence[EvaluationRun], *, baseline: str | None = None) -> list[ScoreGap]:
    """Return what each model scores minus what the baseline does, on the same photos.

    Args:
        runs: as they are read.
        baseline: a model, or the folder of a run (its first model); the first of all by default.

    Raises:
        DataError: there is no such model, or only one.
        MeasurementError: models were scored on other photos, or with other settings.
    """
    named = _named(runs)
    folders = {run.title: run.models[0] for run in runs}
    chosen = baseline or next(iter(named))
    chosen = chosen if chosen in named else folders.get(Path(chosen).name, chosen)
    if chosen not in named:
        raise DataError(f"baseline {chosen!r} is none of the models ({listed(named)}){near(chosen, named)}.")
    if len(named) < 2:
        raise DataError(f"there is only one model, {chosen}; give runs of two or more.")
    against = {one.task: one for one in named[chosen]}
    return [
        gap
        for name, own in named.items()
        if name != chosen
        for one in own
        if one.task in against
        for gap in score_gaps(one, against[one.task])
    ]


def write_score_comparison(
    folder: Path,
    table: pd.DataFrame,
    runs: Sequence[EvaluationRun],
    *,
    files: Mapping[str, Writer],
    text: str,
    overwrite: bool = False,
) -> None:
    """Write comparison.csv, table.md, summary.json and what `files` write; all of it or none."""
    document = {
        "command": command_line(),
        "runs": [str(run.folder) for run in runs],
        "data": runs[0].evaluations[0].provenance["data"],
        "differences": [
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
            for row in table.to_dict(orient="records")
        ],
    }
    with new_folder(folder, overwrite=overwrite) as draft:
        table.to_csv(draft / "comparison.csv", index=False)
        (draft / "table.md").write_text(text, encoding="utf-8")
        (draft / "summary.json").write_text(json_text(document), encoding="utf-8")
        for name, write in files.items():
            write(draft / name)
