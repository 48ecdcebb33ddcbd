"""Probes and a backbone in, rates out: rows, summary and provenance, with the controls that make them credible."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ArgumentError, MeasurementError, check_range
from ..features.backbone import DenseBackbone, LayeredBackbone
from ..metrics.coupling import CouplingRates, coupling_rate
from ..metrics.summary import CLIPPED_LIMIT, RateSummary, summarize
from ..probes.probeset import ProbeSet
from ..streams import Stream
from .readings import OUTLIER, Reading, check_finite, check_zero_control, read_batch
from .record import ROW_COLUMNS, Measurement

__all__ = ["measure", "measure_layers"]

# Share of the probes with outlying cells above which the report says so.
OUTLYING_LIMIT = 0.05
VERSIONED = (
    "couplingkit",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "pandas",
    "pillow",
    "pycocotools",
)


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


def measure_layers(
    backbone: LayeredBackbone,
    probes: ProbeSet,
    *,
    batch_size: int = 32,
    eps: float = 1e-2,
    min_cells: float = 1.0,
    center: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    progress: bool = False,
) -> list[Measurement]:
    """Measure several layers of a network with one forward pass per image; arguments and errors as in `measure`.

    Returns:
        One measurement per layer, each the same as if that layer were measured alone.
    """
    check_range("batch_size", batch_size, 1)
    check_range("min_cells", min_cells, 0)
    fingerprint = probes.fingerprint(progress=progress)
    readings: list[list[Reading]] = [[] for _ in backbone.layers]
    tables: list[list[pd.DataFrame]] = [[] for _ in backbone.layers]
    shape: dict[str, Any] = {"size": backbone.size_px, "mean": backbone.mean, "device": backbone.device}
    with tqdm(total=len(probes), desc=backbone.name, unit="probe", disable=not progress) as bar:
        for numbers, probe in probes.batches(batch_size, **shape):
            batch = read_batch(backbone, probe)
            for layer, reading in zip(backbone.layers, batch, strict=True):
                check_finite(layer.name, reading, numbers, min_cells)
            del probe  # or two batches of pictures would lie in memory while the next is drawn
            if numbers.start == 0:
                check_zero_control(
                    backbone, probes.render(numbers, **shape), batch, numbers, eps=eps, min_cells=min_cells
                )
            for place, reading in enumerate(batch):
                if center:
                    readings[place].append(reading)
                else:
                    tables[place].append(_rates(reading, None, eps, min_cells))
            bar.update(len(numbers))
    if center:
        tables = [_centered_rates(of_layer, eps, min_cells) for of_layer in readings]
    settings = {"eps": eps, "min_cells": min_cells, "center": center, "level": level, "resamples": resamples}
    return [
        _measurement(layer, probes, pd.concat(of_layer, ignore_index=True), settings, fingerprint, batch_size)
        for layer, of_layer in zip(backbone.layers, tables, strict=True)
    ]


def _centered_rates(readings: list[Reading], eps: float, min_cells: float) -> list[pd.DataFrame]:
    shift = _mean_feature(readings, min_cells)
    return [_rates(reading, shift, eps, min_cells) for reading in readings]


def _mean_feature(readings: list[Reading], min_cells: float) -> Tensor:
    kept = [torch.cat([one.alone, one.partner])[one.readable(min_cells).repeat(2)] for one in readings]
    return torch.cat(kept).to(torch.float64).mean(dim=0)


def _rates(reading: Reading, shift: Tensor | None, eps: float, min_cells: float) -> pd.DataFrame:
    """Return a batch's rates as a table; rows that cannot be read are NaN."""

    def ready(vectors: Tensor) -> Tensor:
        centered = vectors if shift is None else vectors.to(torch.float64) - shift
        return torch.where(readable[:, None], centered, torch.nan)

    readable = reading.readable(min_cells)
    alone, partner = ready(reading.alone), ready(reading.partner)
    rates = coupling_rate(alone, ready(reading.together), partner, eps=eps)
    control = np.full(len(readable), np.nan)
    if reading.control is not None:
        control = coupling_rate(alone, ready(reading.control), partner, eps=eps).cr
    measured = ~np.isnan(rates.cr) & (~np.isnan(control) | (reading.control is None))
    columns = {**vars(rates), "cr_control": control}
    table = pd.DataFrame(
        {
            name: pd.Series(values, dtype="boolean" if values.dtype == bool else "float64")
            for name, values in columns.items()
        }
    )
    # A direction may be undefined (a feature of length 0) in one image only; then nothing of the row counts.
    table.loc[~measured] = pd.NA
    regions = {"cells_a": reading.cells_a, "cells_b": reading.cells_b, "outliers_a": reading.outliers}
    return table.assign(**{name: values.numpy() for name, values in regions.items()}, measured=measured)


def _measurement(
    backbone: DenseBackbone,
    probes: ProbeSet,
    table: pd.DataFrame,
    settings: dict[str, Any],
    fingerprint: str,
    batch_size: int,
) -> Measurement:
    measured = table["measured"].to_numpy(dtype=bool)
    if not measured.any():
        raise MeasurementError(
            f"none of the {len(probes)} probes can be measured with {backbone.name}: "
            f"{_too_few_cells(backbone, settings)}"
        )
    names = ("cr", "numerator", "denominator", "clipped_numerator", "clipped_denominator", "displacement")
    numbers = {name: table[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in (*names, "cr_control")}
    flags = {name: numbers[name] == 1 for name in names if name.startswith("clipped")}
    summary = summarize(
        CouplingRates(**{name: flags.get(name, numbers[name]) for name in names}),
        probes.source_images,
        Stream(probes.seed).child("bootstrap"),
        cr_control=numbers["cr_control"] if probes.spec.control else None,
        level=settings["level"],
        resamples=settings["resamples"],
    )
    provenance = {
        "model": backbone.provenance(),
        "probes": {
            "count": len(probes),
            "seed": probes.seed,
            "spec": vars(probes.spec),
            "eligibility": vars(probes.index.eligibility),
            "annotations": str(probes.index.path),
            "annotations_sha256": probes.index.sha256,
            "eligible_objects": len(probes.index.objects),
            "dropped": probes.index.dropped,
            "manifest_sha256": hashlib.sha256(probes.manifest().encode()).hexdigest(),
            "fingerprint": fingerprint,
        },
        "settings": {**settings, "batch_size": batch_size},
        "zero_control": {"probes": min(batch_size, len(probes)), "cr": 1.0},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}},
    }
    rows = _rows(backbone.name, probes, table)
    outlying = int((table["outliers_a"].to_numpy()[measured] > 0).sum())
    warnings = (*provenance["model"].get("notes", ()), *_warnings(backbone, summary, settings, outlying))
    return Measurement(backbone.name, rows, summary, provenance, warnings, probes.source_images)


def _rows(name: str, probes: ProbeSet, table: pd.DataFrame) -> pd.DataFrame:
    pairs = probes.pairs
    categories = [probes.categories(number) for number in range(len(pairs))]
    described = table.assign(
        model=name,
        probe=[pair.number for pair in pairs],
        annotation_a=[pair.annotation_a for pair in pairs],
        annotation_b=[pair.annotation_b for pair in pairs],
        annotation_c=pd.array([pair.annotation_c for pair in pairs], dtype="Int64"),
        category_a=[names[0] for names in categories],
        category_b=[names[1] for names in categories],
        gap=probes.spec.gap,
        direction=[pair.direction for pair in pairs],
    )
    return described[ROW_COLUMNS]


def _too_few_cells(backbone: DenseBackbone, settings: dict[str, Any]) -> str:
    return (
        f"a region keeps less than {settings['min_cells']:g} cells at stride {backbone.stride_px} px; a larger "
        "--image-size or --object-size, or a smaller stride, would measure them."
    )


def _warnings(
    backbone: DenseBackbone, summary: RateSummary, settings: dict[str, Any], outlying: int
) -> tuple[str, ...]:
    found = []
    lost = summary.probes - summary.measured
    if lost:
        found.append(f"{lost} of {summary.probes} probes not measured: {_too_few_cells(backbone, settings)}")
    clipped = summary.clipped_denominator
    if clipped > CLIPPED_LIMIT:
        found.append(
            f"{clipped:.0%} of the denominators are clipped at {settings['eps']:g} rad: cr_mean is a mean of ratios "
            "with such denominators and no measurement; read cr_of_means and cr_median."
        )
    if outlying > OUTLYING_LIMIT * summary.measured:
        found.append(
            f"in {outlying} of {summary.measured} probes some cells of A have over {OUTLIER:g} times the median norm "
            "of its region (ViTs without register tokens do this), and a mean over the region is not robust to them."
        )
    if np.isnan(summary.estimates["cr_mean"].low):
        found.append(f"the probes come from {summary.source_images} photos, too few for an interval.")
    if getattr(backbone, "precision", "float32") == "bfloat16":
        found.append("forward passes in bfloat16: cr_mean agrees with float32 within about 0.01.")
    return tuple(found)
