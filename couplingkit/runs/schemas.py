"""The formats of a run's files in, their schemas out: JSON Schema of summary.json, Table Schema of rows.csv."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ..study.rows import FILE_COLUMNS, RANGES, TYPES
from .records import VERSION, SummaryFile

__all__ = ["rows_schema", "summary_schema"]

KINDS = {"str": "string", "int64": "integer", "Int64": "integer", "float32": "number", "float64": "number"}
MEANINGS = {
    "model": "name of the model",
    "probe": "number of the probe within its set",
    "annotation_a": "annotation id of the object that is watched", "annotation_b": "of the object beside it",
    "annotation_c": "of the object in B's place; empty without a control",
    "image_a": "photo of A", "image_b": "photo of B", "image_c": "photo of C",
    "category_a": "category of A", "category_b": "category of B",
    "area_a": "px of A's mask in its photo", "area_match": "C's area over B's, as drawn",
    "gap": "between the boxes of A and B, 1/224 of the canvas",
    "distance_px": "between the masks of A and B, px of the input",
    "direction": "where B stands, seen from A",
    "cells_a": "feature cells that A covers", "cells_b": "that B covers",
    "outliers_a": "share of A's cells of outlying norm",
    "theta_a1_b": "angle of A's feature alone and B's, rad", "theta_a2_b": "the same with B beside A, rad",
    "theta_a3_b": "the same with C beside A, rad", "theta_a1_a2": "by how much A's feature moved, rad",
    "toward_b": "share of the way from A's feature to B's, with B beside A", "toward_c": "the same with C beside A",
    "position": "by how much A's feature depends on where A stands", "cr": "the probe's coupling rate at the run's eps",
    "measured": "whether both regions have enough cells",
}  # fmt: skip


def summary_schema() -> dict[str, Any]:
    """Return the JSON Schema of summary.json, of the version that is written."""
    schema = msgspec.json.schema(SummaryFile)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"summary.json, version {VERSION}",
        **schema,
    }


def rows_schema() -> dict[str, Any]:
    """Return the Table Schema of rows.csv: of each column its type, meaning and range where a probe is measured."""
    fields = []
    for name in FILE_COLUMNS:
        field: dict[str, Any] = {"name": name, "type": KINDS.get(TYPES[name], "boolean"), "description": MEANINGS[name]}
        low, high = RANGES.get(name, (-np.inf, np.inf))
        bounds = {"minimum": float(low), "maximum": float(high)}
        finite = {key: value for key, value in bounds.items() if np.isfinite(value)}
        fields.append(field | ({"constraints": finite} if finite else {}))
    return {"title": f"rows.csv of summary.json version {VERSION}", "missingValues": [""], "fields": fields}
