"""Probes and a backbone in, rates out: chunk by chunk, shared out over processes, each image run through once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from ..errors import ArgumentError, DataError
from ..features.backbone import DenseBackbone, LayeredBackbone
from ..probes.probeset import ProbeSet
from .measurement import Measurement
from .processes import ALONE, Processes
from .region_features import HeldMaps, RegionFeatures, check_finite, check_zero_control, read_batch
from .rows import Parts, mean_feature, rates_table, rows_of
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

    Four forward passes a probe (three without the control), none twice, and one more over the first batch for the
    zero control: with B left out, the coupling rate must be exactly 1.

    Args:
        backbone: the network.
        probes: what it is shown, at the backbone's own input size.
        settings: batch size, eps, ...
        progress: whether to show a bar.

    Raises:
        MeasurementError: the zero control fails, features are not finite, or no probe can be measured.
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
    rows = variant_rows(backbone, variants, settings, processes=processes, parts=parts, progress=progress)
    return [
        [
            summarize_layer(layer, variant, of_layer, settings)
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
) -> list[list[pd.DataFrame]]:
    """Return the rows that `measure_variants` draws its conclusions from: of each variant a table per layer."""
    if any(variant.pairs != variants[0].pairs for variant in variants):
        raise ArgumentError("variants must be of the same pairs; ProbeSet.vary gives such.")
    for variant in variants:
        share_digests(variant, processes, progress=progress)
    work = _Work(backbone, variants, settings, parts.size if parts else settings.batch_size)
    if settings.center and processes.count > 1:
        raise ArgumentError("center needs the features of all probes in one process; start one.")
    rows = work.centered(progress=progress) if settings.center else _rows_of_chunks(work, parts, processes, progress)
    own = rows.drop(columns=["variant", "layer"])
    return [
        [own[(rows["variant"] == variant) & (rows["layer"] == layer)] for layer in range(len(backbone.layers))]
        for variant in range(len(variants))
    ]


def share_digests(probes: ProbeSet, processes: Processes, *, progress: bool = False) -> None:
    """Let each process draw its share of the probes, so that a broken photo shows before the first forward pass."""
    numbers = range(len(probes))
    own = processes.each(lambda: probes.digests(processes.share(numbers), progress=progress and processes.first))
    if processes.count > 1:
        probes.know_digests([own[number % processes.count][number // processes.count] for number in numbers])
    # Holds the pictures against a manifest's, where they come from one.
    probes.fingerprint()


def _rows_of_chunks(work: _Work, parts: Parts | None, processes: Processes, progress: bool) -> pd.DataFrame:
    done = processes.only_first(lambda: _sound_parts(work, parts) if parts else [])
    own = processes.share([chunk for chunk in range(work.chunks()) if chunk not in done])

    def rows_of_share() -> dict[int, pd.DataFrame]:
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
        return found

    gathered = {chunk: rows for found in processes.each(rows_of_share) for chunk, rows in found.items()}
    kept = processes.only_first(lambda: {chunk: parts.read(chunk) for chunk in done} if parts else {})
    every = gathered | kept
    return pd.concat([every[chunk] for chunk in sorted(every)], ignore_index=True)


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
    controlled: bool = False

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

    def _described(
        self, variant: int, layer: int, numbers: range, regions: RegionFeatures, *, shift: Tensor | None
    ) -> pd.DataFrame:
        table = rates_table(regions, shift=shift, eps=self.settings.eps, min_cells=self.settings.min_cells)
        rows = rows_of(self.backbone.layers[layer].name, self.variants[variant], numbers, table)
        return rows.assign(variant=variant, layer=layer)

    def _region_features(self, numbers: range) -> list[list[RegionFeatures]]:
        """Return what each variant of a batch gives, per layer; the first batch is held to the zero control."""
        backbone = self.backbone
        shape: dict[str, Any] = {"size": backbone.size_px, "mean": backbone.mean, "device": backbone.device}
        held = HeldMaps(backbone, [variant.spec for variant in self.variants])
        found = []
        for variant in self.variants:
            probe = variant.render(numbers, **shape)
            of_layers = read_batch(backbone, probe, variant.spec, held)
            del probe  # or two batches of pictures would lie in memory while the next is drawn
            for layer, regions in zip(backbone.layers, of_layers, strict=True):
                check_finite(layer.name, regions, numbers, self.settings.min_cells)
            if not self.controlled:
                again = variant.render(numbers, **shape)
                check_zero_control(backbone, again, of_layers, numbers, self.settings)
            found.append(of_layers)
        self.controlled = True
        return found
