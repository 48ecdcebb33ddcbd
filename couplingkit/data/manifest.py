"""Which objects and which pairs a probe set is made of, as a small readable file; never pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["MANIFEST_VERSION", "ObjectPair", "manifest_text"]

MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class ObjectPair:
    """What probe `number` is made of.

    Attributes:
        annotation_a: the object whose feature is watched.
        annotation_b: the object beside it.
        annotation_c: the control object that takes B's place; None without a control.
        direction: where B stands, seen from A: right, left, below or above.
        backdrop: id of the photo behind the objects; None unless the canvas is `image`.
    """

    number: int
    annotation_a: int
    annotation_b: int
    annotation_c: int | None
    direction: str
    backdrop: int | None = None


def manifest_text(header: Mapping[str, Any], pairs: tuple[ObjectPair, ...]) -> str:
    """Return a probe set as JSON text: the header's keys, then one short line a pair.

    The text depends on its arguments alone (sorted keys), so its hash names the set.
    """
    keys = list(ObjectPair.__dataclass_fields__)
    head = json.dumps({"version": MANIFEST_VERSION, **header, "columns": keys}, indent=1, sort_keys=True)
    lines = ",\n".join("  " + json.dumps(list(asdict(pair).values())) for pair in pairs)
    return f'{head[:-2]},\n "pairs": [\n{lines}\n ]\n}}\n'
