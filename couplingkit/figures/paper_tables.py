"""Runs of `finetune` and a paper's published values in, the paper's table with both out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from ..evaluation.photo_sums import OVER_SEEDS
from ..evaluation.scores import Evaluation
from ..evaluation.task import SCORES
from ..runs.evaluation_files import EvaluationRun
from ..runs.published import Published, PublishedColumn, PublishedMethod, recipe_of
from .evaluation_tables import percent_text

__all__ = ["paper_notes", "paper_table"]

EXTRAS = ("AP50", "AP75")


def method_of(label: str) -> str:
    """Return by what a model's label and a method's name are held against each other.

    >>> method_of("bundled:ibot-d"), method_of("iBOT-D"), method_of("runs/DenseCL.pth")
    ('ibotd', 'ibotd', 'densecl')
    """
    last = re.split(r"[/:]", label.strip())[-1]
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\.(pth|pt|safetensors|tar|ckpt)$", "", last.lower()))


def paper_table(runs: Sequence[EvaluationRun], published: Published) -> pd.DataFrame:
    """Return one row a method of the paper, and one a model that is none of them: what was scored here, and published.

    A cell is the score with its interval over photos (over seeds where there are several); behind it, as `(42.3)`, what
    is published. Scores on other data than the paper's get columns of their own.
    """
    every = [one for run in runs for one in run.evaluations if "recipe" in one.provenance["settings"]]
    rows, placed = [], set()
    for method in published.method:
        own = [one for one in every if _is_by(one, method)]
        placed |= {one.name for one in own}
        row = {"method": method.name, "network": method.network}
        rows.append(row | _columns(own, published, method.scores))
    for name in dict.fromkeys(one.name for one in every if one.name not in placed):
        own = [one for one in every if one.name == name]
        rows.append({"method": name, "network": _network(own[0])} | _columns(own, published, {}))
    table = pd.DataFrame(rows).fillna("-")
    # A column in which nothing stands says nothing.
    return table[[name for name in table if name in ("method", "network") or (table[name] != "-").any()]]


def _is_by(one: Evaluation, method: PublishedMethod) -> bool:
    """Return whether a model is a method's, by its label and by its network: another network is another row."""
    architecture = str(one.provenance["model"].get("architecture", ""))
    options = set(one.provenance["model"].get("options", {})) - {"img_size"}
    return method_of(one.name) == method_of(method.name) and architecture == method.architecture and not options


def _network(one: Evaluation) -> str:
    facts = one.provenance["model"]
    return f"{facts.get('architecture', '')}{' *' if facts.get('options') else ''}"


def _columns(own: Sequence[Evaluation], published: Published, scores: Mapping[str, float]) -> dict[str, str]:
    row: dict[str, str] = {}
    for column in published.column:
        row |= _cells(column, own, scores.get(column.name))
    return row | _elsewhere(own, published)


def _cells(column: PublishedColumn, own: Sequence[Evaluation], published: float | None) -> dict[str, str]:
    here = [one for one in own if _is_of(one, column)]
    beside = [] if published is None else [f"({published:.1f})"]
    cells = {column.title: " ".join([*_scores(here), *beside]) or "-"}
    extras = here[0].extras if len(here) == 1 else {}
    return cells | {f"{column.title} {name}": f"{100 * extras[name].value:.1f}" for name in EXTRAS if name in extras}


def _is_of(one: Evaluation, column: PublishedColumn) -> bool:
    """Return whether a score is what a column says: on its data, and by a recipe that is made for it, unchanged."""
    same = one.task == column.score and one.provenance["data"]["name"] == column.data
    return same and recipe_of(one) in column.recipes


def _elsewhere(own: Sequence[Evaluation], published: Published) -> dict[str, str]:
    """Return the scores that are none of the paper's: on other data, or made in another way."""
    others: dict[str, list[Evaluation]] = {}
    for one in own:
        if not any(_is_of(one, column) for column in published.column):
            others.setdefault(_title(one), []).append(one)
    return {title: " ".join(_scores(found)) for title, found in others.items()}


def _title(one: Evaluation) -> str:
    frozen = ", frozen" if one.provenance["settings"]["recipe"]["backbone"]["frozen"] else ""
    return f"{one.provenance['data']['name']} {SCORES[one.task].title}{frozen}"


def _scores(found: Sequence[Evaluation]) -> list[str]:
    """Return the scores of several runs with a semicolon between them."""
    return [text + ";" for text in map(_score, found[:-1])] + [_score(one) for one in found[-1:]]


def _score(one: Evaluation) -> str:
    return percent_text(one.extras.get(OVER_SEEDS, one.score))


def paper_notes(published: Published) -> list[str]:
    """Return what must be known of the table: what its parts are, and where published values were read."""
    sources = {
        method.source: [other.name for other in published.method if other.source == method.source]
        for method in published.method
        if method.source
    }
    unknown = [method.name for method in published.method if not method.scores]
    return [
        "(in brackets): published. Beside it what was scored here, %, with its interval over photos, or over seeds "
        "where there are several; a run with a changed recipe, or a frozen network, is in a column of its own. * an "
        "architecture with settings of its own.",
        *(f"{', '.join(names)}: {source}." for source, names in sources.items()),
        f"Not known here: the published values of {', '.join(unknown)}.",
        "A published value is comparable only with the paper's data, recipe and pretraining.",
    ]
