"""A spec and pairs in, batches of probe images out: lazy, rendered on the device, the same probes everywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.coco import CocoIndex, Eligibility, read_instances
from ..data.contact_sheets import sheet_html
from ..data.cutouts import CACHE_BYTES, CutoutStore
from ..data.masked_photos import MaskValues
from ..data.own_photos import dataset_items, keep_items, keep_masked_photos, names_of_dataset
from ..errors import ArgumentError
from ..html_text import table_html
from ..signatures import taking
from .backgrounds import GRAY, Canvas
from .checked_pictures import CheckedPictures
from .compositing import Easel, Levels
from .drawing import draw
from .manifest import Manifest, read_manifest
from .rendering import Renderer
from .shared_images import SharedImages
from .spec import UNITS, ObjectPair, ProbeSpec
from .sprite_pack import PACK_BYTES, Recipe, SpritePack, open_pack
from .sprites import CutSprites, wanted_sprites
from .triplet import Probe

__all__ = ["GRAY", "ProbeSet"]

RGB = tuple[float, float, float]
# On the contact sheet that a notebook shows.
SHOWN_PROBES = 4


@dataclass(frozen=True)
class Drawing:
    """What `ProbeSet.from_coco` takes besides the data."""

    count: int = 500
    seed: int = 0
    spec: ProbeSpec = ProbeSpec()  # noqa: RUF009 - frozen
    eligibility: Eligibility = Eligibility()  # noqa: RUF009 - frozen
    cache_bytes: int = CACHE_BYTES
    pack_bytes: int = PACK_BYTES


class ProbeSet(CheckedPictures):
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
    @taking(Drawing)
    def from_masks(
        cls,
        images: Iterable[Any],
        masks: Iterable[Any],
        categories: Iterable[Any] | None = None,
        *,
        values: MaskValues = "objects",
        folder: str | Path | None = None,
        **drawing: Any,
    ) -> ProbeSet:
        """Draw probes from photos and masks of a program; rows, manifests and intervals are those of a COCO file.

        They are written as PNGs and an instances JSON, which other processes and later runs read: to the cache folder,
        or to `folder`.

        Args:
            images: of each photo a path, a PIL image, an array uint8 (H, W, 3), or a tensor (3, H, W) within [0, 1].
            masks: of each photo its objects: bool (K, H, W), a list of masks (bool (H, W), RLE, polygons), or a label
                map, whole numbers (H, W) with 0 for none.
            categories: of each photo the names of its objects; by default nobody knows what they are, and a probe may
                show any two of them.
            values: whether the numbers of a label map are `objects`, or `classes` whose connected parts are objects.
            folder: where the photos and masks are written to.
            drawing: `count`, `seed`, `spec`, `eligibility`, ... as in `from_coco`.

        Raises:
            DataError: a photo or a mask is none, or they are of different sizes.
        """
        kept = keep_masked_photos(images, masks, categories, values=values, folder=folder)
        return cls.from_coco(*kept, **drawing)

    @classmethod
    @taking(Drawing)
    def from_dataset(
        cls,
        dataset: Any,
        *,
        image: int | str | None = None,
        masks: int | str | None = None,
        names: Mapping[int, str] | None = None,
        values: MaskValues = "classes",
        folder: str | Path | None = None,
        **drawing: Any,
    ) -> ProbeSet:
        """Draw probes from a dataset of torchvision (CocoDetection, VOCSegmentation, OxfordIIITPet), of Hugging Face,
        or any sequence of (photo, masks) or of dicts; otherwise as `from_masks`.

        Args:
            dataset: it is read once, and photos and masks are written as `from_masks` writes them.
            image, masks: where an item has the two; found by their usual names.
            names: number -> category; by default the dataset's own. Numbers of a label map without one are no objects.
            values: what the numbers of label maps mean.
            folder, drawing: as in `from_masks`.

        Raises:
            DataError: an item has no photo or no masks.
        """
        items = dataset_items(dataset, image=image, masks=masks, names=names)
        kept = keep_items(items, values=values, names=names or names_of_dataset(dataset) or None, folder=folder)
        return cls.from_coco(*kept, **drawing)

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

    @taking(ProbeSpec)
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

    def __repr__(self) -> str:
        objects = len({key for pair in self.pairs for key in pair.members()})
        return f"<{len(self)} probes of {objects} objects of {self.index.path.name}, design {self.spec.design}>"

    def _repr_html_(self) -> str:
        """Show the first probes: A alone, A beside B, B alone, A beside C."""
        numbers = range(min(SHOWN_PROBES, len(self)))
        batch = self.render(numbers)
        shown = [images for images in (batch.alone, batch.together, batch.partner, batch.control) if images is not None]
        rows = [
            [(images[row].permute(1, 2, 0).numpy()[::2, ::2] * 255).round().astype(np.uint8) for images in shown]
            for row in numbers
        ]
        told = ["A alone", "A beside B", "B alone", "A beside C"][: len(shown)]
        words = table_html(told, [], caption=repr(self)[1:-1], notes=[f"The first {len(numbers)} of {len(self)}."])
        return words + (sheet_html(rows, description="probes") if rows else "")

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

    def _digest_key_parts(self) -> tuple[str, str]:
        # Of the photos as they were when they were cut, if they were.
        canvas = (UNITS, UNITS)
        pack = self._packs.get((self.spec, canvas))
        return pack.key if pack else self._recipe(canvas).key(), self.checked().identity()

    def _draw_digest(self, number: int) -> bytes:
        return self._renderer((UNITS, UNITS)).digest(self.pairs[number])


def _canvas(size: int | tuple[int, int], mean: RGB, std: RGB | None, device: torch.device | str) -> Canvas:
    height_width = (size, size) if isinstance(size, int) else size
    return Canvas(height_width, mean, Levels() if std is None else Levels(mean, std), torch.device(device))
