"""The published values that come with couplingkit in, records out: what a paper's tables say, and where it was read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

from ..evaluation.scores import Evaluation
from ..transfer.recipe import read_fine_tune_recipe, recipe_names, recipe_status
from ..transfer.scoring import decisive
from ..typed_files import Record, as_record, decode_toml, made_by

__all__ = ["Published", "PublishedColumn", "PublishedMethod", "read_published", "recipe_of"]

PAPERS = ("paper",)


class PublishedColumn(Record, frozen=True):
    """One column of a table.

    Attributes:
        name: of its scores.
        title: in tables.
        data: that the score is on, as `finetune` names it.
        score: name of the score.
        recipes: of couplingkit that are made for it; a run with another one, or a changed one, is none of the column.
    """

    name: str
    title: str
    data: str
    score: str
    recipes: list[str]


class PublishedMethod(Record, frozen=True):
    """One method of a table.

    Attributes:
        name: as the paper has it.
        network: as the paper has it.
        architecture: the same as timm names it.
        pretrained: on what, for how long.
        source: where the scores were read; empty where none are known here.
        scores: in per cent, by the names of columns.
    """

    name: str
    network: str
    architecture: str
    pretrained: str = ""
    source: str = ""
    scores: Mapping[str, float] = made_by(default_factory=dict)


class Published(Record, frozen=True):
    """The tables of a paper."""

    column: list[PublishedColumn]
    method: list[PublishedMethod]


def recipe_of(one: Evaluation) -> str:
    """Return by which recipe of couplingkit a model was fine-tuned; empty where it was changed, frozen networks too."""
    said = one.provenance["settings"].get("recipe", {})
    task = one.provenance["settings"].get("task")
    for name in recipe_names():
        if recipe_status(name)[0] == task:
            plain = json.loads(json.dumps(decisive(read_fine_tune_recipe(task, name))))
            if plain == json.loads(json.dumps(said)):
                return name
    return ""


def read_published(name: str = "paper") -> Published:
    """Return the tables of a paper that come with couplingkit."""
    text = (files("couplingkit.data_manifests") / f"{name}.toml").read_text(encoding="utf-8")
    return as_record(decode_toml(text, name), Published, name)
