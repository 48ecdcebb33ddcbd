"""The rows of one model in, its summary, provenance and warnings out: all that a table says derives from rows."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ArgumentError, MeasurementError, listed
from ..features.backbone import DenseBackbone
from ..metrics.coupling import SEEN
from ..metrics.summary import RateSummary, summarize
from ..probes.probeset import ProbeSet
from ..streams import Stream
from .alignment import LOCAL
from .controls import ControlRecord
from .measurement import Measurement
from .region_features import OUTLIER
from .rows import images_of
from .settings import OF_TABLES, MeasureSettings

__all__ = ["probes_record", "summarize_layer", "summarized_again", "summary_of"]

# Share of the probes with outlying cells above which the report says so.
OUTLYING_LIMIT = 0.05
VERSIONED = (
    *("couplingkit", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pillow", "pycocotools", "msgspec"),
)


def summarize_layer(
    backbone: DenseBackbone,
    probes: ProbeSet,
    rows: pd.DataFrame,
    settings: MeasureSettings,
    controls: ControlRecord,
) -> Measurement:
    """Return what one layer's rows say.

    Args:
        backbone: the layer.
        probes: what it was shown.
        rows: one per probe, columns `ROW_COLUMNS`.
        settings: of the measurement.
        controls: what they found.

    Raises:
        MeasurementError: no row is measured.
    """
    rows = rows.sort_values("probe", ignore_index=True)
    model = backbone.provenance()
    if not rows["measured"].any():
        raise MeasurementError(
            f"none of the {len(probes)} probes can be measured with {backbone.name}: {_too_few_cells(model, settings)}"
        )
    provenance = {
        "model": model,
        "probes": probes_record(probes),
        "settings": asdict(settings),
        "controls": asdict(controls),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONED}},
    }
    summary = summary_of(rows, settings, seed=probes.seed)
    warnings = _warnings(rows, summary, provenance, settings)
    return Measurement(backbone.name, rows, summary, provenance, warnings)


def summarized_again(measurement: Measurement, settings: MeasureSettings) -> Measurement:
    """Return the same rows with another eps, level or number of resamples; nothing is measured for it.

    Raises:
        ArgumentError: settings ask for other rows.
    """
    before = MeasureSettings(**measurement.provenance["settings"])
    if before.of_rows() != settings.of_rows():
        raise ArgumentError(f"settings may differ in {', '.join(OF_TABLES)} from those that rows were measured with.")
    provenance = measurement.provenance | {"settings": asdict(settings)}
    summary = summary_of(measurement.rows, settings, seed=provenance["probes"]["seed"])
    warnings = _warnings(measurement.rows, summary, provenance, settings)
    return replace(measurement, summary=summary, provenance=provenance, warnings=warnings)


def probes_record(probes: ProbeSet) -> dict[str, Any]:
    """Return what is needed to draw the same probes again, and to tell whether two sets are the same."""
    manifest = probes.manifest()
    return {
        "name": probes.name,
        "count": len(probes),
        "seed": probes.seed,
        "spec": probes.spec.stored(),
        "eligibility": probes.index.eligibility.stored(),
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
    columns = {name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in (*SEEN, "position")}
    return summarize(
        columns,
        images_of(rows),
        Stream(seed).child("bootstrap"),
        eps=settings.eps,
        level=settings.level,
        resamples=settings.resamples,
    )


def _too_few_cells(model: Mapping[str, Any], settings: MeasureSettings) -> str:
    cells = "1 cell" if settings.min_cells == 1 else f"{settings.min_cells:g} cells"
    return (
        f"a region keeps less than {cells} at stride {model['stride_px']} px; a larger `image_size` or `object_size`, "
        "or a smaller stride, would measure them."
    )


def _warnings(
    rows: pd.DataFrame, summary: RateSummary, provenance: Mapping[str, Any], settings: MeasureSettings
) -> tuple[str, ...]:
    model = provenance["model"]
    found = list(model.get("notes", ()))
    small = (rows["cells_a"] < settings.min_cells) | (rows["cells_b"] < settings.min_cells)
    small |= rows["cells_a"] * rows["cells_b"] == 0
    if small.any():
        found.append(f"{small.sum()} of {summary.probes} probes not measured: {_too_few_cells(model, settings)}")
    bare = summary.probes - summary.measured - int(small.sum())
    if bare > 0:
        found.append(
            f"{bare} of {summary.probes} probes not measured: a feature of them has no direction (its length is 0), or "
            "A's and B's are the same."
        )
    for name, reasons in summary.doubts.items():
        instead = "cr and turn do not depend on eps" if name == "cr_mean" else "turn is no such ratio"
        found.append(f"{name} is no measurement at eps {settings.eps:g} rad: {listed(reasons)}; {instead}.")
    if provenance["controls"]["aligned"] < LOCAL:
        found.append(
            f"the map hardly answers where objects are (correlation {provenance['controls']['aligned']:.2f} with their "
            "cells): features mix the whole picture, and whether the map is turned or shifted cannot be told."
        )
    outlying = int((rows["outliers_a"].to_numpy()[rows["measured"].to_numpy(dtype=bool)] > 0).sum())
    if model.get("tokens") and outlying > OUTLYING_LIMIT * summary.measured:
        found.append(
            f"in {outlying} of {summary.measured} probes some cells of A have over {OUTLIER:g} times the median norm "
            "of its region (ViTs without register tokens do this), and a mean over the region is not robust to them."
        )
    if np.isnan(summary.estimates["cr"].low):
        found.append(f"the probes come from {summary.source_images} photos, too few for an interval.")
    if "images_per_pass" in model:
        found.append(
            f"memory ran out: forward passes of {model['images_per_pass']} images instead of {settings.batch_size} "
            "from there on, which changes rounding and nothing else."
        )
    if model["precision"] == "bfloat16":
        moved = provenance["controls"]["other_batch_rad"]
        found.append(
            f"forward passes in bfloat16: another batch moved an angle by up to {moved:.1g} rad, and smaller "
            "differences say nothing; `precision=float32` is exact to 1e-6 rad."
        )
    return tuple(found)
