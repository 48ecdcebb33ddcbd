"""A network and its probes in, the rows of chunks of them out; the first batch that can be read meets the controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..features.backbone import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..probes.triplet import Probe
from .alignment import OBJECTS, check_maps
from .controls import NOTHING_READ, ControlRecord, FirstBatch, check_again, check_company
from .position import read_position
from .region_features import HeldMaps, RegionFeatures, check_finite, read_batch
from .rows import mean_feature, rows_of, seen_table
from .settings import MeasureSettings

__all__ = ["ProbeReader"]


@dataclass
class ProbeReader:
    """One network on all variants of a set of pairs."""

    backbone: LayeredBackbone
    variants: Sequence[ProbeSet]
    settings: MeasureSettings
    part: int
    first: FirstBatch | None = None
    record: ControlRecord | None = None

    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-len(self.variants[0]) // self._chunk())

    def numbers(self, chunk: int) -> range:
        """Return the probes of a chunk."""
        size = self._chunk()
        return range(min(chunk * size, len(self.variants[0])), min((chunk + 1) * size, len(self.variants[0])))

    def _chunk(self) -> int:
        return -(-self.part // self.settings.batch_size) * self.settings.batch_size

    def _batches(self, chunk: int) -> Iterator[range]:
        every, size = self.numbers(chunk), self.settings.batch_size
        for start in range(every.start, every.stop, size):
            yield range(start, min(start + size, every.stop))

    def rows(self, chunk: int, advance: Callable[[int], Any]) -> pd.DataFrame:
        """Return the rows of a chunk: its probes in order, of each variant and layer."""
        tables = []
        for numbers in self._batches(chunk):
            for variant, of_layers in enumerate(self._region_features(numbers)):
                for layer, regions in enumerate(of_layers):
                    tables.append(self._described(variant, layer, numbers, regions, shift=None))
            advance(len(numbers))
        return pd.concat(tables, ignore_index=True)

    def centered(self, *, progress: bool) -> pd.DataFrame:
        """Return all rows with the mean feature subtracted, which is known when all features are."""
        batches = []
        with tqdm(total=len(self.variants[0]), desc=self.backbone.name, unit="probe", disable=not progress) as bar:
            for chunk in range(self.chunks()):
                for numbers in self._batches(chunk):
                    batches.append((numbers, self._region_features(numbers)))
                    bar.update(len(numbers))
        tables = []
        for variant in range(len(self.variants)):
            for layer in range(len(self.backbone.layers)):
                shift = mean_feature([regions[variant][layer] for _, regions in batches], self.settings.min_cells)
                for numbers, regions in batches:
                    tables.append(self._described(variant, layer, numbers, regions[variant][layer], shift=shift))
        return pd.concat(tables, ignore_index=True)

    def closed(self) -> ControlRecord | None:
        """Hold the first batch against what it gives now, at the end; None where this process read none."""
        if self.first is not None:
            check_again(
                self.backbone,
                self._rendered(self.first.variant, self.first.numbers),
                self.first,
                min_cells=self.settings.min_cells,
                when="at the end of the run",
            )
        return self.record

    def only_controls(self) -> ControlRecord:
        """Return what the controls find on the first batch that can be read, without keeping its rows."""
        for chunk in range(self.chunks()):
            for numbers in self._batches(chunk):
                self._region_features(numbers)
                record = self.closed()
                if record is not None:
                    return record
        return NOTHING_READ

    def _described(
        self, variant: int, layer: int, numbers: range, regions: RegionFeatures, *, shift: Tensor | None
    ) -> pd.DataFrame:
        table = seen_table(regions, shift=shift, min_cells=self.settings.min_cells)
        rows = rows_of(self.backbone.layers[layer].name, self.variants[variant], numbers, table)
        return rows.assign(variant=variant, layer=layer)

    def _rendered(self, variant: int, numbers: range) -> Probe:
        backbone = self.backbone
        return self.variants[variant].render(numbers, size=backbone.size_px, mean=backbone.mean, device=backbone.device)

    def _region_features(self, numbers: range) -> list[list[RegionFeatures]]:
        """Return what each variant of a batch gives, per layer; the first batch is held to the controls."""
        held = HeldMaps(self.backbone, [variant.spec for variant in self.variants])
        found = []
        for index, variant in enumerate(self.variants):
            probe = self._rendered(index, numbers)
            of_layers = read_batch(self.backbone, probe, variant.spec, held)
            if self.settings.position:
                positions = read_position(self.backbone, probe)
                of_layers = [replace(regions, position=own) for regions, own in zip(of_layers, positions, strict=True)]
            del probe  # or two batches of pictures would lie in memory while the next is drawn
            for layer, regions in zip(self.backbone.layers, of_layers, strict=True):
                check_finite(layer.name, regions, numbers, self.settings.min_cells)
            # Of regions that cannot be read nothing is said.
            if self.first is None and all(regions.readable(self.settings.min_cells).any() for regions in of_layers):
                self._control(FirstBatch(numbers, index, of_layers))
            found.append(of_layers)
        return found

    def _control(self, first: FirstBatch) -> None:
        backbone, least = self.backbone, self.settings.min_cells
        again = self._rendered(first.variant, first.numbers)
        check_again(backbone, again, first, min_cells=least)
        precision = getattr(backbone.layers[0], "precision", "float32")
        moved = check_company(backbone, again, first, min_cells=least, precision=precision)
        # The same objects in every process, and whatever the size of a batch.
        objects = self._rendered(0, range(min(OBJECTS, len(self.variants[0]))))
        maps = check_maps(backbone, objects, batch_size=self.settings.batch_size)
        read = min(int(regions.readable(least).sum()) for regions in first.regions)
        self.record = ControlRecord(read, moved, *maps)
        self.first = first
