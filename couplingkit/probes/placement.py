"""Objects and a seed in, pairs with a place on the canvas out; lengths in canvas units (1/224 of the side)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.objects import Objects
from ..errors import ArgumentError, DataError, check_range, counted
from ..streams import Stream
from .spec import DIRECTIONS, UNITS, ObjectPair, ProbeSpec

__all__ = [
    "Box",
    "draw_pairs",
    "place",
    "place_in_slots",
    "place_instead",
    "room_beside",
    "scaled_size",
    "to_px",
]

# An attempt fails when a drawn A has no partner; 1,000 failures in a row mean that the data has none to give.
ATTEMPTS = 1000
# Between the boxes that a file states and masks, and between units and px.
ROUNDING_PX = 4
# C's mask has B's area within this factor where the data has such an object: a smaller one disturbs less.
AREA_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in px: left and top edge, width and height."""

    left: int
    top: int
    width: int
    height: int


def scaled_size(width: int, height: int, longer: int) -> tuple[int, int]:
    """Return (width, height) with the longer side `longer` and the same aspect, in whole px, at least 1 each.

    >>> scaled_size(300, 100, 80)
    (80, 27)
    """
    edge = max(width, height)
    # Integer rounding (half up): the same on every machine.
    return max(1, (2 * width * longer + edge) // (2 * edge)), max(1, (2 * height * longer + edge) // (2 * edge))


def to_px(units: int, side: int) -> int:
    """Return a length in canvas units as whole px of a canvas of `side` px; rounded down, so that what fits stays in.

    >>> to_px(80, 224), to_px(80, 518)
    (80, 185)
    """
    return units * side // UNITS


def place(
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    *,
    gap: int,
    direction: str,
    side: int,
    room: int | None = None,
) -> tuple[Box, Box]:
    """Return the boxes of A and B: B in `direction` of A, centres aligned, the pair's bounding box centred.

    Args:
        size_a: width and height of A, px.
        size_b: of B, px.
        gap: between the boxes, px.
        direction: right, left, below or above.
        side: of the canvas, px.
        room: gap for which the bounding box is centred, px; `gap` itself by default.

    >>> place((80, 80), (80, 40), gap=16, direction="right", side=224)
    (Box(left=24, top=72, width=80, height=80), Box(left=120, top=92, width=80, height=40))
    """
    across = 0 if direction in ("right", "left") else 1
    widest = gap if room is None else room
    start = (side - size_a[across] - widest - size_b[across]) // 2
    a_first = direction in ("right", "below")
    along_a = start if a_first else start + size_b[across] + widest
    along_b = along_a + size_a[across] + gap if a_first else along_a - gap - size_b[across]
    beside_a, beside_b = (side - size_a[1 - across]) // 2, (side - size_b[1 - across]) // 2
    if across == 0:
        return Box(along_a, beside_a, *size_a), Box(along_b, beside_b, *size_b)
    return Box(beside_a, along_a, *size_a), Box(beside_b, along_b, *size_b)


def room_beside(box_a: Box, *, gap: int, direction: str, side: int) -> int:
    """Return how many px are left between A (and the gap) and the canvas' edge in `direction`."""
    near_edge, length = (box_a.left, box_a.width) if direction in ("right", "left") else (box_a.top, box_a.height)
    return (side - near_edge - length if direction in ("right", "below") else near_edge) - gap


def place_instead(box_a: Box, size: tuple[int, int], *, gap: int, direction: str, side: int) -> Box:
    """Return the box of an object of `size` that takes B's place beside A.

    Where rounding to px leaves less room than the object needs, the box is made that px or two shorter.

    Raises:
        ArgumentError: there is far less room.
    """
    across = 0 if direction in ("right", "left") else 1
    room = room_beside(box_a, gap=gap, direction=direction, side=side)
    if size[across] - room > ROUNDING_PX * max(1, -(-side // UNITS)):
        raise ArgumentError(
            f"gap or object_size leaves {room} px beside A for a control object of {size[across]} px; these pairs were "
            "drawn for smaller ones: draw them anew with a `widest_gap`, or leave out the control: `control=False`."
        )
    width, height = (min(size[0], room), size[1]) if across == 0 else (size[0], min(size[1], room))
    if across == 0:
        left = box_a.left + box_a.width + gap if direction == "right" else box_a.left - gap - width
        return Box(left, (side - height) // 2, width, height)
    top = box_a.top + box_a.height + gap if direction == "below" else box_a.top - gap - height
    return Box((side - width) // 2, top, width, height)


def place_in_slots(
    size_a: tuple[int, int], size_b: tuple[int, int], *, gap: int, direction: str, side: int
) -> tuple[Box, Box]:
    """Return the boxes of A and B in fixed slots: `gap` in the canvas' middle, an object at either side of it.

    Where an object stands does not depend on what stands beside it, so that it need be shown alone only once.

    >>> place_in_slots((80, 80), (60, 40), gap=16, direction="right", side=224)
    (Box(left=24, top=72, width=80, height=80), Box(left=120, top=92, width=60, height=40))
    """
    across = 0 if direction in ("right", "left") else 1
    near = (side - gap) // 2
    a_first = direction in ("right", "below")

    def box(size: tuple[int, int], first: bool) -> Box:
        along = near - size[across] if first else near + gap
        beside = (side - size[1 - across]) // 2
        return Box(along, beside, *size) if across == 0 else Box(beside, along, *size)

    return box(size_a, a_first), box(size_b, not a_first)


def draw_pairs(
    objects: Objects, photos: Sequence[int], spec: ProbeSpec, *, seed: int, count: int
) -> tuple[ObjectPair, ...]:
    """Draw `count` probes; probe n depends on (seed, n) and on the objects alone.

    Each four probes from number 0, 4, 8, ... on have the four directions once: what a network does with B below is not
    what it does with B to the right, and no draw is to weigh one of them more.

    Args:
        objects: the eligible ones.
        photos: ids of all photos, for `canvas="image"`.
        spec: the probes' look.
        seed: of the whole set.
        count: how many.

    Raises:
        DataError: the objects do not give such pairs; the sentence names the option that would.
    """
    check_range("probes", count, 1)
    pool = _Pool(objects, photos, spec)
    stream = Stream(seed).child("probe")
    return tuple(pool.pair(number, stream.child(number), _direction(seed, number)) for number in range(count))


def _direction(seed: int, number: int) -> str:
    """Return where B stands in a probe: its place in an order of the four directions drawn anew for each four."""
    block, at = divmod(number, len(DIRECTIONS))
    stream = Stream(seed).child("directions", block)
    order = sorted(DIRECTIONS, key=lambda direction: stream.child(direction).below(2**62))
    return order[at]


class _Pool:
    """The eligible objects as arrays, so that partners are found without a loop over all of them."""

    def __init__(self, objects: Objects, photos: Sequence[int], spec: ProbeSpec):
        self.spec = spec
        self.photos = np.array(sorted(photos), dtype=np.int64)
        self.ids = objects.ids
        self.images = objects.image_ids
        self.categories = objects.categories
        # As `scaled_size`, for all objects at once.
        sides = np.maximum(np.round(objects.extents), 1).astype(np.int64)
        edges = sides.max(axis=1, keepdims=True, initial=1)
        self.extents = np.maximum((2 * sides * spec.object_size + edges) // (2 * edges), 1)
        # Area of each mask as it is drawn, units^2.
        self.areas = objects.areas * (spec.object_size / edges[:, 0]) ** 2

    def pair(self, number: int, stream: Stream, direction: str) -> ObjectPair:
        lacking = "partner"
        for attempt in range(ATTEMPTS if len(self.ids) else 0):
            draw = stream.child("attempt", attempt)
            a = draw.child("a").below(len(self.ids))
            b = self._choose(self._partners(a), draw.child("b"))
            if b is None:
                continue
            c = self._choose(self._controls(a, b, direction), draw.child("c")) if self.spec.control else None
            if self.spec.control and c is None:
                lacking = "control"
                continue
            backdrop = self._backdrop([a, b] if c is None else [a, b, c], draw.child("backdrop"))
            return ObjectPair(
                number,
                int(self.ids[a]),
                int(self.ids[b]),
                None if c is None else int(self.ids[c]),
                direction,
                backdrop,
            )
        raise DataError(self._why_none(lacking))

    def _choose(self, among: NDArray[np.bool_], stream: Stream) -> int | None:
        candidates = np.flatnonzero(among)
        return int(candidates[stream.below(candidates.size)]) if candidates.size else None

    def _partners(self, a: int) -> NDArray[np.bool_]:
        elsewhere: NDArray[np.bool_] = self.images != self.images[a]
        if self.spec.pairing == "any":
            return elsewhere
        alike: NDArray[np.bool_] = self.categories == self.categories[a]
        return elsewhere & (alike if self.spec.pairing == "same" else ~alike)

    def _controls(self, a: int, b: int, direction: str) -> NDArray[np.bool_]:
        """Return who may take B's place: another photo, another category than B's (and than A's, if any), whole.

        Of those, who has B's area within `AREA_FACTOR`; where nobody has, who comes nearest to it.
        """
        elsewhere = (self.images != self.images[a]) & (self.images != self.images[b])
        room = elsewhere & (self.categories != self.categories[b]) & self._fits_beside(a, b, direction)
        strangers: NDArray[np.bool_] = room & (self.categories != self.categories[a])
        among = strangers if strangers.any() else room
        apart = np.abs(np.log(self.areas / self.areas[b]))
        alike: NDArray[np.bool_] = among & (apart <= math.log(AREA_FACTOR))
        if alike.any() or not among.any():
            return alike
        nearest: NDArray[np.bool_] = among & (apart == apart[among].min())
        return nearest

    def _fits_beside(self, a: int, b: int, direction: str) -> NDArray[np.bool_]:
        gap = self.spec.reach
        sizes = [(int(self.extents[one, 0]), int(self.extents[one, 1])) for one in (a, b)]
        box_a, _ = place(*sizes, gap=gap, direction=direction, side=UNITS)
        room = room_beside(box_a, gap=gap, direction=direction, side=UNITS)
        fits: NDArray[np.bool_] = self.extents[:, 0 if direction in ("right", "left") else 1] <= room
        return fits

    def _backdrop(self, members: list[int], stream: Stream) -> int | None:
        if self.spec.canvas != "image":
            return None
        others = self.photos[~np.isin(self.photos, self.images[members])]
        if not others.size:
            raise DataError("canvas 'image' needs a photo besides those of the objects, and there is none.")
        return int(others[stream.below(others.size)])

    def _why_none(self, lacking: str) -> str:
        photos, kinds = len(np.unique(self.images)), len(np.unique(self.categories))
        objects = counted(len(self.ids), "eligible object")
        have = f"{objects} of {counted(kinds, 'category', 'categories')} in {counted(photos, 'photo')}"
        if lacking == "control":
            return (
                f"{have} leave no third object for the control (another photo and category, and whole on the canvas): "
                "`control=False` measures without it, a smaller `object_size` or `gap` leaves more room."
            )
        return (
            f"{have} give no pair with pairing {self.spec.pairing} from two photos; try `pairing=any`, or more photos."
        )
