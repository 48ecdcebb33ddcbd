"""Scores of affinity maps in, tables out: for a terminal, for markdown and LaTeX, as CSV, and everything as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..evaluation.localization import Localization
from ..metrics.localization import SCORES
from ..runs.affinity import ScoreDifference, score_document
from ..typed_files import json_text
from .labels import short_labels
from .tables import estimate_text
from .text_tables import as_text

__all__ = ["render_scores"]


def render_scores(
    models: Sequence[Localization],
    form: str,
    *,
    differences: Sequence[ScoreDifference] = (),
    document: Mapping[str, Any] | None = None,
) -> str:
    """Return the scores of models as text in one of the formats of `Format`.

    Args:
        models: one row each.
        form: table, markdown, latex, json or csv.
        differences: of models, paired by object.
        document: what `json` gives instead, where there is more to say than the scores.
    """
    if form == "json":
        return json_text(document or score_document(models, differences)).rstrip()
    if form == "csv":
        return _numbers(models).to_csv(index=False).rstrip()
    text = as_text(_for_reading(models), form)
    return text if form != "table" else "\n".join([text, *_difference_lines(differences)])


def _numbers(models: Sequence[Localization]) -> pd.DataFrame:
    rows = []
    for model in models:
        row: dict[str, Any] = {"model": model.name}
        for name, estimate in model.estimates.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            row[f"{name}_objects"] = _objects(model, name)
        rows.append(row | {"objects": model.counts["objects"], "measured": model.counts["measured"]})
    return pd.DataFrame(rows)


def _for_reading(models: Sequence[Localization]) -> pd.DataFrame:
    labels = short_labels([model.name for model in models])
    return pd.DataFrame(
        [
            {
                "model": label,
                **{name: estimate_text(model.estimates[name]) + _of(model, name) for name in SCORES},
                "measured": f"{model.counts['measured']} of {model.counts['objects']}",
            }
            for label, model in zip(labels, models, strict=True)
        ]
    )


def _objects(model: Localization, score: str) -> int:
    """Return over how many objects a score is the mean: not each has another object beside it."""
    return int(model.rows[score].notna().sum())


def _of(model: Localization, score: str) -> str:
    count = _objects(model, score)
    return "" if count == model.counts["measured"] else f" ({count})"


def _difference_lines(differences: Sequence[ScoreDifference]) -> list[str]:
    lines = []
    for first, second, scores in differences:
        left, right = short_labels([first, second])
        lines += ["", f"{left} minus {right}, on the objects of both:"]
        lines += [f"  {name:<12} {estimate_text(estimate)} ({count})" for name, (estimate, count) in scores.items()]
    return lines
