"""Which objects and which pairs a probe set is made of, as a small readable file; never pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line, listed
from .coco import CocoIndex
from .objects import ObjectRecord

__all__ = ["DIRECTIONS", "MANIFEST_VERSION", "Manifest", "ObjectPair", "object_check", "read_manifest"]

MANIFEST_VERSION = 2
CHECK_DIGITS = 8
MAPPINGS = ("annotations", "eligibility", "spec", "objects")
DIRECTIONS = ("right", "left", "below", "above")


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

    def members(self) -> tuple[int, ...]:
        """Return the annotation ids of A, B (and C)."""
        both = (self.annotation_a, self.annotation_b)
        return both if self.annotation_c is None else (*both, self.annotation_c)


@dataclass(frozen=True)
class Manifest:
    """A probe set by its parts.

    Attributes:
        name: what reports call it.
        annotations: of the file that it was drawn from: `file` and `sha256`; `scenes` and `seed` where it is built in.
        eligibility: the rules that chose the objects.
        seed: of the draws.
        spec: the probes' look, as `ProbeSpec` has it.
        fingerprint: of the rendered probes; None where the set was drawn without photos.
        objects: annotation id -> check of the object (see `object_check`).
        pairs: what each probe is made of.
        drawn_gap: third objects were chosen to fit beside A up to this gap.
    """

    name: str
    annotations: Mapping[str, Any]
    eligibility: Mapping[str, Any]
    seed: int
    spec: Mapping[str, Any]
    fingerprint: str | None
    objects: Mapping[int, str]
    pairs: tuple[ObjectPair, ...]
    drawn_gap: int

    def text(self) -> str:
        """Return the manifest as JSON: the header's keys, then one short line a pair and some objects a line."""
        header = {key: value for key, value in vars(self).items() if key not in ("objects", "pairs")}
        columns = [field.name for field in fields(ObjectPair)]
        head = json.dumps({"version": MANIFEST_VERSION, **header, "columns": columns}, indent=1, sort_keys=True)
        pairs = ",\n".join("  " + json.dumps(list(asdict(pair).values())) for pair in self.pairs)
        ordered = [f'"{key}": "{self.objects[key]}"' for key in sorted(self.objects)]
        objects = ",\n".join("  " + ", ".join(ordered[start : start + 6]) for start in range(0, len(ordered), 6))
        return f'{head[:-2]},\n "pairs": [\n{pairs}\n ],\n "objects": {{\n{objects}\n }}\n}}\n'

    def identity(self) -> str:
        """Return a SHA-256 of what decides the pictures: two sets that share it are the same probes.

        Names of files, and the rules by which the objects were chosen, are not part of it.
        """
        drawn = [list(asdict(pair).values()) for pair in self.pairs]
        parts = [self.seed, dict(self.spec), drawn, [[key, self.objects[key]] for key in sorted(self.objects)]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def check_objects(self, index: CocoIndex) -> None:
        """Raise `DataError` unless an annotation file has all the objects, unchanged."""
        lacking = [key for key in self.objects if index.objects.place_of(key) is None]
        if lacking:
            raise DataError(
                f"annotations {index.path} lack {len(lacking)} of the {len(self.objects)} objects of the probe set "
                f"{self.name} (annotations {listed(lacking)}), which was drawn from "
                f"{self.annotations.get('file', 'another file')}; give that file."
            )
        photos = {pair.backdrop for pair in self.pairs if pair.backdrop is not None}
        absent = sorted(photos - set(index.images))
        if absent:
            raise DataError(
                f"annotations {index.path} lack {len(absent)} of the photos behind the probe set {self.name} (images "
                f"{listed(absent)}); give the file that it was drawn from."
            )
        if index.sha256 == self.annotations.get("sha256"):
            return
        changed = [key for key, check in self.objects.items() if object_check(index.record(key)) != check]
        if changed:
            raise DataError(
                f"annotations {index.path} have {len(changed)} of the {len(self.objects)} objects of the probe set "
                f"{self.name} with another mask or category (annotations {listed(changed)}); give the file that it was "
                f"drawn from, {self.annotations.get('file', 'which it does not name')}."
            )


def object_check(record: ObjectRecord) -> str:
    """Return 8 hexadecimal digits that change with an object's photo, category or mask."""
    parts = (record.annotation_id, record.image_id, record.category, record.rle["size"], record.rle["counts"])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:CHECK_DIGITS]


def read_manifest(path: Path) -> Manifest:
    """Read what `Manifest.text` wrote.

    Raises:
        DataError: the file is missing, no manifest, not whole, or of a newer version.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"probes {path} cannot be read ({error.strerror}); give a manifest or a number.") from error
    except ValueError as error:
        raise DataError(f"probes {path} is no manifest: not valid JSON ({first_line(error)}).") from error
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int) or "pairs" not in content:
        raise DataError(f"probes {path} is no manifest of `couplingkit probes make`.")
    if version != MANIFEST_VERSION:
        way = "update couplingkit" if version > MANIFEST_VERSION else "make it again with `couplingkit probes make`"
        raise DataError(f"probes {path} has version {version}, and {MANIFEST_VERSION} can be read here; {way}.")
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"probes {path} is not whole ({type(error).__name__}: {first_line(error)}).") from error


def _parsed(content: dict[str, Any]) -> Manifest:
    pairs = tuple(ObjectPair(**dict(zip(content["columns"], line, strict=True))) for line in content["pairs"])
    objects = {int(key): str(check) for key, check in content["objects"].items()}
    for pair in pairs:
        numbers = (pair.number, *pair.members(), 0 if pair.backdrop is None else pair.backdrop)
        if pair.direction not in DIRECTIONS or not all(type(number) is int for number in numbers):
            raise ValueError(f"pair {pair.number} is none")
    if not isinstance(content["seed"], int) or not all(isinstance(content[key], dict) for key in MAPPINGS):
        raise ValueError("its header is none")
    if "scenes" in content["annotations"] and "scenes_seed" not in content["annotations"]:
        raise ValueError("scenes need a seed")
    members = {key for pair in pairs for key in pair.members()}
    if members != set(objects) or [pair.number for pair in pairs] != list(range(len(pairs))) or not pairs:
        raise ValueError("pairs and objects do not belong together")
    header: Sequence[str] = ("name", "annotations", "eligibility", "seed", "spec", "fingerprint", "drawn_gap")
    return Manifest(**{key: content[key] for key in header}, objects=objects, pairs=pairs)
