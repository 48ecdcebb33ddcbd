"""Objects and a seed in, rings of them out: each object beside two others, every image read both ways.

A ring has two slots, left and right of the gap or above and below it, and eight objects in either. Going round,
L0 - R0 - L1 - R1 - ... - L7 - R7 - L0, neighbours are shown side by side, once. A row is an object (A), one of its
neighbours (B), and the other one as the third object (C): 32 rows of 16 images of one object and 16 of two, where 32
pairs take 128 images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..data.objects import Objects
from ..errors import DataError, check_range, counted
from ..streams import Stream
from .placement import AREA_FACTOR
from .spec import RING_ROWS, ObjectPair, ProbeSpec

__all__ = ["draw_rings"]

# Objects of a ring, both slots.
MEMBERS = RING_ROWS // 2
ATTEMPTS = 200
AXES = (("right", "left"), ("below", "above"))

Flags = NDArray[np.bool_]


def draw_rings(
    objects: Objects, photos: Sequence[int], spec: ProbeSpec, *, seed: int, count: int
) -> tuple[ObjectPair, ...]:
    """Draw `count` rows of rings; a row depends on (seed, its number) and on the objects alone.

    Every photo gives one object before any gives a second one, as far as categories and areas allow. Of every two
    rings one lies across the canvas and one down.

    Args:
        objects: the eligible ones.
        photos: ids of all photos, for `canvas="image"`.
        spec: the probes' look.
        seed: of the whole set.
        count: how many rows; the last ring may be cut short.

    Raises:
        DataError: the objects do not give such a ring.
    """
    check_range("probes", count, 1)
    pool = _Pool(objects, spec)
    rows: list[ObjectPair] = []
    for ring in range(-(-count // RING_ROWS)):
        stream = Stream(seed).child("ring", ring)
        members = pool.members(stream)
        first = Stream(seed).child("axis", ring // 2).below(2)
        backdrop = _backdrop(spec, photos, {int(objects.image_ids[one]) for one in members}, stream)
        rows += _rows(ring, [int(objects.ids[one]) for one in members], AXES[(first + ring) % 2], backdrop)
    return tuple(rows[:count])


def _rows(ring: int, ids: list[int], directions: tuple[str, str], backdrop: int | None) -> list[ObjectPair]:
    """Return the rows of a ring of annotation ids; even places are in the first slot."""
    rows: list[ObjectPair] = []
    for place, a in enumerate(ids):
        before, after = ids[place - 1], ids[(place + 1) % MEMBERS]
        direction = directions[place % 2]
        for b, c in ((after, before), (before, after)):
            rows.append(ObjectPair(ring * RING_ROWS + len(rows), a, b, c, direction, backdrop))
    return rows


def _backdrop(spec: ProbeSpec, photos: Sequence[int], taken: set[int], stream: Stream) -> int | None:
    if spec.canvas != "image":
        return None
    others = [photo for photo in sorted(photos) if photo not in taken]
    if not others:
        raise DataError("canvas 'image' needs a photo besides those of the objects, and there is none.")
    return others[stream.child("backdrop").below(len(others))]


class _Pool:
    """The eligible objects, and which photos were used already."""

    def __init__(self, objects: Objects, spec: ProbeSpec):
        self.spec = spec
        self.images, self.categories = objects.image_ids, objects.categories
        sides = np.maximum(np.round(objects.extents), 1)
        # Area of each mask as it is drawn, units^2, as a logarithm.
        drawn = objects.areas * (spec.object_size / sides.max(axis=1, initial=1)) ** 2
        self.areas = np.log(np.maximum(drawn, 1e-9))
        self.uses = np.zeros(len(self.images), dtype=np.int64)
        self.needs = (
            f"{counted(len(self.images), 'eligible object')} of "
            f"{counted(len(np.unique(self.categories)), 'category', 'categories')} in "
            f"{counted(len(np.unique(self.images)), 'photo')}"
        )

    def members(self, stream: Stream) -> list[int]:
        """Return the places of a ring's objects, in their order; their photos count as used."""
        for attempt in range(ATTEMPTS):
            found = self._drawn(stream.child("attempt", attempt))
            if found is not None:
                for place in found:
                    self.uses[self.images == self.images[place]] += 1
                return found
        raise DataError(
            f"{self.needs} give no ring of {MEMBERS} objects of as many photos whose neighbours have other categories: "
            "use `design=pairs`, `pairing=any`, or more photos."
        )

    def _drawn(self, stream: Stream) -> list[int] | None:
        found: list[int] = []
        for place in range(MEMBERS):
            free = self._allowed(found)
            if not free.any():
                return None
            # B and C of an object are the neighbours of one slot: alike in area, so alike to the slot's first one.
            if place >= 2:
                apart = np.abs(self.areas - self.areas[found[place % 2]])
                alike: Flags = free & (apart <= math.log(AREA_FACTOR) / 2)
                free = alike if alike.any() else free & (apart == apart[free].min())
            # Photos that were used least come first.
            fresh = free & (self.uses == self.uses[free].min())
            candidates = np.flatnonzero(fresh)
            found.append(int(candidates[stream.child("member", place).below(candidates.size)]))
        return found

    def _allowed(self, found: list[int]) -> Flags:
        """Return who may come next in a ring: of a new photo, of another category than those it meets."""
        free: Flags = ~np.isin(self.images, self.images[found]) if found else np.ones(len(self.images), dtype=bool)
        place = len(found)
        beside = [found[place - 1]] if found else []
        thirds = [found[place - 2]] if place >= 2 else []
        if place == MEMBERS - 1:
            beside.append(found[0])
            thirds.append(found[1])
        if place == MEMBERS - 2:
            thirds.append(found[0])
        if self.spec.pairing == "any":
            beside = []
        for other in (*beside, *thirds):
            free &= self.categories != self.categories[other]
        return free
