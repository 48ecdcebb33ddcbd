"""Which objects and which pairs a probe set is made of, as a small readable file; never pixels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..data.coco import CocoIndex, Eligibility
from ..data.objects import ObjectRecord
from ..errors import ArgumentError, DataError, listed, near
from ..typed_files import Count, Digest, Record, as_record, decode_json, read_text
from .spec import DIRECTIONS, ObjectPair, ProbeSpec

__all__ = ["MANIFEST_MARK", "Manifest", "Source", "object_check", "read_manifest"]

FORMAT, VERSION = "couplingkit probes", 3
# What tells a manifest from any other JSON.
MANIFEST_MARK = f'"format": "{FORMAT}"'.encode()
CHECK_DIGITS = 8
COLUMNS = tuple(field.name for field in fields(ObjectPair))


class Source(Record, frozen=True, omit_defaults=True):
    """Where the objects of a set come from.

    Attributes:
        file: name of the annotation file.
        sha256: of its bytes.
        scenes, scenes_seed: of the built-in scenes, where they are what the file holds.
    """

    file: str = ""
    sha256: Digest | None = None
    scenes: Count | None = None
    scenes_seed: Count | None = None


class _Version(Record, frozen=True):
    format: str = ""
    version: int = 0


class _Content(Record, frozen=True):
    """A manifest as its file has it."""

    name: str
    annotations: Source
    eligibility: dict[str, Any]
    seed: Count
    spec: dict[str, Any]
    fingerprint: Digest | None
    columns: tuple[str, ...]
    pairs: list[tuple[Count, int, int, int | None, str, int | None]]
    objects: dict[str, str]
    drawn_gap: Count


@dataclass(frozen=True)
class Manifest:
    """A probe set by its parts.

    Attributes:
        name: what reports call it.
        annotations: the file that it was drawn from.
        eligibility: the rules that chose the objects.
        seed: of the draws.
        spec: the probes' look.
        fingerprint: of the rendered probes; None where the set was drawn without photos.
        objects: annotation id -> check of the object (see `object_check`).
        pairs: what each probe is made of.
        drawn_gap: third objects were chosen to fit beside A up to this gap.
    """

    name: str
    annotations: Source
    eligibility: Eligibility
    seed: int
    spec: ProbeSpec
    fingerprint: str | None
    objects: Mapping[int, str]
    pairs: tuple[ObjectPair, ...]
    drawn_gap: int

    def text(self) -> str:
        """Return the manifest as JSON: the header's keys, then one short line a pair and some objects a line."""
        source = {key: value for key in Source.__struct_fields__ if (value := getattr(self.annotations, key))}
        header = {
            "annotations": source,
            "columns": COLUMNS,
            "drawn_gap": self.drawn_gap,
            "eligibility": self.eligibility.stored(),
            "fingerprint": self.fingerprint,
            "format": FORMAT,
            "name": self.name,
            "seed": self.seed,
            "spec": self.spec.stored(),
            "version": VERSION,
        }
        head = json.dumps(header, indent=1, sort_keys=True)
        pairs = ",\n".join("  " + json.dumps(list(asdict(pair).values())) for pair in self.pairs)
        ordered = [f'"{key}": "{self.objects[key]}"' for key in sorted(self.objects)]
        objects = ",\n".join("  " + ", ".join(ordered[start : start + 6]) for start in range(0, len(ordered), 6))
        return f'{head[:-2]},\n "pairs": [\n{pairs}\n ],\n "objects": {{\n{objects}\n }}\n}}\n'

    def identity(self) -> str:
        """Return a SHA-256 of what decides the pictures: two sets that share it are the same probes.

        Names of files, and the rules by which the objects were chosen, are not part of it.
        """
        drawn = [list(asdict(pair).values()) for pair in self.pairs]
        parts = [self.seed, self.spec.stored(), drawn, [[key, self.objects[key]] for key in sorted(self.objects)]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def check_objects(self, index: CocoIndex) -> None:
        """Raise `DataError` unless an annotation file has all the objects, unchanged."""
        lacking = [key for key in self.objects if index.objects.place_of(key) is None]
        if lacking:
            raise DataError(
                f"annotations {index.path} lack {len(lacking)} of the {len(self.objects)} objects of the probe set "
                f"{self.name} (annotations {listed(lacking)}), which was drawn from "
                f"{self.annotations.file or 'another file'}; give that file."
            )
        photos = {pair.backdrop for pair in self.pairs if pair.backdrop is not None}
        absent = sorted(photos - set(index.images))
        if absent:
            raise DataError(
                f"annotations {index.path} lack {len(absent)} of the photos behind the probe set {self.name} (images "
                f"{listed(absent)}); give the file that it was drawn from."
            )
        if index.sha256 == self.annotations.sha256:
            return
        changed = [key for key, check in self.objects.items() if object_check(index.record(key)) != check]
        if changed:
            raise DataError(
                f"annotations {index.path} have {len(changed)} of the {len(self.objects)} objects of the probe set "
                f"{self.name} with another mask or category (annotations {listed(changed)}); give the file that it was "
                f"drawn from, {self.annotations.file or 'which it does not name'}."
            )


def object_check(record: ObjectRecord) -> str:
    """Return 8 hexadecimal digits that change with an object's photo, category or mask."""
    parts = (record.annotation_id, record.image_id, record.category, record.rle["size"], record.rle["counts"])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:CHECK_DIGITS]


def read_manifest(path: Path) -> Manifest:
    """Read what `Manifest.text` wrote.

    Raises:
        DataError: the file is missing, no manifest, not whole, or of another version.
    """
    text, what = read_text(path, "probes"), f"probes {path}"
    head = decode_json(text, _Version, what)
    if not head.version and not head.format:
        raise DataError(f"{what} is no manifest of `couplingkit probes make`.")
    if head.version != VERSION:
        way = "update couplingkit" if head.version > VERSION else "make it again with `couplingkit probes make`"
        raise DataError(f"{what} has version {head.version}, and {VERSION} can be read here; {way}.")
    content = decode_json(text, _Content, what)
    try:
        return _checked(content, what)
    except ArgumentError as error:
        raise DataError(f"{what} asks for what cannot be had here: {error}") from error


def _checked(content: _Content, what: str) -> Manifest:
    def not_whole(why: str) -> DataError:
        return DataError(f"{what} is not whole: {why}.")

    if content.columns != COLUMNS:
        raise not_whole(f"its columns are {listed(content.columns)}, not {listed(COLUMNS)}")
    # Sets that are older than rings say no design.
    spec = _settings({"design": "pairs", **content.spec}, ProbeSpec, f"{what}: its spec")
    if spec.design == "auto":
        raise not_whole("its design is neither pairs nor ring")
    rules = _settings(content.eligibility, Eligibility, f"{what}: its eligibility")
    pairs = tuple(ObjectPair(*line) for line in content.pairs)
    if not pairs or [pair.number for pair in pairs] != list(range(len(pairs))):
        raise not_whole("its pairs are not numbered from 0 on")
    objects = {_annotation_id(key, what): check for key, check in content.objects.items()}
    members = {key for pair in pairs for key in pair.members()}
    if members != set(objects):
        raise not_whole("its pairs and its objects do not belong together")
    for pair in pairs:
        if pair.direction not in DIRECTIONS:
            raise not_whole(
                f"pair {pair.number} has the direction {pair.direction!r}{near(pair.direction, DIRECTIONS)}"
            )
        if spec.control and pair.annotation_c is None:
            raise not_whole(f"pair {pair.number} has no third object, which its spec asks for")
        if spec.canvas == "image" and pair.backdrop is None:
            raise not_whole(f"pair {pair.number} has no photo behind it, which its spec asks for")
    if content.annotations.scenes is not None and content.annotations.scenes_seed is None:
        raise not_whole("scenes need a seed")
    return Manifest(
        name=content.name,
        annotations=content.annotations,
        eligibility=rules,
        seed=content.seed,
        spec=spec,
        fingerprint=content.fingerprint,
        objects=objects,
        pairs=pairs,
        drawn_gap=content.drawn_gap,
    )


def _annotation_id(text: str, what: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise DataError(f"{what} is not whole: {text[:40]!r} is no annotation id.")
    return int(text)


def _settings(values: dict[str, Any], kind: type, what: str) -> Any:
    """Return settings as their record; what is not known here could be anything, so it is refused."""
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            raise DataError(f"{what} has {key!r}, which is not known here{near(key, known)}; update couplingkit.")
    return as_record(values, kind, what)
