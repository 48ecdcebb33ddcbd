"""The published values that come with couplingkit in, records out: what a paper's tables say, and where it was read."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from ..typed_files import Record, as_record, decode_toml, made_by

__all__ = ["Published", "PublishedColumn", "PublishedMethod", "read_published"]

PAPERS = ("paper",)


class PublishedColumn(Record, frozen=True):
    """One column of a table.

    Attributes:
        name: of its scores.
        title: in tables.
        data: that the score is on, as `finetune` names it.
        score: name of the score.
    """

    name: str
    title: str
    data: str
    score: str


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


def read_published(name: str = "paper") -> Published:
    """Return the tables of a paper that come with couplingkit."""
    text = (files("couplingkit.data_manifests") / f"{name}.toml").read_text(encoding="utf-8")
    return as_record(decode_toml(text, name), Published, name)
