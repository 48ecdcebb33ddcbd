"""A spec and pairs in, batches of probe images out: lazy, rendered on the device, the same probes everywhere."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.coco import CocoIndex, Eligibility, read_instances
from ..data.cutouts import CACHE_BYTES, CutoutStore
from ..errors import ArgumentError, DataError
from .backgrounds import GRAY, Canvas
from .compositing import Easel, Levels
from .drawing import bare_manifest, draw
from .fingerprint import joined_digest, keep_digests, kept_digests
from .manifest import Manifest, object_check, read_manifest
from .rendering import Renderer
from .shared_images import SharedImages
from .spec import UNITS, ObjectPair, ProbeSpec
from .sprite_pack import PACK_BYTES, Recipe, SpritePack, open_pack
from .sprites import CutSprites, wanted_sprites
from .triplet import Probe

__all__ = ["GRAY", "ProbeSet"]

RGB = tuple[float, float, float]


class ProbeSet:
    """N probes: which objects, which places, and how they are drawn. Nothing is decoded until it is asked for.

    Args:
        spec: the probes' look.
        pairs: the objects of each probe.
        index: the annotations they come from.
        images: where the photos are: a folder, a zip or a tar.
        seed: of the draws that rendering needs (noise, hidden tiles).
        cache_bytes: bound of the cutouts kept decoded, in bytes.
        pack_bytes: bound of the sprites of all probe sets that are kept in the cache folder; 0 keeps none.
        name: what reports call the set.

    Raises:
        DataError: a photo that is needed is missing.
    """

    def __init__(
        self,
        spec: ProbeSpec,
        pairs: Sequence[ObjectPair],
        index: CocoIndex,
        images: str | Path,
        *,
        seed: int,
        cache_bytes: int = CACHE_BYTES,
        pack_bytes: int = PACK_BYTES,
        name: str = "drawn",
    ):
        self.spec = spec
        self.pairs = tuple(pairs)
        self.index = index
        self.seed = seed
        self.name = name
        self.promised: str | None = None
        self.drawn_gap = spec.reach
        self.pack_bytes = pack_bytes
        # Shared by all looks of these pairs.
        self._packs: dict[tuple[ProbeSpec, tuple[int, int]], SpritePack | None] = {}
        self._distances: defaultdict[tuple[ProbeSpec, tuple[int, int]], dict[int, float]] = defaultdict(dict)
        self._digests: dict[int, bytes] = {}
        self._manifest: Manifest | None = None
        wanted = [key for pair in self.pairs for key in pair.members()]
        self.store = CutoutStore(index, images, wanted=wanted, cache_bytes=cache_bytes)
        backdrops = [pair.backdrop for pair in self.pairs if pair.backdrop is not None]
        self.store.check_photos([*(index.image_of(key) for key in wanted), *backdrops])

    @classmethod
    def from_coco(
        cls,
        annotations: str | Path,
        images: str | Path,
        *,
        count: int = 500,
        seed: int = 0,
        spec: ProbeSpec = ProbeSpec(),  # noqa: B008 - frozen
        eligibility: Eligibility = Eligibility(),  # noqa: B008 - frozen
        cache_bytes: int = CACHE_BYTES,
        pack_bytes: int = PACK_BYTES,
    ) -> ProbeSet:
        """Draw `count` probes from an instances JSON.

        Probe n depends on the seed, on n and on the file alone: the first 10 of 10,000 are the same as those of 10.

        Raises:
            DataError: the file or a photo cannot be used, or fewer than two objects are eligible.
        """
        index, settled, pairs = draw(annotations, eligibility, spec, seed=seed, count=count)
        return cls(settled, pairs, index, images, seed=seed, cache_bytes=cache_bytes, pack_bytes=pack_bytes)

    @classmethod
    def from_manifest(cls, manifest: str | Path | Manifest, annotations: str | Path, images: str | Path) -> ProbeSet:
        """Return the probes of a manifest, exactly; `fingerprint` holds their pictures against the manifest's.

        Raises:
            DataError: the manifest cannot be read, or the annotations have not all of its objects, unchanged.
        """
        told = manifest if isinstance(manifest, Manifest) else read_manifest(Path(manifest))
        index = read_instances(annotations, told.eligibility)
        told.check_objects(index)
        found = cls(told.spec, told.pairs, index, images, seed=told.seed, name=told.name)
        found.promised, found.drawn_gap = told.fingerprint, told.drawn_gap
        return found

    def vary(self, **changes: Any) -> ProbeSet:
        """Return the same pairs with another look: fields of `ProbeSpec`. Photos and cutouts are shared.

        Raises:
            ArgumentError: the look cannot be had (see `ProbeSpec`), or needs other pairs.
        """
        spec = replace(self.spec, **changes)
        if spec.design == "auto":
            spec = replace(spec, design=self.spec.design)
        if spec.design != self.spec.design:
            raise ArgumentError(f"design of these pairs is {self.spec.design}; draw others for a {spec.design} design.")
        if spec.control and not self.spec.control:
            raise ArgumentError("control needs pairs that were drawn with a third object.")
        if spec.canvas == "image" and any(pair.backdrop is None for pair in self.pairs):
            raise ArgumentError(
                "canvas 'image' needs pairs that were drawn with a photo behind them; draw them with `canvas=image`."
            )
        other = copy(self)
        other.spec, other.promised, other._digests, other._manifest = spec, None, {}, None
        other.__dict__.pop("source_images", None)
        return other

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Probe:
        """Return one probe without a batch axis, 224 x 224 px, on the gray canvas where the spec says `mean`."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"probe {number} of a set of {len(self)}")
        batch = self.render([number % len(self)])
        return Probe(batch.images[:, 0], batch.masks[:, 0], batch.distance_px[0])

    def render(
        self,
        numbers: Sequence[int],
        *,
        size: int | tuple[int, int] = UNITS,
        mean: RGB = GRAY,
        std: RGB | None = None,
        device: torch.device | str = "cpu",
        easel: Easel | None = None,
    ) -> Probe:
        """Draw some probes as one batch.

        Args:
            numbers: places in `pairs`.
            size: of the canvas, px: one side, or (height, width). The picture is the same at any, only larger; a canvas
                that is no square has it in its middle, in units of 1/224 of the shorter side.
            mean: colour of the canvas where the spec says `mean`, sRGB in [0, 1].
            std: where it is given, images come as a network's normalisation by `mean` and `std` makes them, bit for
                bit; else in [0, 1].
            device: where the pixels are put together.
            easel: memory for the images, which the next batch on it will overwrite; each has its own by default.
        """
        canvas = _canvas(size, mean, std, device)
        return self._renderer(canvas.size).render([self.pairs[number] for number in numbers], canvas, easel)

    def shared(
        self,
        numbers: Sequence[int],
        *,
        size: tuple[int, int],
        mean: RGB,
        std: RGB | None,
        device: torch.device,
        easel: Easel | None = None,
    ) -> SharedImages:
        """Draw some rows of rings, each image that they share once; arguments as in `render`."""
        canvas = _canvas(size, mean, std, device)
        rows = [self.pairs[number] for number in numbers]
        return self._renderer(canvas.size).shared(rows, self.pairs, canvas, easel)

    def batches(
        self,
        count: int,
        *,
        size: int | tuple[int, int] = UNITS,
        mean: RGB = GRAY,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[range, Probe]]:
        """Yield (numbers, probes) of at most `count` probes at a time, in order; other arguments as in `render`."""
        for start in range(0, len(self), count):
            numbers = range(start, min(start + count, len(self)))
            yield numbers, self.render(numbers, size=size, mean=mean, device=device)

    def prepare(self, size: int | tuple[int, int] = UNITS, *, progress: bool = False) -> bool:
        """Let all sprites be at hand that a canvas of `size` px needs: from the cache folder, or cut out now.

        It saves every later `render` at this size, in this and other processes, the photos. Nothing depends on it.

        Returns:
            Whether they are; not where they would be more than `pack_bytes`, or the cache folder cannot be written.

        Raises:
            DataError: a photo cannot be used.
        """
        canvas = (size, size) if isinstance(size, int) else size
        if (self.spec, canvas) not in self._packs:
            recipe = self._recipe(canvas)
            self._packs[self.spec, canvas] = open_pack(recipe, most_bytes=self.pack_bytes, progress=progress)
        return self._packs[self.spec, canvas] is not None

    def pack_size(self, size: int | tuple[int, int] = UNITS) -> int:
        """Return how many bytes the sprites of a canvas of `size` px take, kept or not."""
        return self._recipe((size, size) if isinstance(size, int) else size).bytes()

    def _recipe(self, canvas: tuple[int, int]) -> Recipe:
        return Recipe(self._cutting(canvas), *wanted_sprites(self.pairs, self.spec, self._sides, canvas))

    def _cutting(self, canvas: tuple[int, int]) -> CutSprites:
        return CutSprites(self.store, self.spec, self.seed, min(canvas))

    def _renderer(self, size: tuple[int, int]) -> Renderer:
        source = self._packs.get((self.spec, size)) or self._cutting(size)
        return Renderer(self.spec, self.seed, source, self._sides, self._distances[self.spec, size])

    def _sides(self, annotation_id: int) -> tuple[int, int]:
        record = self.store.record(annotation_id)
        return record.width, record.height

    @cached_property
    def source_images(self) -> NDArray[np.int64]:
        """Ids of the photos which A, B (and C) of each probe come from: int64 (N, 2 or 3)."""
        columns = 3 if self.spec.control else 2
        return np.array(
            [[self.index.image_of(key) for key in pair.members()[:columns]] for pair in self.pairs],
            dtype=np.int64,
        )

    def categories(self, number: int) -> tuple[str, ...]:
        """Return the names of the categories of A, B (and C)."""
        return tuple(self.index.category_of(key) for key in self.pairs[number].members())

    def area_match(self, number: int) -> float:
        """Return C's area over B's as they are drawn, before any rounding to px; NaN without a control."""
        pair = self.pairs[number]
        if not self.spec.control or pair.annotation_c is None:
            return float("nan")
        b, c = (self.store.record(key) for key in (pair.annotation_b, pair.annotation_c))
        shares = [record.area / max(record.width, record.height) ** 2 for record in (b, c)]
        return shares[1] / shares[0]

    def manifest(self) -> Manifest:
        """Return which objects and which pairs these are, the rules that chose them, and the fingerprint."""
        return replace(self.checked(), name=self.name, fingerprint=self.fingerprint())

    def checked(self) -> Manifest:
        """Return the manifest without a fingerprint: no photo is read for it."""
        if self._manifest is None:
            checks = {key: object_check(self.store.record(key)) for pair in self.pairs for key in pair.members()}
            self._manifest = bare_manifest(
                self.name, self.index, self.pairs, checks, self.spec, seed=self.seed, drawn_gap=self.drawn_gap
            )
        return self._manifest

    def photos_stamp(self) -> str:
        """Return a hash of the sizes and times of the photos' files, which changes when one is written anew."""
        stamps = [(name, *self.store.photos.stamp(name)) for name in self._photos()]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()

    def _photos(self) -> list[str]:
        ids = {self.index.image_of(key) for pair in self.pairs for key in pair.members()}
        ids |= {pair.backdrop for pair in self.pairs if pair.backdrop is not None}
        return sorted(self.index.images[image_id].file_name for image_id in ids)

    def fingerprint(self, *, progress: bool = False) -> str:
        """Return the SHA-256 over the `digests` of all probes, in order: equal ones mean equal pictures.

        All photos were decoded for it, so that a broken one shows before the first forward pass. It is computed once.

        Args:
            progress: whether to show a bar.

        Raises:
            DataError: a photo is broken, or these are not the pictures that the manifest promises.
        """
        self.recall_digests()
        known = len(self._digests) == len(self)
        found = joined_digest(self.digests(range(len(self)), progress=progress))
        if not known:
            self.keep_digests()
        if self.promised not in (None, found):
            raise DataError(
                f"the probe set {self.name} comes out as other pictures here than its manifest promises (fingerprint "
                f"{found[:12]}, not {str(self.promised)[:12]}): `images` are not the photos that it was made with, or "
                "were encoded anew."
            )
        return found

    def digests(self, numbers: Iterable[int], *, progress: bool = False) -> list[bytes]:
        """Return the SHA-256 of some probes as they are drawn (8-bit images and masks, gray canvas, 224 px).

        Where the canvas is `image`, the photo behind the objects is part of it.
        """
        wanted = list(numbers)
        lacking = [number for number in wanted if number not in self._digests]
        if lacking:
            self.prepare(progress=progress)
        renderer = self._renderer((UNITS, UNITS))
        for number in tqdm(lacking, desc="checking probes", unit="probe", disable=not (progress and lacking)):
            self._digests[number] = renderer.digest(self.pairs[number])
        return [self._digests[number] for number in wanted]

    def know_digests(self, digests: Sequence[bytes]) -> None:
        """Take over the digests of all probes, which other processes worked out."""
        self._digests = dict(enumerate(digests))

    def recall_digests(self) -> list[bytes] | None:
        """Take over and return the digests that an earlier run kept of these pictures; None where none did."""
        if len(self._digests) < len(self):
            found = kept_digests(self._digests_key(), len(self)) if self.pack_bytes else None
            if found is None:
                return None
            self.know_digests(found)
        return [self._digests[number] for number in range(len(self))]

    def keep_digests(self) -> None:
        """Keep the digests of all probes for the next run."""
        if self.pack_bytes:
            keep_digests(self._digests_key(), [self._digests[number] for number in range(len(self))])

    def _digests_key(self) -> str:
        canvas = (UNITS, UNITS)
        # Of the photos as they were when they were cut, if they were.
        pack = self._packs.get((self.spec, canvas))
        parts = (pack.key if pack else self._recipe(canvas).key(), self.checked().identity())
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def _canvas(size: int | tuple[int, int], mean: RGB, std: RGB | None, device: torch.device | str) -> Canvas:
    height_width = (size, size) if isinstance(size, int) else size
    return Canvas(height_width, mean, Levels() if std is None else Levels(mean, std), torch.device(device))
