"""Pairs and a source of sprites in, batches of probe images out: pair by pair, or rows of rings that share images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .backgrounds import Canvas, background
from .compositing import DrawnSprites, Easel, compose
from .fingerprint import picture_digest
from .shared_images import SharedImages, shared_sprites
from .spec import UNITS, ObjectPair, ProbeSpec
from .sprites import PlacedSprite, Sides, SpriteSource, backdrop_of, placed_sprites
from .triplet import SHOWN, Probe

__all__ = ["Renderer"]


@dataclass(frozen=True)
class Renderer:
    """Draws probes of one look.

    Attributes:
        spec: the look.
        seed: of noise.
        source: of sprites, at the size that is drawn.
        sides: annotation id -> width and height of an object in its photo, px.
        distances: what is known of the distances of this look at this size, by the number of a pair; it is added to.
    """

    spec: ProbeSpec
    seed: int
    source: SpriteSource
    sides: Sides
    distances: dict[int, float] = field(default_factory=dict)

    def render(self, pairs: Sequence[ObjectPair], canvas: Canvas, easel: Easel | None = None) -> Probe:
        """Return pairs as one batch; `easel` is memory for the images (see `Easel`)."""
        drawn = self._drawn(pairs, canvas.size)
        behind = background(pairs, self.spec, self.source, canvas, seed=self.seed)
        images, masks = compose(drawn, behind, canvas.levels, easel=easel)
        count, roles = len(pairs), len(drawn.placed) // max(1, len(pairs))
        apart = [self._distance(drawn, row, count + row, pair) for row, pair in enumerate(pairs)]
        return Probe(
            images.view(roles + 1, count, *images.shape[1:]),
            masks.view(roles, count, *masks.shape[1:]),
            torch.tensor(apart, dtype=torch.float64),
        )

    def shared(
        self, pairs: Sequence[ObjectPair], every: Sequence[ObjectPair], canvas: Canvas, easel: Easel | None = None
    ) -> SharedImages:
        """Return rows of rings, each image that they share once; `every` are all rows of the set, by their numbers."""
        drawn, shown = shared_sprites(
            pairs, self.spec, self.source, lambda pair: self._placed(pair, canvas.size), canvas.size
        )
        # A canvas of each image, where they are not all of one colour.
        scenes = [every[scene] for scene in shown.scenes]
        behind = background(scenes, self.spec, self.source, canvas, seed=self.seed)
        images, masks = compose(drawn, behind, canvas.levels, easel=easel)
        apart = [self._distance(drawn, a, b, pair) for a, b, pair in zip(*shown.masks[:2], pairs, strict=True)]
        return SharedImages(images, masks, shown, torch.tensor(apart, dtype=torch.float64))

    def digest(self, pair: ObjectPair) -> bytes:
        """Return the digest of a probe's pictures; the source must be of 224 px."""
        size = (UNITS, UNITS)
        behind = backdrop_of(pair, self.spec, size)
        return picture_digest(self._drawn([pair], size), None if behind is None else self.source.backdrop(behind))

    def _distance(self, drawn: DrawnSprites, a: int, b: int, pair: ObjectPair) -> float:
        # The same for every network of this input size.
        if pair.number not in self.distances:
            self.distances[pair.number] = drawn.distance(a, b, pair.direction)
        return self.distances[pair.number]

    def _placed(self, pair: ObjectPair, size: tuple[int, int]) -> list[PlacedSprite]:
        return placed_sprites(pair, self.spec, self.sides, size)

    def _drawn(self, pairs: Sequence[ObjectPair], size: tuple[int, int]) -> DrawnSprites:
        """Return A of each pair, then B of each (and C), in the images of `ROLES`, one role after another."""
        placed = [self._placed(pair, size) for pair in pairs]
        roles = 3 if self.spec.control else 2
        by_role = [objects[role] for role in range(roles) for objects in placed]
        into = [
            [image * len(pairs) + row for image in SHOWN[role] if image <= roles]
            for role in range(roles)
            for row in range(len(pairs))
        ]
        pixels = [self.source.sprite(item.sprite) for item in by_role]
        return DrawnSprites(by_role, pixels, into, (roles + 1) * len(pairs), size)
