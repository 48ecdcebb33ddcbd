"""Annotations and a seed in, the pairs of a probe set and its manifest out; no photo is read."""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.coco import CocoIndex, Eligibility, read_instances
from ..data.masked_photos import UNNAMED
from ..data.objects import Objects
from ..errors import ArgumentError, DataError
from .manifest import Manifest, Source, object_check
from .placement import draw_pairs
from .ring import draw_rings
from .spec import DIRECTIONS, ObjectPair, ProbeSpec

__all__ = ["bare_manifest", "draw", "draw_manifest"]

log = logging.getLogger(__name__)


def draw_manifest(
    annotations: str | Path,
    *,
    name: str,
    count: int = 500,
    seed: int = 0,
    spec: ProbeSpec = ProbeSpec(),  # noqa: B008 - frozen
    eligibility: Eligibility = Eligibility(),  # noqa: B008 - frozen
) -> Manifest:
    """Return the manifest of the probes that `ProbeSet.from_coco` draws, without photos, so without a fingerprint."""
    index, spec, pairs = draw(annotations, eligibility, spec, seed=seed, count=count)
    keys = sorted({key for pair in pairs for key in pair.members()})
    checks = {key: object_check(index.record(key)) for key in keys}
    return bare_manifest(name, index, pairs, checks, spec, seed=seed, drawn_gap=spec.reach)


def draw(
    annotations: str | Path, eligibility: Eligibility, spec: ProbeSpec, *, seed: int, count: int
) -> tuple[CocoIndex, ProbeSpec, tuple[ObjectPair, ...]]:
    """Return the index of an instances JSON, the spec with its design settled, and the pairs that a seed draws.

    Raises:
        ArgumentError: there are not so many different pairs.
        DataError: the file cannot be used, or fewer than two objects are eligible.
    """
    index = read_instances(annotations, eligibility)
    if len(index.objects) < 2:
        raise DataError(
            f"annotations {index.path} hold {len(index.objects)} eligible objects, and a probe needs 2; "
            f"{index.what_was_dropped()}."
        )
    # A before B, in each direction.
    most = len(index.objects) * (len(index.objects) - 1) * len(DIRECTIONS)
    if count > most:
        raise ArgumentError(
            f"probes must be at most {most:,}, for that many different pairs the {len(index.objects)} eligible objects "
            f"of {index.path} give, not {count:,}."
        )
    objects = _told_apart(index)
    photos = list(index.images)
    spec = _settled(spec, index, objects, seed)
    drawn = draw_rings if spec.design == "ring" else draw_pairs
    return index, spec, drawn(objects, photos, spec, seed=seed, count=count)


def _told_apart(index: CocoIndex) -> Objects:
    """Return the eligible objects; where nobody named them, each counts as a category of its own."""
    objects = index.objects
    if objects.category_names != [UNNAMED]:
        return objects
    log.warning("Note: nobody named the objects of %s, so that any two of two photos count as unlike.", index.path.name)
    apart = copy(objects)
    apart.categories = np.arange(len(objects))
    return apart


def _settled(spec: ProbeSpec, index: CocoIndex, objects: Objects, seed: int) -> ProbeSpec:
    """Return the spec with `auto` settled by its look and by whether the objects give a ring, never by the count."""
    if spec.design != "auto":
        return spec
    if not spec.both_ways:
        return replace(spec, design="pairs")
    try:
        draw_rings(objects, list(index.images), spec, seed=seed, count=1)
    except DataError as error:
        log.warning("Note: probes are pairs and no rings (`design=pairs` says so, too): %s", error)
        return replace(spec, design="pairs")
    return replace(spec, design="ring")


def bare_manifest(
    name: str,
    index: CocoIndex,
    pairs: tuple[ObjectPair, ...],
    checks: dict[int, str],
    spec: ProbeSpec,
    *,
    seed: int,
    drawn_gap: int,
) -> Manifest:
    """Return the manifest of a set whose pictures were not drawn yet."""
    return Manifest(
        name=name,
        annotations=Source(file=index.path.name, sha256=index.sha256),
        eligibility=index.eligibility,
        seed=seed,
        spec=spec,
        fingerprint=None,
        objects=checks,
        pairs=pairs,
        drawn_gap=drawn_gap,
    )
