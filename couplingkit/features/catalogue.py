"""The list of architectures that can be named, with what each one gives; read from a table that a script measures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["CatalogueEntry", "catalogue", "catalogue_text", "search_catalogue"]

TABLE = "catalogue.csv"


@dataclass(frozen=True)
class CatalogueEntry:
    """What one architecture gives with random weights (tests/benchmarks/registry.py measures it).

    Attributes:
        source: timm or torchvision.
        name: as the source has it.
        family: module of the source that it comes from.
        parameters: in thousands.
        input: height x width that it is built for, px.
        stride: px per cell of the last layer's map, as measured; 0 where there is none.
        channels: of that map.
        layers: how many `layer` can choose from; 0 where they are named.
        other_sizes: how it takes a larger, non-square input: plain call or img_size, perhaps `(square only)`; or no.
        problem: why it cannot be measured; '' where it can.
    """

    source: str
    name: str
    family: str
    parameters: int
    input: str
    stride: int
    channels: int
    layers: int
    other_sizes: str
    problem: str


@cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """Return all entries, timm's before torchvision's, by name."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    kinds: dict[str, Any] = {field.name: int if field.type == "int" else str for field in fields(CatalogueEntry)}
    rows = csv.DictReader(text.splitlines())
    return tuple(CatalogueEntry(**{name: kinds[name](value) for name, value in row.items()}) for row in rows)


def catalogue_text(entries: Sequence[CatalogueEntry]) -> str:
    """Return entries as the CSV that `catalogue` reads."""
    lines = [",".join(field.name for field in fields(CatalogueEntry))]
    for entry in entries:
        lines.append(",".join(str(value).replace(",", ";") for value in asdict(entry).values()))
    return "\n".join(lines) + "\n"


def search_catalogue(words: str) -> list[CatalogueEntry]:
    """Return the entries whose source, name and family hold every one of the words.

    >>> [entry.name for entry in search_catalogue("dinov2 small reg4")]
    ['vit_small_patch14_reg4_dinov2']
    """
    wanted = words.lower().split()
    return [
        entry
        for entry in catalogue()
        if all(word in f"{entry.source}:{entry.name} {entry.family}".lower() for word in wanted)
    ]
