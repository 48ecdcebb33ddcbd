"""Probes and a backbone in, rates out: rows, summary and provenance, with the controls that make them credible."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .errors import MeasurementError, check_range
from .features.backbone import DenseBackbone
from .features.regions import masked_mean, region_weights
from .metrics.coupling import CouplingRates, coupling_rate
from .metrics.summary import Estimate, RateSummary, paired_difference, summarize
from .probes.probeset import ProbeSet
from .probes.triplet import Probe
from .streams import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ROW_COLUMNS", "Measurement", "compare", "measure"]

ROW_COLUMNS = (
    "model probe annotation_a annotation_b annotation_c category_a category_b gap direction cells_a cells_b "
    "numerator denominator cr cr_control displacement clipped_numerator clipped_denominator measured"
).split()
# Above this share of clipped denominators a mean of ratios is not a measurement.
CLIPPED_LIMIT = 0.05
VERSIONED = ("couplingkit", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pillow", "pycocotools")


@dataclass(frozen=True)
class Measurement:
    """What one model gave on one set of probes.

    Attributes:
        name: of the model.
        rows: one row per probe, columns `ROW_COLUMNS`; values of probes that could not be measured are empty.
        summary: the published numbers with their intervals; every one derives from `rows`.
        provenance: what is needed to measure the same again, as JSON values.
        warnings: sentences that a reader of the numbers must know.
        source_images: int64 (N, 2 or 3), photos of A, B (and C) of each probe.
    """

    name: str
    rows: pd.DataFrame
    summary: RateSummary
    provenance: dict[str, Any]
    warnings: tuple[str, ...]
    source_images: NDArray[np.int64]

    @cached_property
    def cr(self) -> NDArray[np.float64]:
        """Coupling rate per probe, (N,), NaN where it could not be measured."""
        return self.rows["cr"].to_numpy(dtype=np.float64, na_value=np.nan)

    def plot(self) -> Figure:
        """Draw the distribution of the coupling rate with its mean and interval."""
        from .figures.plots import coupling_figure

        return coupling_figure([self])


@dataclass(frozen=True)
class _Pooled:
    """Region features of a batch, on the CPU: z_A1, z_A2, z_A3, z_B (n, D), and the regions' sizes in cells (n,)."""

    alone: Tensor
    together: Tensor
    control: Tensor | None
    partner: Tensor
    cells_a: Tensor
    cells_b: Tensor

    def named(self) -> Iterator[tuple[str, Tensor]]:
        yield from (("A alone", self.alone), ("A beside B", self.together), ("B alone", self.partner))
        if self.control is not None:
            yield "A beside C", self.control


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
    check_range("batch_size", batch_size, 1)
    check_range("min_cells", min_cells, 0)
    fingerprint = probes.fingerprint()
    batches = []
    with tqdm(total=len(probes), desc=backbone.name, unit="probe", disable=not progress) as bar:
        for numbers, probe in probes.batches(
            batch_size, side=backbone.side_px, mean=backbone.mean, device=backbone.device
        ):
            pooled = _pool(backbone, probe)
            _check_finite(backbone.name, pooled, numbers, min_cells)
            if not batches:
                _check_zero(backbone, probes, numbers, pooled, eps, min_cells)
            batches.append(pooled if center else _rates(pooled, None, eps, min_cells))
            bar.update(len(numbers))
    if center:
        shift = _mean_feature([batch for batch in batches if isinstance(batch, _Pooled)], min_cells)
        batches = [_rates(batch, shift, eps, min_cells) for batch in batches if isinstance(batch, _Pooled)]
    table = pd.concat([batch for batch in batches if isinstance(batch, pd.DataFrame)], ignore_index=True)
    settings = {"eps": eps, "min_cells": min_cells, "center": center, "level": level, "resamples": resamples}
    return _measurement(backbone, probes, table, settings, fingerprint, batch_size)


def compare(first: Measurement, second: Measurement, *, seed: int = 0, level: float = 0.95) -> tuple[Estimate, int]:
    """Return the mean of first - second over the probes both measured, with its interval, and how many those are.

    Raises:
        MeasurementError: the two were not measured on the same probes.
    """
    if first.provenance["probes"]["fingerprint"] != second.provenance["probes"]["fingerprint"]:
        raise MeasurementError(
            f"{first.name} and {second.name} were measured on different probes; only the same ones can be paired."
        )
    stream = Stream(seed).child("bootstrap", "paired")
    return paired_difference(first.cr, second.cr, first.source_images, stream, level=level)


def _pool(backbone: DenseBackbone, probe: Probe) -> _Pooled:
    """Run the images of a batch through the network, each once, and pool A's and B's regions."""
    # B's and C's cells see them directly; leaving both out gives z_A1, z_A2 and z_A3 the same cells.
    beside_a = probe.mask_b if probe.mask_c is None else probe.mask_b | probe.mask_c
    weights: tuple[Tensor, Tensor] | None = None
    vectors: dict[str, Tensor] = {}
    images = {"alone": probe.alone, "together": probe.together, "control": probe.control, "partner": probe.partner}
    for role, batch in images.items():
        if batch is None:
            continue
        features = backbone(batch)
        if weights is None:
            grid = (features.shape[-2], features.shape[-1])
            stride = backbone.stride_px
            weights = (
                region_weights(probe.mask_a, beside_a, stride_px=stride, grid=grid),
                region_weights(probe.mask_b, probe.mask_a, stride_px=stride, grid=grid),
            )
        vectors[role] = masked_mean(features, weights[1] if role == "partner" else weights[0]).cpu()
    assert weights is not None
    cells_a, cells_b = (weight.sum(dim=(-2, -1)).cpu() for weight in weights)
    return _Pooled(
        vectors["alone"], vectors["together"], vectors.get("control"), vectors["partner"], cells_a, cells_b
    )


def _readable(pooled: _Pooled, min_cells: float) -> Tensor:
    # A region of 0 cells has no mean, even where the limit is 0.
    return (pooled.cells_a >= min_cells) & (pooled.cells_b >= min_cells) & (pooled.cells_a * pooled.cells_b > 0)


def _check_finite(name: str, pooled: _Pooled, numbers: range, min_cells: float) -> None:
    readable = _readable(pooled, min_cells)
    for role, vectors in pooled.named():
        # Cells of weight 0 take part in the sum, so one NaN anywhere in a map shows here.
        broken = readable & ~torch.isfinite(vectors).all(dim=1)
        if broken.any():
            raise MeasurementError(
                f"{name} gives NaN or infinite features for probe {numbers[int(broken.nonzero()[0])]} ({role}); "
                "check its weights, or measure with --precision float32."
            )


def _check_zero(
    backbone: DenseBackbone, probes: ProbeSet, numbers: range, pooled: _Pooled, eps: float, min_cells: float
) -> None:
    """Measure the first batch once more with B left out: the same images, so a rate of exactly 1."""
    again = probes.render(numbers, side=backbone.side_px, mean=backbone.mean, device=backbone.device)
    beside_a = again.mask_b if again.mask_c is None else again.mask_b | again.mask_c
    features = backbone(again.alone)
    grid = (features.shape[-2], features.shape[-1])
    weights = region_weights(again.mask_a, beside_a, stride_px=backbone.stride_px, grid=grid)
    repeated = masked_mean(features, weights).cpu()
    rates = coupling_rate(pooled.alone, repeated, pooled.partner, eps=eps)
    wrong = np.flatnonzero(_readable(pooled, min_cells).numpy() & ~np.isnan(rates.cr) & (rates.cr != 1))
    if wrong.size:
        raise MeasurementError(
            f"zero control of {backbone.name} failed: with B left out the coupling rate of probe {numbers[wrong[0]]} is "
            f"{rates.cr[wrong[0]]:.9g} and must be exactly 1; the network gives different features for the same image "
            "(is dropout on, or a kernel not deterministic?), so none of its rates can be trusted."
        )


def _mean_feature(batches: list[_Pooled], min_cells: float) -> Tensor:
    kept = [torch.cat([batch.alone, batch.partner])[_readable(batch, min_cells).repeat(2)] for batch in batches]
    return torch.cat(kept).to(torch.float64).mean(dim=0)


def _rates(pooled: _Pooled, shift: Tensor | None, eps: float, min_cells: float) -> pd.DataFrame:
    """Return a batch's rates as a table; rows that cannot be read are NaN."""

    def ready(vectors: Tensor) -> Tensor:
        centered = vectors if shift is None else vectors.to(torch.float64) - shift
        return torch.where(readable[:, None], centered, torch.nan)

    readable = _readable(pooled, min_cells)
    alone, partner = ready(pooled.alone), ready(pooled.partner)
    rates = coupling_rate(alone, ready(pooled.together), partner, eps=eps)
    control = np.full(len(readable), np.nan)
    if pooled.control is not None:
        control = coupling_rate(alone, ready(pooled.control), partner, eps=eps).cr
    measured = ~np.isnan(rates.cr) & (~np.isnan(control) | (pooled.control is None))
    columns = {**vars(rates), "cr_control": control}
    table = pd.DataFrame(
        {name: pd.Series(values, dtype="boolean" if values.dtype == bool else "float64") for name, values in columns.items()}
    )
    # A direction may be undefined (a feature of length 0) in one image only; then nothing of the row counts.
    table.loc[~measured] = pd.NA
    return table.assign(cells_a=pooled.cells_a.numpy(), cells_b=pooled.cells_b.numpy(), measured=measured)


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
            f"none of the {len(probes)} probes can be measured with {backbone.name}: {_too_few_cells(backbone, settings)}"
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
    warnings = _warnings(backbone, summary, settings)
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


def _warnings(backbone: DenseBackbone, summary: RateSummary, settings: dict[str, Any]) -> tuple[str, ...]:
    found = []
    lost = summary.probes - summary.measured
    if lost:
        found.append(f"{lost} of {summary.probes} probes not measured: {_too_few_cells(backbone, settings)}")
    clipped = summary.clipped_denominator
    if clipped > CLIPPED_LIMIT:
        found.append(
            f"{clipped:.0%} of the denominators are clipped at {settings['eps']:g} rad: cr_mean is a mean of ratios with "
            "such denominators and no measurement; read cr_of_means and cr_median."
        )
    if np.isnan(summary.estimates["cr_mean"].low):
        found.append(f"the probes come from {summary.source_images} photos, too few for an interval.")
    if getattr(backbone, "precision", "float32") == "bfloat16":
        found.append("forward passes in bfloat16: cr_mean agrees with float32 within about 0.01.")
    return tuple(found)
