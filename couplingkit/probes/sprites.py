"""Pairs and a look in, the sprites of their probes out: objects cut, resized and masked as they are drawn, with boxes.

A sprite is all that a picture shows of an object: uint8 RGBA of its box, 255 in the fourth channel where the object is
visible, and 0 in all four channels where it is not. Where sprites come from, a source knows: `CutSprites` cuts them out
of photos when they are asked for, a `SpritePack` has all of them in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.cutouts import CutoutStore, ObjectCutout, cut_object, photo_canvas, resize_cutout
from ..streams import Stream
from .hiding import hide_tiles, tiles_at
from .placement import Box, place, place_in_slots, place_instead, scaled_size, to_px
from .spec import ObjectPair, ProbeSpec

__all__ = [
    "Backdrop",
    "CutSprites",
    "PlacedSprite",
    "Sides",
    "Sprite",
    "SpriteSource",
    "backdrop_of",
    "placed_sprites",
    "wanted_sprites",
]

Pixels = NDArray[np.uint8]
Sides = Callable[[int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Sprite:
    """An object as it is drawn.

    Attributes:
        annotation_id: of the object.
        width, height: of its box, px.
        hidden: number of the probe whose tiles are hidden in it; -1 where the whole object is visible.
    """

    annotation_id: int
    width: int
    height: int
    hidden: int = -1


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The middle of a photo behind the objects: `width` x `height` px."""

    image_id: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PlacedSprite:
    """A sprite, and the box of the canvas that it fills."""

    sprite: Sprite
    box: Box


class SpriteSource(Protocol):
    """Where the pixels of sprites come from."""

    def sprite(self, sprite: Sprite) -> Pixels:
        """Return uint8 (h, w, 4): colours, and 255 where the object is visible; 0 where it is not."""
        ...

    def backdrop(self, backdrop: Backdrop) -> Pixels:
        """Return uint8 (h, w, 3)."""
        ...


def placed_sprites(pair: ObjectPair, spec: ProbeSpec, sides: Sides, size: tuple[int, int]) -> list[PlacedSprite]:
    """Return A, B (and C) of a probe with their places on a canvas; no photo is read for it.

    Args:
        pair: the objects.
        spec: the look.
        sides: annotation id -> width and height of the object's mask in its photo, px.
        size: height and width of the canvas, px; one that is no square has the picture in its middle.

    Raises:
        ArgumentError: a third object does not fit beside A (see `place_instead`).
    """
    side = min(size)
    members = pair.members() if spec.control else pair.members()[:2]
    longer, gap, room = (to_px(units, side) for units in (spec.object_size, spec.gap, spec.reach))
    sizes = [scaled_size(*sides(key), longer) for key in members]
    if spec.design == "ring":
        slots = [place_in_slots(sizes[0], own, gap=gap, direction=pair.direction, side=side) for own in sizes[1:]]
        boxes = [slots[0][0], *(slot[1] for slot in slots)]
    else:
        boxes = list(place(sizes[0], sizes[1], gap=gap, direction=pair.direction, side=side, room=room))
    if spec.control and spec.design == "pairs":
        boxes.append(place_instead(boxes[0], sizes[2], gap=gap, direction=pair.direction, side=side))
    top, left = ((length - side) // 2 for length in size)
    return [
        PlacedSprite(
            Sprite(key, box.width, box.height, pair.number if spec.visible < 1 and role == 0 else -1),
            replace(box, left=box.left + left, top=box.top + top),
        )
        for role, (key, box) in enumerate(zip(members, boxes, strict=True))
    ]


def backdrop_of(pair: ObjectPair, spec: ProbeSpec, size: tuple[int, int]) -> Backdrop | None:
    """Return the photo behind a probe's objects; None where its look has none."""
    if spec.canvas != "image" or pair.backdrop is None:
        return None
    return Backdrop(pair.backdrop, size[1], size[0])


@dataclass(frozen=True)
class CutSprites:
    """Sprites cut out of photos when they are asked for.

    Attributes:
        store: of cutouts and photos.
        spec: the look: how large objects are, and how much of A is visible.
        seed: of the draws that hide tiles.
        side: of the canvas' square, px.
    """

    store: CutoutStore
    spec: ProbeSpec
    seed: int
    side: int

    def sprite(self, sprite: Sprite) -> Pixels:
        """Return uint8 (h, w, 4); errors as in `CutoutStore.cutout`."""
        return self._drawn(self.store.cutout(sprite.annotation_id), sprite)

    def of_photo(self, image_id: int, wanted: Sequence[Sprite | Backdrop]) -> list[Pixels]:
        """Return what is wanted of one photo, which is decoded once; errors as in `read_photo`."""
        photo = self.store.photo(image_id)
        return [
            photo_canvas(photo, (item.height, item.width))
            if isinstance(item, Backdrop)
            else self._drawn(cut_object(photo, self.store.record(item.annotation_id)), item)
            for item in wanted
        ]

    def _drawn(self, whole: ObjectCutout, sprite: Sprite) -> Pixels:
        fitted = resize_cutout(whole, sprite.width, sprite.height)
        mask = fitted.mask
        if sprite.hidden >= 0:
            mask = mask & self._visible(whole, sprite)
        rgba = np.empty((sprite.height, sprite.width, 4), dtype=np.uint8)
        rgba[..., :3] = fitted.rgb * mask[..., None]
        rgba[..., 3] = mask * np.uint8(255)
        return rgba

    def backdrop(self, backdrop: Backdrop) -> Pixels:
        """Return uint8 (h, w, 3); errors as in `read_photo`."""
        return photo_canvas(self.store.photo(backdrop.image_id), (backdrop.height, backdrop.width))

    def _visible(self, whole: ObjectCutout, sprite: Sprite) -> NDArray[np.bool_]:
        # Decided at 224 px, so that the same tiles go at every resolution.
        size = scaled_size(whole.rgb.shape[1], whole.rgb.shape[0], self.spec.object_size)
        stream = Stream(self.seed).child("probe", sprite.hidden, "visible")
        keep = hide_tiles(resize_cutout(whole, *size).mask, self.spec.visible, stream)
        return tiles_at(keep, sprite.height, sprite.width, self.side)


def wanted_sprites(
    pairs: Sequence[ObjectPair], spec: ProbeSpec, sides: Sides, size: tuple[int, int]
) -> tuple[list[Sprite], list[Backdrop]]:
    """Return what all probes of a set show, each once."""
    sprites = {placed.sprite: None for pair in pairs for placed in placed_sprites(pair, spec, sides, size)}
    behind = {backdrop: None for pair in pairs if (backdrop := backdrop_of(pair, spec, size)) is not None}
    return list(sprites), list(behind)
