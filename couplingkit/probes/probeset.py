"""A spec and pairs in, batches of probe images out: lazy, rendered on the device, the same probes everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..data.coco import CocoIndex, Eligibility, read_instances
from ..data.cutouts import CACHE_BYTES, CutoutStore, ObjectCutout, photo_canvas, resize_cutout
from ..errors import ArgumentError, DataError
from ..pixels import full_canvas, repeat_to
from ..streams import Stream
from .distances import mask_distances
from .drawing import bare_manifest, draw
from .manifest import Manifest, object_check, read_manifest
from .placement import Box, place, place_instead, scaled_size, to_px
from .spec import UNITS, ObjectPair, ProbeSpec
from .triplet import Layer, Probe, hide_tiles, object_layer, probe_images, tiles_at

__all__ = ["GRAY", "ProbeSet"]

GRAY = (0.5, 0.5, 0.5)


class ProbeSet:
    """N probes: which objects, which places, and how they are drawn. Nothing is decoded until it is asked for.

    Args:
        spec: the probes' look.
        pairs: the objects of each probe.
        index: the annotations they come from.
        images: where the photos are: a folder, a zip or a tar.
        seed: of the draws that rendering needs (noise, hidden tiles).
        cache_bytes: bound of the cutouts kept decoded, in bytes.
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
        name: str = "drawn",
    ):
        self.spec = spec
        self.pairs = tuple(pairs)
        self.index = index
        self.seed = seed
        self.name = name
        self.promised: str | None = None
        self.drawn_gap = spec.reach
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
    ) -> ProbeSet:
        """Draw `count` probes from an instances JSON.

        Probe n depends on the seed, on n and on the file alone: the first 10 of 10,000 are the same as those of 10.

        Raises:
            DataError: the file or a photo cannot be used, or fewer than two objects are eligible.
        """
        index, pairs = draw(annotations, eligibility, spec, seed=seed, count=count)
        return cls(spec, pairs, index, images, seed=seed, cache_bytes=cache_bytes)

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
        first: dict[str, Any] = {name: value if value is None else value[0] for name, value in vars(batch).items()}
        return Probe(**first)

    def render(
        self,
        numbers: Sequence[int],
        *,
        size: int | tuple[int, int] = UNITS,
        mean: tuple[float, float, float] = GRAY,
        device: torch.device | str = "cpu",
    ) -> Probe:
        """Draw some probes as one batch.

        Args:
            numbers: places in `pairs`.
            size: of the canvas, px: one side, or (height, width). The picture is the same at any, only larger; a canvas
                that is no square has it in its middle, in units of 1/224 of the shorter side.
            mean: colour of the canvas where the spec says `mean`, sRGB in [0, 1].
            device: where the pixels are put together.
        """
        device = torch.device(device)
        pairs = [self.pairs[number] for number in numbers]
        height_width = (size, size) if isinstance(size, int) else size
        a, b, c = self._layers(pairs, height_width)
        background = self._background(pairs, height_width, mean, device)
        apart = torch.from_numpy(mask_distances(a.mask.numpy(), b.mask.numpy(), [pair.direction for pair in pairs]))
        layers = (a.to(device), b.to(device), None if c is None else c.to(device))
        return probe_images(background, *layers, distance_px=apart)

    def batches(
        self,
        count: int,
        *,
        size: int | tuple[int, int] = UNITS,
        mean: tuple[float, float, float] = GRAY,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[range, Probe]]:
        """Yield (numbers, probes) of at most `count` probes at a time, in order; other arguments as in `render`."""
        for start in range(0, len(self), count):
            numbers = range(start, min(start + count, len(self)))
            yield numbers, self.render(numbers, size=size, mean=mean, device=device)

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

        All photos are decoded for it, so that a broken one shows before the first forward pass. It is computed once.

        Args:
            progress: whether to show a bar.

        Raises:
            DataError: a photo is broken, or these are not the pictures that the manifest promises.
        """
        found = hashlib.sha256(b"".join(self.digests(range(len(self)), progress=progress))).hexdigest()
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
        for number in tqdm(lacking, desc="checking probes", unit="probe", disable=not (progress and lacking)):
            self._digests[number] = self._digest(self.pairs[number])
        return [self._digests[number] for number in wanted]

    def know_digests(self, digests: Sequence[bytes]) -> None:
        """Take over the digests of all probes, which other processes worked out."""
        self._digests = dict(enumerate(digests))

    def _digest(self, pair: ObjectPair) -> bytes:
        gray = torch.full((1, 3, 1, 1), 128, dtype=torch.uint8)
        probe = probe_images(gray, *self._layers([pair], (UNITS, UNITS)), distance_px=torch.full((1,), torch.nan))
        digest = hashlib.sha256()
        for images in (probe.alone, probe.together, probe.partner, probe.control):
            if images is not None:
                digest.update(images.numpy().tobytes())
        digest.update(np.packbits(probe.mask_a.numpy()).tobytes())
        digest.update(np.packbits(probe.mask_b.numpy()).tobytes())
        if self.spec.canvas == "image" and pair.backdrop is not None:
            digest.update(photo_canvas(self.store.photo(pair.backdrop), (UNITS, UNITS)).tobytes())
        return digest.digest()

    def _layers(self, pairs: Sequence[ObjectPair], size: tuple[int, int]) -> tuple[Layer, Layer, Layer | None]:
        """Return A, B and C (if there is a control) of some probes, each as one layer."""
        placed = [self._placed(pair, size) for pair in pairs]
        a, b = (object_layer([objects[role] for objects in placed], size) for role in (0, 1))
        return a, b, object_layer([objects[2] for objects in placed], size) if self.spec.control else None

    def _placed(self, pair: ObjectPair, size: tuple[int, int]) -> list[tuple[ObjectCutout, Box]]:
        side = min(size)
        members = pair.members() if self.spec.control else pair.members()[:2]
        cutouts = [self.store.cutout(key) for key in members]
        longer, gap, room = (to_px(units, side) for units in (self.spec.object_size, self.spec.gap, self.spec.reach))
        sizes = [scaled_size(cutout.rgb.shape[1], cutout.rgb.shape[0], longer) for cutout in cutouts]
        boxes = list(place(sizes[0], sizes[1], gap=gap, direction=pair.direction, side=side, room=room))
        if self.spec.control:
            boxes.append(place_instead(boxes[0], sizes[2], gap=gap, direction=pair.direction, side=side))
        fitted = [resize_cutout(cutout, box.width, box.height) for cutout, box in zip(cutouts, boxes, strict=False)]
        if self.spec.visible < 1:
            fitted[0] = self._partly_hidden(pair, cutouts[0], fitted[0], side)
        top, left = ((length - side) // 2 for length in size)
        shifted = [replace(box, left=box.left + left, top=box.top + top) for box in boxes]
        return list(zip(fitted, shifted, strict=True))

    def _partly_hidden(self, pair: ObjectPair, whole: ObjectCutout, fitted: ObjectCutout, side: int) -> ObjectCutout:
        # Decided at 224 px, so that the same tiles go at every resolution.
        size = scaled_size(whole.rgb.shape[1], whole.rgb.shape[0], self.spec.object_size)
        stream = Stream(self.seed).child("probe", pair.number, "visible")
        keep = hide_tiles(resize_cutout(whole, *size).mask, self.spec.visible, stream)
        return replace(fitted, mask=fitted.mask & tiles_at(keep, fitted.mask.shape[0], fitted.mask.shape[1], side))

    def _background(
        self, pairs: Sequence[ObjectPair], size: tuple[int, int], mean: tuple[float, float, float], device: torch.device
    ) -> Tensor:
        canvas = self.spec.canvas
        if canvas in ("mean", "gray"):
            return full_canvas(mean if canvas == "mean" else GRAY, len(pairs), size, device)
        if canvas == "noise":
            tiles = [self._noise(pair) for pair in pairs]
            return repeat_to(torch.from_numpy(np.stack(tiles)).to(device), size).to(torch.float32) / 255
        photos = [photo_canvas(self.store.photo(pair.backdrop), size) for pair in pairs if pair.backdrop is not None]
        return torch.from_numpy(np.stack(photos)).to(device).permute(0, 3, 1, 2).to(torch.float32) / 255

    def _noise(self, pair: ObjectPair) -> NDArray[np.uint8]:
        stream = Stream(self.seed).child("probe", pair.number, "noise")
        raw = stream.generator().bytes(3 * UNITS * UNITS)
        return np.frombuffer(raw, dtype=np.uint8).reshape(3, UNITS, UNITS)
