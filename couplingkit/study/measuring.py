"""Probes and a backbone in, rates out: chunk by chunk, shared out over processes, each image run through once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..errors import ArgumentError, DataError
from ..features.backbone import DenseBackbone, LayeredBackbone
from ..probes.probeset import ProbeSet
from ..probes.triplet import Probe
from .controls import ControlRecord, FirstBatch, check_again, check_maps, check_order, joined
from .measurement import Measurement
from .position import read_position
from .processes import ALONE, Processes
from .region_features import HeldMaps, RegionFeatures, check_finite, read_batch
from .rows import Parts, mean_feature, rows_of, seen_table
from .settings import MeasureSettings
from .summarizing import summarize_layer

__all__ = ["measure", "measure_layers", "measure_variants", "share_digests", "variant_rows"]


def measure(
    backbone: DenseBackbone,
    probes: ProbeSet,
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    progress: bool = False,
) -> Measurement:
    """Measure the coupling rate of a backbone (Qiu et al., ICLR 2024) on a set of probes.

    Four forward passes a probe (three without the control), none twice, and the controls on the first batch
    (`study.controls`): with B left out, the coupling rate must be exactly 1, in any company and at the end as well.

    Args:
        backbone: the network.
        probes: what it is shown, at the backbone's own input size.
        settings: batch size, eps, ...
        progress: whether to show a bar.

    Raises:
        MeasurementError: a control fails, features are not finite, or no probe can be measured.
    """
    if not isinstance(backbone, DenseBackbone):
        raise ArgumentError(
            f"backbone must be a DenseBackbone, not {backbone!r}; load_backbone gives one for a model's name."
        )
    return measure_layers(LayeredBackbone([backbone]), probes, settings, progress=progress)[0]


def measure_layers(
    backbone: LayeredBackbone,
    probes: ProbeSet,
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> list[Measurement]:
    """Measure several layers of a network with one forward pass per image; arguments and errors as in `measure`.

    Returns:
        One measurement per layer, each the same as if that layer were measured alone.
    """
    return measure_variants(backbone, [probes], settings, processes=processes, parts=parts, progress=progress)[0]


def measure_variants(
    backbone: LayeredBackbone,
    variants: Sequence[ProbeSet],
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> list[list[Measurement]]:
    """Measure one set of pairs in several looks (`ProbeSet.vary`); an image that two of them share is run once.

    Args:
        backbone: the network and its layers.
        variants: the looks, of the same pairs.
        settings: as in `measure`.
        processes: that share the work; all of them get all rows.
        parts: where rows are kept as they come, and taken from where they are already there.
        progress: whether to show a bar.

    Returns:
        Of each variant one measurement per layer.

    Raises:
        MeasurementError: as in `measure`; or a process is gone.
        OutputError: `parts` cannot be written.
    """
    rows, controls = variant_rows(backbone, variants, settings, processes=processes, parts=parts, progress=progress)
    return [
        [
            summarize_layer(layer, variant, of_layer, settings, controls)
            for layer, of_layer in zip(backbone.layers, of_variant, strict=True)
        ]
        for variant, of_variant in zip(variants, rows, strict=True)
    ]


def variant_rows(
    backbone: LayeredBackbone,
    variants: Sequence[ProbeSet],
    settings: MeasureSettings,
    *,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> tuple[list[list[pd.DataFrame]], ControlRecord]:
    """Return what `measure_variants` concludes from: of each variant a table of rows per layer; and the controls."""
    if any(variant.pairs != variants[0].pairs for variant in variants):
        raise ArgumentError("variants must be of the same pairs; ProbeSet.vary gives such.")
    for variant in variants:
        share_digests(variant, processes, progress=progress)
    work = _Work(backbone, variants, settings, parts.size if parts else settings.batch_size)
    if settings.center and processes.count > 1:
        raise ArgumentError("center needs the features of all probes in one process; start one.")
    if settings.center:
        rows = work.centered(progress=progress)
        records = [work.closed()]
    else:
        rows, records = _rows_of_chunks(work, parts, processes, progress)
    known = [record for record in records if record is not None]
    # Where all rows were there before, the network was not looked at yet.
    controls = joined(known) if known else processes.only_first(work.only_controls)
    own = rows.drop(columns=["variant", "layer"])
    tables = [
        [own[(rows["variant"] == variant) & (rows["layer"] == layer)] for layer in range(len(backbone.layers))]
        for variant in range(len(variants))
    ]
    return tables, controls


def share_digests(probes: ProbeSet, processes: Processes, *, progress: bool = False) -> None:
    """Let each process draw its share of the probes, so that a broken photo shows before the first forward pass."""
    numbers = range(len(probes))
    own = processes.each(lambda: probes.digests(processes.share(numbers), progress=progress and processes.first))
    if processes.count > 1:
        probes.know_digests([own[number % processes.count][number // processes.count] for number in numbers])
    # Holds the pictures against a manifest's, where they come from one.
    probes.fingerprint()


def _rows_of_chunks(
    work: _Work, parts: Parts | None, processes: Processes, progress: bool
) -> tuple[pd.DataFrame, list[ControlRecord | None]]:
    done = processes.only_first(lambda: _sound_parts(work, parts) if parts else [])
    own = processes.share([chunk for chunk in range(work.chunks()) if chunk not in done])

    def rows_of_share() -> tuple[dict[int, pd.DataFrame], ControlRecord | None]:
        found = {}
        total = sum(len(work.numbers(chunk)) for chunk in own)
        shown = f" (1 of {processes.count} processes)" if processes.count > 1 else ""
        with tqdm(
            total=total, desc=f"{work.backbone.name}{shown}", unit="probe", disable=not (progress and processes.first)
        ) as bar:
            for chunk in own:
                found[chunk] = work.rows(chunk, bar.update)
                if parts:
                    parts.write(chunk, found[chunk])
        return found, work.closed()

    shares = processes.each(rows_of_share)
    gathered = {chunk: rows for found, _ in shares for chunk, rows in found.items()}
    kept = processes.only_first(lambda: {chunk: parts.read(chunk) for chunk in done} if parts else {})
    every = gathered | kept
    return pd.concat([every[chunk] for chunk in sorted(every)], ignore_index=True), [record for _, record in shares]


def _sound_parts(work: _Work, parts: Parts) -> list[int]:
    """Return which chunks need not be measured again; a file that is not whole is as good as none."""
    sound = []
    for chunk in parts.done():
        try:
            rows = parts.read(chunk)
        except DataError:
            continue
        expected = len(work.numbers(chunk)) * len(work.variants) * len(work.backbone.layers)
        if chunk < work.chunks() and len(rows) == expected:
            sound.append(chunk)
    return sound


@dataclass
class _Work:
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
        """Return what the controls find on the first batch, without keeping its rows."""
        self._region_features(next(self._batches(0)))
        record = self.closed()
        assert record is not None
        return record

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
            if self.first is None:
                self._control(FirstBatch(numbers, index, of_layers))
            found.append(of_layers)
        return found

    def _control(self, first: FirstBatch) -> None:
        backbone, least = self.backbone, self.settings.min_cells
        again = self._rendered(first.variant, first.numbers)
        check_again(backbone, again, first, min_cells=least)
        precision = getattr(backbone.layers[0], "precision", "float32")
        moved = check_order(backbone, again, first, min_cells=least, precision=precision)
        self.record = ControlRecord(len(first.numbers), moved, *check_maps(backbone, again))
        self.first = first
