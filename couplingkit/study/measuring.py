"""Probes and a backbone in, rates out: chunk by chunk, shared out over processes, each image run through once."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from tqdm import tqdm

from ..errors import ArgumentError, DataError
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..processes import ALONE, Processes
from .controls import ControlRecord, joined
from .measurement import Measurement
from .probe_reader import ProbeReader
from .rows import Parts
from .settings import MeasureSettings
from .summarizing import summarize_layer

# Probes whose rows are made (and kept) at once: so many at least, and on a device, whose images come faster, a part of
# the set up to so many.
CHUNK, DEVICE_CHUNK, DEVICE_CHUNKS = 64, 512, 16

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
    size = parts.size if parts else CHUNK
    if backbone.device.type != "cpu":
        # The same for any number of processes, so that what is kept serves another number; little is lost by a stop.
        size = max(size, min(len(variants[0]) // DEVICE_CHUNKS, DEVICE_CHUNK))
    work = ProbeReader(backbone, variants, settings, size)
    processes.each(lambda: work.prepare(progress=progress and processes.first))
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
    kept = processes.only_first(probes.recall_digests)
    if kept is not None:
        probes.know_digests(kept)
    own = processes.each(lambda: probes.digests(processes.share(numbers), progress=progress and processes.first))
    if processes.count > 1:
        probes.know_digests([own[number % processes.count][number // processes.count] for number in numbers])
    if kept is None:
        processes.only_first(probes.keep_digests)
    # Holds the pictures against a manifest's, where they come from one.
    probes.fingerprint()


def _rows_of_chunks(
    work: ProbeReader, parts: Parts | None, processes: Processes, progress: bool
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
            for chunk, rows in work.rows(own, bar.update):
                found[chunk] = rows
                if parts:
                    parts.write(chunk, rows)
        return found, work.closed()

    shares = processes.each(rows_of_share)
    gathered = {chunk: rows for found, _ in shares for chunk, rows in found.items()}
    kept = processes.only_first(lambda: {chunk: parts.read(chunk) for chunk in done} if parts else {})
    every = gathered | kept
    return pd.concat([every[chunk] for chunk in sorted(every)], ignore_index=True), [record for _, record in shares]


def _sound_parts(work: ProbeReader, parts: Parts) -> list[int]:
    """Return which chunks need not be measured again; a file that is not whole is as good as none."""
    sound = []
    for chunk in parts.done():
        try:
            rows = parts.read(chunk)
        except DataError:
            continue
        copies = len(work.variants) * len(work.backbone.layers)
        numbers = sorted([*work.numbers(chunk)] * copies)
        if chunk < work.chunks() and sorted(rows["probe"]) == numbers:
            sound.append(chunk)
    return sound
