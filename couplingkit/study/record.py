"""What a measurement gives: rows, summary, provenance; and the paired difference of two of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import MeasurementError
from ..metrics.bootstrap import Estimate
from ..metrics.summary import RateSummary, paired_difference
from ..streams import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ROW_COLUMNS", "Measurement", "compare"]

ROW_COLUMNS = [
    *("model", "probe", "annotation_a", "annotation_b", "annotation_c", "category_a", "category_b", "gap", "direction"),
    *("cells_a", "cells_b", "outliers_a", "numerator", "denominator", "cr", "cr_control", "displacement"),
    *("clipped_numerator", "clipped_denominator", "measured"),
]


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
        from ..figures.plots import coupling_figure

        return coupling_figure([self])


def compare(first: Measurement, second: Measurement, *, seed: int = 0, level: float = 0.95) -> tuple[Estimate, int]:
    """Return the mean of first - second over the probes both measured, with its interval, and how many those are.

    Raises:
        MeasurementError: the two were not measured on the same probes.
    """
    one, other = first.provenance["probes"], second.provenance["probes"]
    # The fingerprint is of the pictures on gray, the manifest of what else was asked for.
    if any(one[key] != other[key] for key in ("fingerprint", "manifest_sha256")):
        raise MeasurementError(
            f"{first.name} and {second.name} were measured on different probes; only the same ones can be paired."
        )
    stream = Stream(seed).child("bootstrap", "paired")
    return paired_difference(first.cr, second.cr, first.source_images, stream, level=level)
