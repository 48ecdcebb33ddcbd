"""A network and its probes in, the rows of chunks of them out; the first batch that can be read meets the controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..features.layered import LayeredBackbone
from ..probes.compositing import Easel
from ..probes.probeset import ProbeSet
from ..probes.spec import RING_ROWS
from ..probes.triplet import Probe
from .alignment import OBJECTS, check_maps
from .controls import NOTHING_READ, ControlRecord, FirstBatch, alone_again, check_again, check_company
from .position import read_position
from .region_features import Fetched, HeldMaps, RegionFeatures, check_finite, read_batch, read_shared
from .rows import mean_feature, probe_table, rows_of, seen_table
from .settings import MeasureSettings

__all__ = ["ProbeReader"]


# Of batches: their probes, and what each variant of them gives, per layer.
_Concluded = list[tuple[range, list[list[RegionFeatures]]]]


@dataclass(frozen=True)
class _Read:
    """Batches that were read, with what a pass could have then, on their way from the device."""

    numbers: list[range]
    limits: list[int | None]
    regions: Fetched


@dataclass
class ProbeReader:
    """One network on all variants of a set of pairs."""

    backbone: LayeredBackbone
    variants: Sequence[ProbeSet]
    settings: MeasureSettings
    part: int
    first: FirstBatch | None = None
    record: ControlRecord | None = None

    def __post_init__(self) -> None:
        self.shown = self.backbone.taking_normalized()
        self.easel = Easel()
        self.in_rings = self.variants[0].spec.design == "ring"
        # A CPU gains nothing by larger passes; and one role after another needs a quarter of the memory.
        self.at_once = self.backbone.device.type != "cpu"
        self.images = self.shown.images_per_pass(self.settings.batch_size)

    @cached_property
    def made_of(self) -> list[pd.DataFrame]:
        """The `probe_table` of each variant."""
        return [probe_table(variant) for variant in self.variants]

    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-len(self.variants[0]) // self._chunk())

    def numbers(self, chunk: int) -> range:
        """Return the probes of a chunk."""
        size = self._chunk()
        return range(min(chunk * size, len(self.variants[0])), min((chunk + 1) * size, len(self.variants[0])))

    def _chunk(self) -> int:
        return -(-self.part // self._batch()) * self._batch()

    def _batch(self) -> int:
        """Return how many probes are read at once: `batch_size` images in one pass, of one role or of all."""
        if self.in_rings:
            # Whole rings, whose rows share as many images as they are.
            return max(1, self.images // RING_ROWS) * RING_ROWS
        roles = 4 if self.variants[0].spec.control else 3
        return max(1, self.images // roles) if self.at_once else self.images

    def _batches(self, chunk: int) -> Iterator[range]:
        every, size = self.numbers(chunk), self._batch()
        for start in range(every.start, every.stop, size):
            yield range(start, min(start + size, every.stop))

    def prepare(self, *, progress: bool = False) -> None:
        """Let the sprites of all variants be at hand at the network's own size."""
        for variant in self.variants:
            variant.prepare(self.backbone.size_px, progress=progress)

    def rows(self, chunks: Iterable[int], advance: Callable[[int], Any]) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield chunks with their rows: probes in order, of each variant and layer.

        A GPU reads the next chunks while the rows of one are made.
        """
        if not self.at_once:
            for chunk in chunks:
                yield chunk, self._table(self._begun(self._batches(chunk), advance))
            return
        reads: list[tuple[int, _Read]] = []
        tables: list[tuple[int, Future[pd.DataFrame]]] = []
        # Angles in float64 take a CPU a third of the time that a GPU takes for the features of a wide network.
        with ThreadPoolExecutor(1) as beside:
            for chunk in chunks:
                if self.first is None:
                    yield chunk, self._table(self._begun(self._batches(chunk), advance))
                    continue
                reads.append((chunk, self._read(self._batches(chunk), advance)))
                if len(reads) > 1:
                    done, read = reads.pop(0)
                    tables.append((done, beside.submit(self._table, self._concluded(read))))
                if len(tables) > 1:
                    done, table = tables.pop(0)
                    yield done, table.result()
            tables += [(done, beside.submit(self._table, self._concluded(read))) for done, read in reads]
            for done, table in tables:
                yield done, table.result()

    def _begun(self, batches: Iterable[range], advance: Callable[[int], Any]) -> _Concluded:
        """Read batch after batch until one can be read, so that controls come before hours of work, then the rest."""
        waiting, found = iter(batches), []
        while self.first is None and (numbers := next(waiting, None)) is not None:
            found += self._concluded(self._read([numbers], advance))
        return found + self._concluded(self._read(waiting, advance))

    def _table(self, concluded: _Concluded) -> pd.DataFrame:
        """Return the rows of batches, all of a variant and layer at once."""
        numbers = [number for own, _ in concluded for number in own]
        tables = []
        for variant in range(len(self.variants)):
            for layer in range(len(self.backbone.layers)):
                parts = [of_variants[variant][layer] for _, of_variants in concluded]
                tables.append(self._described(variant, layer, numbers, parts, shift=None))
        return pd.concat(tables, ignore_index=True)

    def centered(self, *, progress: bool) -> pd.DataFrame:
        """Return all rows with the mean feature subtracted, which is known when all features are."""
        batches = []
        with tqdm(total=len(self.variants[0]), desc=self.backbone.name, unit="probe", disable=not progress) as bar:
            for chunk in range(self.chunks()):
                batches += self._begun(self._batches(chunk), bar.update)
        tables = []
        numbers = [number for own, _ in batches for number in own]
        for variant in range(len(self.variants)):
            for layer in range(len(self.backbone.layers)):
                parts = [of_variants[variant][layer] for _, of_variants in batches]
                shift = mean_feature(parts, self.settings.min_cells)
                tables.append(self._described(variant, layer, numbers, parts, shift=shift))
        return pd.concat(tables, ignore_index=True)

    def closed(self) -> ControlRecord | None:
        """Hold the first batch against what it gives now, at the end; None where this process read none."""
        if self.first is not None:
            check_again(
                self.shown,
                self._alone_again(self.first),
                self.first,
                min_cells=self.settings.min_cells,
                when="at the end of the run",
            )
        return self.record

    def only_controls(self) -> ControlRecord:
        """Return what the controls find on the first batch that can be read, without keeping its rows."""
        for chunk in range(self.chunks()):
            for numbers in self._batches(chunk):
                self._concluded(self._read([numbers], lambda _: None))
                record = self.closed()
                if record is not None:
                    return record
        return NOTHING_READ

    def _described(
        self,
        variant: int,
        layer: int,
        numbers: Sequence[int],
        parts: Sequence[RegionFeatures],
        *,
        shift: Tensor | None,
    ) -> pd.DataFrame:
        seen = seen_table(parts, shift=shift, min_cells=self.settings.min_cells)
        made_of = self.made_of[variant].iloc[list(numbers)]
        return rows_of(self.backbone.layers[layer].name, made_of, seen).assign(variant=variant, layer=layer)

    def _rendered(self, variant: int, numbers: range, easel: Easel | None = None) -> Probe:
        """Draw a batch as the network takes it: normalised already where it is one of ours."""
        shown = self.shown
        return self.variants[variant].render(
            numbers, size=shown.size_px, mean=shown.mean, std=shown.std, device=shown.device, easel=easel
        )

    def _read(self, batches: Iterable[range], advance: Callable[[int], Any]) -> _Read:
        """Read some batches; nothing waits for the device."""
        numbers, regions, limits = [], [], []
        for own in batches:
            numbers.append(own)
            regions.append([one for of_layers in self._region_features(own) for one in of_layers])
            limits.append(self._limit())
            advance(len(own))
        return _Read(numbers, limits, Fetched(regions))

    def _concluded(self, read: _Read) -> _Concluded:
        """Wait for what was read, and return what each variant of the batches gives, per layer.

        The first batch of all that can be read is held to the controls.
        """
        width = len(self.backbone.layers)
        found = []
        for own, limit, flat in zip(read.numbers, read.limits, read.regions.result(), strict=True):
            of_variants = [flat[start : start + width] for start in range(0, len(flat), width)]
            for index, of_layers in enumerate(of_variants):
                self._check(FirstBatch(own, index, of_layers, self.at_once, limit))
            found.append((own, of_variants))
        return found

    def _limit(self) -> int | None:
        """Return how many images a pass may have since memory ran out."""
        return None if self.shown.passes is None else self.shown.passes.most

    def _check(self, batch: FirstBatch) -> None:
        least = self.settings.min_cells
        for layer, regions in zip(self.backbone.layers, batch.regions, strict=True):
            check_finite(layer.name, regions, batch.numbers, least)
        # Of regions that cannot be read nothing is said.
        if self.first is None and all(regions.readable(least).any() for regions in batch.regions):
            self._control(batch)

    def _region_features(self, numbers: range) -> list[list[RegionFeatures]]:
        """Return what each variant of a batch gives, per layer, on the device."""
        held = HeldMaps(self.shown, [variant.spec for variant in self.variants], at_once=self.at_once)
        found = []
        for index, variant in enumerate(self.variants):
            if self.in_rings:
                of_layers = self._of_rings(variant, numbers)
            else:
                probe = self._rendered(index, numbers, self.easel)
                of_layers = read_batch(self.shown, probe, variant.spec, held)
            if self.settings.position:
                positions = read_position(self.shown, self._rendered(index, numbers))
                of_layers = [replace(regions, position=own) for regions, own in zip(of_layers, positions, strict=True)]
            found.append(of_layers)
        return found

    def _of_rings(self, variant: ProbeSet, numbers: range) -> list[RegionFeatures]:
        shown = self.shown
        shared = variant.shared(
            numbers, size=shown.size_px, mean=shown.mean, std=shown.std, device=shown.device, easel=self.easel
        )
        return read_shared(shown, shared, most=self.images)

    def _alone_again(self, first: FirstBatch) -> list[Tensor]:
        """Return A alone of the first batch, read anew just as it was read then."""
        if self.in_rings:
            (again,) = Fetched([self._of_rings(self.variants[first.variant], first.numbers)]).result()
            return [regions.alone for regions in again]
        return alone_again(self.shown, self._rendered(first.variant, first.numbers), at_once=first.at_once)

    def _control(self, first: FirstBatch) -> None:
        backbone, least = self.shown, self.settings.min_cells
        again = self._rendered(first.variant, first.numbers)
        check_again(backbone, self._alone_again(first), first, min_cells=least)
        moved = check_company(backbone, again, first, min_cells=least)
        # The same objects in every process, and whatever the size of a batch.
        objects = self._rendered(0, range(min(OBJECTS, len(self.variants[0]))))
        maps = check_maps(backbone, objects, batch_size=self.images)
        read = min(int(regions.readable(least).sum()) for regions in first.regions)
        self.record = ControlRecord(read, moved, *maps)
        self.first = first
