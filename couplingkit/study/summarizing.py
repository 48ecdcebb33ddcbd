"""The rows of one model in, its summary, provenance and warnings out: all that a table says derives from rows."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from ..errors import MeasurementError
from ..features.backbone import DenseBackbone
from ..metrics.summary import RateSummary, summarize
from ..probes.probeset import ProbeSet
from ..streams import Stream
from .measurement import Measurement
from .region_features import OUTLIER
from .rows import columns_of, images_of
from .settings import MeasureSettings

__all__ = ["probes_record", "summarize_layer", "summary_of"]

# Share of the probes with outlying cells above which the report says so.
OUTLYING_LIMIT = 0.05
VERSIONED = (
    *("couplingkit", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pillow", "pycocotools", "msgspec"),
)


def summarize_layer(
    backbone: DenseBackbone, probes: ProbeSet, rows: pd.DataFrame, settings: MeasureSettings
) -> Measurement:
    """Return what one layer's rows say.

    Args:
        backbone: the layer.
        probes: what it was shown.
        rows: one per probe, columns `ROW_COLUMNS`.
        settings: of the measurement.

    Raises:
        MeasurementError: no row is measured.
    """
    rows = rows.sort_values("probe", ignore_index=True)
    measured = rows["measured"].to_numpy(dtype=bool)
    if not measured.any():
        raise MeasurementError(
            f"none of the {len(probes)} probes can be measured with {backbone.name}: "
            f"{_too_few_cells(backbone, settings)}"
        )
    summary = summary_of(rows, settings, seed=probes.seed)
    provenance = {
        "model": backbone.provenance(),
        "probes": probes_record(probes),
        "settings": asdict(settings),
        "zero_control": {"probes": min(settings.batch_size, len(probes)), "cr": 1.0},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}},
    }
    outlying = int((rows["outliers_a"].to_numpy()[measured] > 0).sum())
    warnings = (*provenance["model"].get("notes", ()), *_warnings(backbone, summary, settings, outlying))
    return Measurement(backbone.name, rows, summary, provenance, warnings)


def probes_record(probes: ProbeSet) -> dict[str, Any]:
    """Return what is needed to draw the same probes again, and to tell whether two sets are the same."""
    manifest = probes.manifest()
    return {
        "name": probes.name,
        "count": len(probes),
        "seed": probes.seed,
        "spec": asdict(probes.spec),
        "eligibility": asdict(probes.index.eligibility),
        "annotations": str(probes.index.path),
        "annotations_sha256": probes.index.sha256,
        "images": str(probes.store.photos.path),
        "eligible_objects": len(probes.index.objects),
        "dropped": probes.index.dropped,
        "identity": manifest.identity(),
        "fingerprint": manifest.fingerprint,
    }


def summary_of(rows: pd.DataFrame, settings: MeasureSettings, *, seed: int) -> RateSummary:
    """Return every quantity of the table for rows.

    Args:
        rows: columns `ROW_COLUMNS`.
        settings: with level and resamples.
        seed: of the bootstrap.
    """
    return summarize(
        columns_of(rows),
        images_of(rows),
        Stream(seed).child("bootstrap"),
        level=settings.level,
        resamples=settings.resamples,
    )


def _too_few_cells(backbone: DenseBackbone, settings: MeasureSettings) -> str:
    return (
        f"a region keeps less than {settings.min_cells:g} cells at stride {backbone.stride_px} px; a larger "
        "`image_size` or `object_size`, or a smaller stride, would measure them."
    )


def _warnings(
    backbone: DenseBackbone, summary: RateSummary, settings: MeasureSettings, outlying: int
) -> tuple[str, ...]:
    found = []
    lost = summary.probes - summary.measured
    if lost:
        found.append(f"{lost} of {summary.probes} probes not measured: {_too_few_cells(backbone, settings)}")
    if summary.marks("cr_mean"):
        found.append(
            f"{summary.clipped_denominator:.0%} of the denominators are clipped at {settings.eps:g} rad: cr_mean is a "
            "mean of ratios with such denominators and no measurement; read cr_of_means and cr_median."
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
