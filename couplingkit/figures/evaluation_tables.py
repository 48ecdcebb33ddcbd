"""Evaluations in, tables out: for a terminal, for markdown and LaTeX, as CSV, and everything as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..errors import counted
from ..evaluation.photo_sums import OVER_SEEDS, TAKEN
from ..evaluation.scores import Evaluation, ScoreGap
from ..evaluation.task import FINE_TUNED, SCORES
from ..metrics.bootstrap import Estimate
from ..metrics.multiple import holm
from ..runs.evaluation_files import EvaluationRun, plain_evaluations
from ..typed_files import json_text
from .labels import short_labels
from .text_tables import as_text

__all__ = [
    "by_task",
    "data_facts",
    "evaluation_numbers",
    "evaluation_text",
    "gap_table",
    "gaps_text",
    "holm_gaps",
    "how_trained",
    "percent_text",
]

APS = ("AP50", "AP75", "APs", "APm", "APl")
# Title in the table, and whether its interval is shown: of the controls the difference has it.
SHOWN = {
    "taken_by_neighbour": ("neighbour's", True),
    "taken_elsewhere": ("elsewhere", False),
    "taken": ("difference", True),
    "taken_by_other": ("others", False),
}


def percent_text(estimate: Estimate | None) -> str:
    """Return a share in per cent with its interval.

    >>> percent_text(Estimate(0.186, 0.177, 0.195))
    '18.6 [17.7, 19.5]'
    """
    if estimate is None or math.isnan(estimate.value):
        return "-"
    if math.isnan(estimate.low):
        return f"{100 * estimate.value:z.1f}"
    return f"{100 * estimate.value:z.1f} [{100 * estimate.low:z.1f}, {100 * estimate.high:z.1f}]"


def evaluation_numbers(run: EvaluationRun) -> pd.DataFrame:
    """Return one row per model and score, everything in [0, 1]."""
    rows = []
    for one in run.evaluations:
        row: dict[str, Any] = {"model": one.name, "task": one.task}
        for name, estimate in {"score": one.score, **one.extras}.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row | {"floor": one.floor, "ceiling": one.ceiling})
    return pd.DataFrame(rows)


def evaluation_text(run: EvaluationRun, form: str, *, width: int | None = None) -> str:
    """Return the scores of models as text in one of the formats of `Format`; see `as_text` for the width."""
    if form == "json":
        return json_text(plain_evaluations(run)).rstrip()
    if form == "csv":
        return evaluation_numbers(run).to_csv(index=False).rstrip()
    labels = dict(zip(run.models, short_labels(run.models), strict=True))
    tasks = [name for name in SCORES if any(one.task == name for one in run.evaluations)]
    blocks = [as_text(_scores(run, labels, tasks), form, width=width)]
    taken = _taken(run, labels)
    if taken is not None:
        title = (
            "Of an object's pixels, those taken for its neighbour's class (and of objects in photos where that class\n"
            "is not; the difference; for each of the other classes), %:"
        )
        blocks += [title, as_text(taken, form, width=width, lead=2)]
    parts = _average_precisions(run, labels)
    if parts is not None:
        blocks += ["Average precision at IoU .5 and .75, and of small, medium and large objects, %:"]
        blocks += [as_text(parts, form, width=width, lead=2)]
    seeds = _over_seeds(run, labels)
    if seeds is not None:
        blocks += ["Over seeds of what was trained, and the difference to the first model, %:"]
        blocks += [as_text(seeds, form, width=width, lead=2)]
    if form == "table":
        blocks.append(_foot(run, tasks, width))
    return "\n\n".join(blocks)


def _scores(run: EvaluationRun, labels: Mapping[str, str], tasks: Sequence[str]) -> pd.DataFrame:
    rows = []
    for model in run.models:
        row = {"model": labels[model]}
        for task in tasks:
            one = run.of(model, task)
            row[f"{SCORES[task].title} %"] = percent_text(None if one is None else one.score)
        first = next((one for one in run.evaluations if one.name == model and not math.isnan(one.ceiling)), None)
        if first is not None:
            row["ceiling"] = f"{100 * first.ceiling:.1f}"
        rows.append(row)
    floors = {f"{SCORES[task].title} %": _floor(run, task) for task in tasks}
    return pd.DataFrame([*rows, {"model": "(floor)", **floors}]).fillna("-")


def _floor(run: EvaluationRun, task: str) -> str:
    """Return the floors of a score: of one data set they are the same, but for what a model cannot measure."""
    values = sorted({f"{100 * one.floor:.1f}" for one in run.evaluations if one.task == task})
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _taken(run: EvaluationRun, labels: Mapping[str, str]) -> pd.DataFrame | None:
    rows = [
        {
            "model": labels[one.name],
            "task": one.task,
            **{
                title: percent_text(one.extras.get(name)) if whole else _value(one.extras.get(name))
                for name, (title, whole) in SHOWN.items()
            },
        }
        for one in run.evaluations
        if set(TAKEN) & set(one.extras)
    ]
    return pd.DataFrame(rows) if rows else None


def _average_precisions(run: EvaluationRun, labels: Mapping[str, str]) -> pd.DataFrame | None:
    rows = [
        {
            "model": labels[one.name],
            "task": SCORES[one.task].title,
            **{name: _value(one.extras[name]) for name in APS if name in one.extras},
        }
        for one in run.evaluations
        if SCORES[one.task].reads
    ]
    return pd.DataFrame(rows).fillna("-") if rows else None


def _over_seeds(run: EvaluationRun, labels: Mapping[str, str]) -> pd.DataFrame | None:
    """Return scores with intervals over seeds, which say something of a method, and not of these networks."""
    gaps = {(gap.model, gap.task): gap.estimate for gap in run.gaps if gap.effect == OVER_SEEDS}
    rows = [
        {
            "model": labels[one.name],
            "task": SCORES[one.task].title,
            "over seeds": percent_text(one.extras[OVER_SEEDS]),
            f"minus {labels[run.models[0]]}": percent_text(gaps.get((one.name, one.task))),
        }
        for one in run.evaluations
        if OVER_SEEDS in one.extras
    ]
    return pd.DataFrame(rows) if rows else None


def _value(estimate: Estimate | None) -> str:
    return percent_text(None if estimate is None else Estimate(estimate.value, math.nan, math.nan))


def data_facts(data: Mapping[str, Any]) -> str:
    """Return a sentence on the photos of an evaluation's provenance."""
    return (
        f"{data['name']}: {data['train_photos']} photos to learn from, {data['test_photos']} to be scored on, "
        f"{len(data['classes'])} classes."
    )


def _bounds(tasks: Sequence[str]) -> str:
    """Return what stands beside the scores of some tasks."""
    trained = {score.name for score in FINE_TUNED}
    if set(tasks) <= trained:
        floor = "the commonest class" if "segment" in tasks else "nothing found"
        return f"Floor: {floor}. random: the same architecture without training, trained here in the same way."
    return (
        "Floor: the commonest class (or the whole photo as a box); ceiling: true labels at the cells' resolution. "
        "random: the same architecture without training. No task stands alone: they disagree."
    )


def how_trained(run: EvaluationRun) -> list[str]:
    """Return how what was fine-tuned was trained, in a sentence."""
    said = run.evaluations[0].provenance["settings"].get("recipe")
    if said is None:
        return []
    length, photos = said["run"]["steps"], said["run"]["batch_size"]
    network = "frozen" if said["backbone"]["frozen"] else "trained, too"
    seeds = len(run.evaluations[0].provenance["settings"]["seeds"])
    return [f"{counted(length, 'step')} of {counted(photos, 'photo')}, {counted(seeds, 'seed')}; networks {network}."]


def _foot(run: EvaluationRun, tasks: Sequence[str], width: int | None) -> str:
    lines = [
        f"{data_facts(run.evaluations[0].provenance['data'])} Brackets: 95 % over photos, of these networks.",
        *(f"{SCORES[task].title}: {SCORES[task].meaning}." for task in tasks),
        _bounds(tasks),
        *how_trained(run),
    ]
    return "\n".join(line for part in lines for line in textwrap.wrap(part, width or 10_000))


def holm_gaps(gaps: Sequence[ScoreGap]) -> list[float]:
    """Return the p-values of gaps corrected for the number of models, in each score and effect by itself."""
    adjusted = [math.nan] * len(gaps)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, gap in enumerate(gaps):
        groups.setdefault((gap.task, gap.effect), []).append(place)
    for places in groups.values():
        for place, p in zip(places, holm([gaps[one].p for one in places]), strict=True):
            adjusted[place] = p
    return adjusted


def gap_table(gaps: Sequence[ScoreGap]) -> pd.DataFrame:
    """Return one row a gap: every field as a column."""
    return pd.DataFrame(
        [
            {
                "model": gap.model,
                "baseline": gap.baseline,
                "task": gap.task,
                "effect": gap.effect,
                "difference": gap.estimate.value,
                "low": gap.estimate.low,
                "high": gap.estimate.high,
                "photos": gap.photos,
                "p": gap.p,
                "p_holm": p_holm,
            }
            for gap, p_holm in zip(gaps, holm_gaps(gaps), strict=True)
        ]
    )


def gaps_text(gaps: Sequence[ScoreGap], form: str, *, width: int | None = None) -> str:
    """Return paired differences as text in one of the formats of `Format`; scores in per cent."""
    table = gap_table(gaps)
    if form == "csv":
        return table.to_csv(index=False).rstrip()
    if form == "json":
        return str(table.to_json(orient="records", indent=1))
    names = short_labels(list(dict.fromkeys([name for gap in gaps for name in (gap.model, gap.baseline)])))
    labels = dict(zip(dict.fromkeys(name for gap in gaps for name in (gap.model, gap.baseline)), names, strict=True))
    rows = [
        {
            "model": labels[gap.model],
            "task": gap.task,
            "what": gap.effect,
            f"minus {labels[gap.baseline]}, %": percent_text(gap.estimate),
            "p": "-" if math.isnan(gap.p) else f"{gap.p:.4f}",
            "p (Holm)": "-" if math.isnan(p_holm) else f"{p_holm:.4f}",
            "photos": str(gap.photos),
        }
        for gap, p_holm in zip(gaps, holm_gaps(gaps), strict=True)
        if gap.effect in ("score", "taken", OVER_SEEDS)
    ]
    return as_text(pd.DataFrame(rows).fillna("-"), form, width=width, lead=3)


def by_task(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Return evaluations by the name of their score, in the order of the tasks."""
    found = {name: [one for one in evaluations if one.task == name] for name in SCORES}
    return {name: own for name, own in found.items() if own}
