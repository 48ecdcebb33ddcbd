"""Rows of a ring in, each image that they share once out, and which row shows what in which image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .compositing import DrawnSprites
from .spec import ObjectPair, ProbeSpec
from .sprites import PlacedSprite, SpriteSource
from .triplet import ROLES

__all__ = ["SharedImages", "ShownIn", "shared_sprites"]

# An object of a ring in its slot: the ring, the annotation, and whether the slot is the first one.
_Member = tuple[int, int, bool]


@dataclass(frozen=True)
class ShownIn:
    """Which of the images and masks of a batch belong to which row.

    Attributes:
        images: role -> place of its image, one per row.
        masks: places of the masks of A, of B and of C, one per row each.
        scenes: of each image the number of the probe whose canvas it has.
    """

    images: dict[str, list[int]]
    masks: tuple[list[int], list[int], list[int]]
    scenes: list[int]


@dataclass(frozen=True)
class SharedImages:
    """The images of some rows of rings, each once.

    Attributes:
        images: float32 (K, 3, H, W), as a network takes them.
        masks: bool (S, H, W), of each object in its slot.
        shown: which row shows what.
        distance_px: of A and B, float64 (n,).
    """

    images: Tensor
    masks: Tensor
    shown: ShownIn
    distance_px: Tensor

    def of_role(self, role: str, maps: Tensor) -> Tensor:
        """Return the maps (n, D, h, w) of the image of each row, of maps (K, D, h, w) of all."""
        places = torch.tensor(self.shown.images[role]).to(maps.device, non_blocking=True)
        return maps.index_select(0, places)

    def row_masks(self) -> Tensor:
        """Return the masks of A, B and C of each row, bool (3, n, H, W)."""
        places = torch.tensor(self.shown.masks).to(self.masks.device, non_blocking=True)
        return self.masks.index_select(0, places.flatten()).view(*places.shape, *self.masks.shape[1:])


def shared_sprites(
    pairs: Sequence[ObjectPair],
    spec: ProbeSpec,
    source: SpriteSource,
    placed: Callable[[ObjectPair], list[PlacedSprite]],
    size: tuple[int, int],
) -> tuple[DrawnSprites, ShownIn]:
    """Return the objects of some rows, each once, and the images that show one or two of them, each once.

    Args:
        pairs: the rows.
        spec: their look.
        source: of sprites.
        placed: a row in, A, B and C with their places out.
        size: of the canvas, px.
    """
    members: dict[_Member, tuple[int, PlacedSprite]] = {}
    images: dict[frozenset[_Member], int] = {}
    rows: dict[str, list[int]] = {role: [] for role in ROLES}
    of_rows: tuple[list[int], list[int], list[int]] = ([], [], [])

    def image_of(*who: _Member) -> int:
        return images.setdefault(frozenset(who), len(images))

    for pair in pairs:
        first = pair.direction in ("right", "below")
        own = [
            (spec.scene(pair.number), key, first == (role == 0)) for role, key in enumerate(pair.members())
        ]  # A stands in one slot, B and C in the other
        for member, item, places in zip(own, placed(pair), of_rows, strict=True):
            places.append(members.setdefault(member, (len(members), item))[0])
        a, b, c = own
        for role, together in zip(ROLES, ((a,), (a, b), (b,), (a, c)), strict=True):
            rows[role].append(image_of(*together))
    into: list[list[int]] = [[] for _ in members]
    scenes = [0] * len(images)
    for who, image in images.items():
        for member in who:
            into[members[member][0]].append(image)
            scenes[image] = member[0]
    items = [item for _, item in members.values()]
    drawn = DrawnSprites(items, [source.sprite(item.sprite) for item in items], into, len(images), size)
    return drawn, ShownIn(rows, of_rows, scenes)
