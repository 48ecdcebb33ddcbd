"""What a measurement gives: rows, summary, provenance; and the paired difference of two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import MeasurementError, listed
from ..metrics.bootstrap import Estimate
from ..metrics.summary import RateSummary, paired_difference
from ..streams import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Measurement", "compare", "different_settings", "images_of", "same_probes"]


@dataclass(frozen=True)
class Measurement:
    """What one model gave on one set of probes.

    Attributes:
        name: of the model.
        rows: one row per probe, columns `ROW_COLUMNS`; values of probes that could not be measured are empty.
        summary: the published numbers with their intervals; every one derives from `rows`.
        provenance: what is needed to measure the same again, as JSON values.
        warnings: sentences that a reader of the numbers must know.
    """

    name: str
    rows: pd.DataFrame
    summary: RateSummary
    provenance: dict[str, Any]
    warnings: tuple[str, ...]

    @cached_property
    def cr(self) -> NDArray[np.float64]:
        """Coupling rate per probe, (N,), NaN where it could not be measured."""
        return self.rows["cr"].to_numpy(dtype=np.float64, na_value=np.nan)

    @cached_property
    def source_images(self) -> NDArray[np.int64]:
        """Ids of the photos of A, B (and C) of each probe: int64 (N, 2 or 3)."""
        return images_of(self.rows)

    def plot(self) -> Figure:
        """Draw the distribution of the coupling rate with its mean and interval."""
        from ..figures.plots import coupling_figure

        return coupling_figure([self])


def images_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the ids of the photos that each row was made of: int64 (N, 3), or (N, 2) without a control."""
    columns = ["image_a", "image_b", *([] if rows["image_c"].isna().any() else ["image_c"])]
    return rows[columns].to_numpy(dtype=np.int64)


def same_probes(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return in what two records of probes (`provenance["probes"]`) differ; nothing where they are the same probes."""
    if first["identity"] == second["identity"] and first["fingerprint"] == second["fingerprint"]:
        return []
    told = []
    for key in ("count", "seed", "spec", "eligibility", "annotations_sha256"):
        one, other = first[key], second[key]
        if isinstance(one, dict):
            told += [f"{name} {one[name]} and {other.get(name)}" for name in one if one[name] != other.get(name)]
        elif one != other:
            told.append(f"{key} {str(one)[:12]} and {str(other)[:12]}")
    return told or ["the pictures themselves (other photos, or other objects)"]


def different_settings(first: Measurement, second: Measurement) -> list[str]:
    """Return in which settings that move numbers two measurements differ."""
    one, other = first.provenance["settings"], second.provenance["settings"]
    return [f"{key} {other[key]} and {one[key]}" for key in ("eps", "min_cells", "center") if one[key] != other[key]]


def compare(first: Measurement, second: Measurement, *, seed: int = 0, level: float = 0.95) -> tuple[Estimate, int]:
    """Return the mean of first - second over the probes both measured, with its interval, and how many those are.

    Raises:
        MeasurementError: the two were not measured on the same probes.
    """
    apart = [*same_probes(first.provenance["probes"], second.provenance["probes"]), *different_settings(first, second)]
    if apart:
        raise MeasurementError(
            f"{first.name} and {second.name} were measured on different probes, or otherwise ({listed(apart)}); only "
            "what was measured alike can be paired."
        )
    stream = Stream(seed).child("bootstrap", "paired")
    return paired_difference(first.cr, second.cr, first.source_images, stream, level=level)
