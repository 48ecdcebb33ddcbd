"""Probes and a backbone in, rates out: chunk by chunk, shared out over processes, each image run through once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm import tqdm

from ..errors import ArgumentError, DataError, check_range
from ..features.backbone import DenseBackbone, LayeredBackbone
from ..probes.probeset import ProbeSet
from .concluding import conclude
from .processes import ALONE, Processes
from .readings import HeldMaps, Reading, check_finite, check_zero_control, read_batch
from .record import Measurement
from .rows import Parts, mean_feature, rates_table, rows_of

__all__ = ["measure", "measure_layers", "measure_variants", "share_digests", "variant_rows"]

# Probes after which rows are written, at least; whole batches of them.
CHUNK = 64


def measure(
    backbone: DenseBackbone,
    probes: ProbeSet,
    *,
    batch_size: int = 32,
    eps: float = 1e-2,
    min_cells: float = 1.0,
    center: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    progress: bool = False,
) -> Measurement:
    """Measure the coupling rate of a backbone (Qiu et al., ICLR 2024) on a set of probes.

    Four forward passes a probe (three without the control), none twice, and one more over the first batch for the
    zero control: with B left out, the coupling rate must be exactly 1.

    Args:
        backbone: the network.
        probes: what it is shown, at the backbone's own input size.
        batch_size: images per forward pass; changes speed and memory, not the numbers.
        eps: rad; smaller similarities count as this.
        min_cells: a region of less than this many cells (sum of shares) cannot be measured at this stride.
        center: subtract the mean of all z_A1 and z_B from the features first (for experts: it clips denominators).
        level: of the intervals.
        resamples: of the bootstrap.
        progress: whether to show a bar.

    Raises:
        MeasurementError: the zero control fails, features are not finite, or no probe can be measured.
    """
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "eps": eps,
        "min_cells": min_cells,
        "center": center,
        "level": level,
        "resamples": resamples,
    }
    if not isinstance(backbone, DenseBackbone):
        raise ArgumentError(
            f"backbone must be a DenseBackbone, not {backbone!r}; load_backbone gives one for a model's name."
        )
    return measure_layers(LayeredBackbone([backbone]), probes, progress=progress, **settings)[0]


def measure_layers(backbone: LayeredBackbone, probes: ProbeSet, **options: Any) -> list[Measurement]:
    """Measure several layers of a network with one forward pass per image; options and errors as in `measure`.

    Returns:
        One measurement per layer, each the same as if that layer were measured alone.
    """
    return measure_variants(backbone, [probes], **options)[0]


def measure_variants(
    backbone: LayeredBackbone,
    variants: Sequence[ProbeSet],
    *,
    batch_size: int = 32,
    eps: float = 1e-2,
    min_cells: float = 1.0,
    center: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> list[list[Measurement]]:
    """Measure one set of pairs in several looks (`ProbeSet.vary`); an image that two of them share is run once.

    Args:
        backbone: the network and its layers.
        variants: the looks, of the same pairs.
        batch_size: images per forward pass.
        eps: as in `measure`; likewise `min_cells`, `center`, `level` and `resamples`.
        processes: that share the work; all of them get all rows.
        parts: where rows are kept as they come, and taken from where they are already there.
        progress: whether to show a bar.

    Returns:
        Of each variant one measurement per layer.

    Raises:
        MeasurementError: as in `measure`; or a process is gone.
        OutputError: `parts` cannot be written.
    """
    settings: dict[str, Any] = {"eps": eps, "min_cells": min_cells, "center": center}
    shared: dict[str, Any] = {"processes": processes, "parts": parts, "progress": progress}
    rows = variant_rows(backbone, variants, batch_size=batch_size, **settings, **shared)
    settings |= {"level": level, "resamples": resamples}
    return [
        [
            conclude(layer, variant, of_layer, settings, batch_size=batch_size)
            for layer, of_layer in zip(backbone.layers, of_variant, strict=True)
        ]
        for variant, of_variant in zip(variants, rows, strict=True)
    ]


def variant_rows(
    backbone: LayeredBackbone,
    variants: Sequence[ProbeSet],
    *,
    batch_size: int = 32,
    eps: float = 1e-2,
    min_cells: float = 1.0,
    center: bool = False,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> list[list[pd.DataFrame]]:
    """Return the rows that `measure_variants` draws its conclusions from: of each variant a table per layer."""
    check_range("batch_size", batch_size, 1)
    check_range("min_cells", min_cells, 0)
    if any(variant.pairs != variants[0].pairs for variant in variants):
        raise ArgumentError("variants must be of the same pairs; ProbeSet.vary gives such.")
    for variant in variants:
        share_digests(variant, processes, progress=progress)
    work = _Work(backbone, variants, batch_size, eps, min_cells)
    if center and processes.count > 1:
        raise ArgumentError("center needs the features of all probes in one process; start one.")
    rows = work.centered(progress=progress) if center else _rows_of_chunks(work, parts, processes, progress)
    own = rows.drop(columns=["variant", "layer"])
    return [
        [own[(rows["variant"] == place) & (rows["layer"] == layer)] for layer in range(len(backbone.layers))]
        for place in range(len(variants))
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
    batch_size: int
    eps: float
    min_cells: float
    controlled: bool = False

    def chunks(self) -> int:
        """Return how many chunks there are."""
        return -(-len(self.variants[0]) // self._chunk())

    def numbers(self, chunk: int) -> range:
        """Return the probes of a chunk."""
        size = self._chunk()
        return range(min(chunk * size, len(self.variants[0])), min((chunk + 1) * size, len(self.variants[0])))

    def _chunk(self) -> int:
        return -(-CHUNK // self.batch_size) * self.batch_size

    def rows(self, chunk: int, advance: Callable[[int], Any]) -> pd.DataFrame:
        """Return the rows of a chunk: its probes in order, of each variant and layer."""
        found = []
        every = self.numbers(chunk)
        for start in range(every.start, every.stop, self.batch_size):
            numbers = range(start, min(start + self.batch_size, every.stop))
            for place, readings in enumerate(self._readings(numbers)):
                for layer, reading in enumerate(readings):
                    table = rates_table(reading, shift=None, eps=self.eps, min_cells=self.min_cells)
                    found.append(self._described(place, layer, numbers, table))
            advance(len(numbers))
        return pd.concat(found, ignore_index=True)

    def centered(self, *, progress: bool) -> pd.DataFrame:
        """Return all rows with the mean feature subtracted, which is known when all features are."""
        batches = []
        with tqdm(total=len(self.variants[0]), desc=self.backbone.name, unit="probe", disable=not progress) as bar:
            for chunk in range(self.chunks()):
                every = self.numbers(chunk)
                for start in range(every.start, every.stop, self.batch_size):
                    numbers = range(start, min(start + self.batch_size, every.stop))
                    batches.append((numbers, self._readings(numbers)))
                    bar.update(len(numbers))
        found = []
        for place in range(len(self.variants)):
            for layer in range(len(self.backbone.layers)):
                shift = mean_feature([readings[place][layer] for _, readings in batches], self.min_cells)
                for numbers, readings in batches:
                    table = rates_table(readings[place][layer], shift=shift, eps=self.eps, min_cells=self.min_cells)
                    found.append(self._described(place, layer, numbers, table))
        return pd.concat(found, ignore_index=True)

    def _described(self, place: int, layer: int, numbers: range, table: pd.DataFrame) -> pd.DataFrame:
        rows = rows_of(self.backbone.layers[layer].name, self.variants[place], numbers, table)
        return rows.assign(variant=place, layer=layer)

    def _readings(self, numbers: range) -> list[list[Reading]]:
        """Return what each variant of a batch gives, per layer; the first batch is held to the zero control."""
        backbone = self.backbone
        shape: dict[str, Any] = {"size": backbone.size_px, "mean": backbone.mean, "device": backbone.device}
        held = HeldMaps(backbone, [variant.spec for variant in self.variants])
        found = []
        for variant in self.variants:
            probe = variant.render(numbers, **shape)
            readings = read_batch(backbone, probe, variant.spec, held)
            del probe  # or two batches of pictures would lie in memory while the next is drawn
            for layer, reading in zip(backbone.layers, readings, strict=True):
                check_finite(layer.name, reading, numbers, self.min_cells)
            if not self.controlled:
                again = variant.render(numbers, **shape)
                check_zero_control(backbone, again, readings, numbers, eps=self.eps, min_cells=self.min_cells)
            found.append(readings)
        self.controlled = True
        return found
