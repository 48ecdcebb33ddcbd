"""Evaluations in, the tables of their rows out; and such tables in, what belongs to one evaluation out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DataError
from ..evaluation.detection_scores import DETECTIONS, MARKS
from ..evaluation.detection_scores import OBJECTS as FOUND_OBJECTS
from ..evaluation.scores import Evaluation
from ..evaluation.task import SCORES
from .records import ROWS

__all__ = ["DETECTED", "OBJECTS", "as_flags", "detected_rows", "own_rows", "read_rows", "score_rows"]

OBJECTS, DETECTED = "objects.csv", "detections.csv"
FRONT = ["model", "task"]
# Ids that look like numbers stay what they are.
TYPES: dict[str, Any] = {"model": str, "task": str, "photo": str, "class": str, "category": str, "predicted_class": str}


def score_rows(evaluations: Sequence[Evaluation]) -> dict[str, pd.DataFrame]:
    """Return the rows of photos, those of objects and those of detections, each of all evaluations, by their files.

    Without a detector among them there is no file of detections.
    """
    parts: dict[str, list[pd.DataFrame]] = {ROWS: [], OBJECTS: []}
    for one in evaluations:
        kind = ROWS if SCORES[one.task].reads is None else DETECTED
        for name, table in ((kind, one.rows), (OBJECTS, one.objects)):
            own = parts.setdefault(name, [])
            if table is not None and (len(table) or name == DETECTED):
                own.append(table.assign(model=one.name, task=one.task)[[*FRONT, *table.columns]])
    # Of tables with different columns pandas joins what there is; object columns keep whole numbers whole.
    return {
        name: pd.concat(own, ignore_index=True) if own else pd.DataFrame(columns=FRONT) for name, own in parts.items()
    }


def read_rows(path: Path, what: str) -> pd.DataFrame:
    """Return a table of a run; raises `DataError` where it cannot be read."""
    try:
        return pd.read_csv(path, float_precision="round_trip", dtype=TYPES, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DataError(f"{what}: {path.name} cannot be read ({error}); evaluate again.") from error


def own_rows(table: pd.DataFrame, model: str, task: str) -> pd.DataFrame:
    """Return the rows of one evaluation, with the columns that its task has."""
    own = table[(table["model"] == model) & (table["task"] == task)].drop(columns=FRONT)
    return own.dropna(axis=1, how="all").reset_index(drop=True)


def detected_rows(
    tables: Mapping[str, pd.DataFrame], model: str, task: str, what: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the detections and the objects of one evaluation; there may be none of the former."""
    found = []
    for name, columns in ((DETECTED, DETECTIONS), (OBJECTS, FOUND_OBJECTS)):
        table = tables[name]
        own = table[(table["model"] == model) & (table["task"] == task)]
        lacking = [column for column in columns if column not in own]
        if lacking:
            raise DataError(f"{what}: {name} has no column {lacking[0]}; fine-tune again.")
        found.append(own[columns].reset_index(drop=True))
    for name in ("crowd", "difficult"):
        found[1][name] = as_flags(found[1][name])
    for table, names in zip(found, (("seed", *MARKS), ("seed", "annotation", "found")), strict=True):
        for name in names:
            table[name] = table[name].astype("int64")
    return found[0], found[1]


def as_flags(column: pd.Series) -> pd.Series:
    """Return true and false of a file as what they are."""
    return column.map({"True": True, "False": False, True: True, False: False})
