"""What a measurement gives: rows, summary, provenance; and in what two of them are alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ArgumentError, MeasurementError, listed, near
from ..html_text import table_html
from ..metrics.bootstrap import Estimate
from ..metrics.quantities import QUANTITIES, Columns, Quantity
from ..metrics.summary import RESOLUTION_RAD, PairedQuantity, RateSummary, paired_quantity
from ..streams import Stream
from .rows import columns_of, images_of

__all__ = [
    "SETTINGS",
    "Measurement",
    "check_alike",
    "compare",
    "compared",
    "different_probes",
    "different_settings",
    "paired",
]

# What two measurements may differ in, and may be meant to: of the model, of the arithmetic, of the probes' look.
SETTINGS = (
    *("image_size", "layer", "norm", "stride", "precision", "normalisation"),
    *("eps", "min_cells", "center"),
    *("object_size", "gap", "canvas", "visible"),
)
LOOK = ("object_size", "gap", "canvas", "visible")


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

    def _repr_html_(self) -> str:
        notes = [*self.summary.foot_notes(), *(f"Note: {warning}" for warning in self.warnings)]
        headings = ["quantity", "value", "interval"]
        return table_html(headings, self.summary.table_rows(), caption=self.name, notes=notes)

    @cached_property
    def cr(self) -> NDArray[np.float64]:
        """Coupling rate per probe, (N,), similarities below eps counted as eps; NaN where it could not be measured."""
        return np.asarray(self.columns["cr"], dtype=np.float64)

    @cached_property
    def eps(self) -> float:
        """Smallest similarity that rates count, rad."""
        return float(self.provenance["settings"]["eps"])

    @cached_property
    def columns(self) -> Columns:
        """What quantities are made of: name -> (N,); see `metrics.coupling.derived_columns`."""
        return columns_of(self.rows, self.eps)

    @property
    def resolution_rad(self) -> float:
        """To what its angles are known, rad: rounding, or what another batch was seen to move them by."""
        moved = self.provenance.get("controls", {}).get("other_batch_rad") or 0.0
        return max(RESOLUTION_RAD, float(moved))

    @cached_property
    def source_images(self) -> NDArray[np.int64]:
        """Ids of the photos of A, B (and C) of each probe: int64 (N, 2 or 3)."""
        return images_of(self.rows)


def different_probes(first: Measurement, second: Measurement) -> list[str]:
    """Return in what the probes of two measurements differ but their look; nothing where probes can be paired."""
    ids = ["probe", "annotation_a", "annotation_b", "direction"]
    if first.rows[ids].equals(second.rows[ids]):
        one, other = first.provenance["probes"], second.provenance["probes"]
        look = [key for key in LOOK if one["spec"][key] != other["spec"][key]]
        # Where the look is the same, the pictures are, too, or the photos are others.
        if look or (one["identity"], one["fingerprint"]) == (other["identity"], other["fingerprint"]):
            return []
    return _told_apart(first.provenance["probes"], second.provenance["probes"])


def _told_apart(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    found = []
    for key in ("count", "seed", "spec", "eligibility", "annotations_sha256"):
        left, right = one[key], other[key]
        if isinstance(left, dict):
            found += [f"{name} {left[name]} and {right.get(name)}" for name in left if left[name] != right.get(name)]
        elif left != right:
            found.append(f"{key} {str(left)[:12]} and {str(right)[:12]}")
    return found or ["the pictures themselves (other photos, or other objects)"]


def different_settings(first: Measurement, second: Measurement) -> dict[str, str]:
    """Return the settings in which two measurements differ: name (of `SETTINGS`) -> what they are.

    What was left to a model's own default is a property of that model; what was chosen is a setting.
    """
    one, other = _settings_of(first), _settings_of(second)
    found = {key: f"{key} {one[key]} and {other[key]}" for key in one if one[key] != other[key]}
    same = [measurement.provenance["model"].get("weights_sha256") for measurement in (first, second)]
    if same[0] is None or same[0] != same[1]:
        # Of different weights only what was chosen can be compared: each has a normalisation and a norm of its own.
        chosen = [measurement.provenance["model"].get("chosen", {}) for measurement in (first, second)]
        for name, keys in {"normalisation": ("mean", "std"), "norm": ("norm",), "stride": ("output_stride",)}.items():
            if not any(choice.get(key) is not None for choice in chosen for key in keys):
                found.pop(name, None)
    return found


def _settings_of(measurement: Measurement) -> dict[str, Any]:
    model, settings = measurement.provenance["model"], measurement.provenance["settings"]
    spec = measurement.provenance["probes"]["spec"]
    height, width = model["image_size"]
    shown = {
        "image_size": f"{height} x {width}",
        "layer": _layer(str(model.get("layer", "last"))),
        "norm": model.get("norm", "none"),
        "stride": model["stride_px"],
        "precision": model["precision"],
        "normalisation": f"{model['mean']}, {model['std']}",
    }
    return shown | {key: settings[key] for key in ("eps", "min_cells", "center")} | {key: spec[key] for key in LOOK}


def _layer(label: str) -> str:
    """Return `last` for the last of several, however many there are."""
    index, _, last = label.partition(" of 0..")
    return "last" if index == last else label


def check_alike(first: Measurement, second: Measurement, *, across: Collection[str] = ()) -> None:
    """Raise `MeasurementError` unless two measurements are of the same probes, and differ in nothing that is not meant.

    Args:
        first: one of them.
        second: the other.
        across: settings (of `SETTINGS`) in which they are meant to differ.
    """
    for name in across:
        if name not in SETTINGS:
            now = " (it is called image_size now)" if name == "size" else near(name, SETTINGS)
            raise ArgumentError(f"across must be of {', '.join(SETTINGS)}, not {name!r}{now}.")
    apart = different_probes(first, second)
    if apart:
        raise MeasurementError(
            f"{second.name} and {first.name} were measured on different probes: {listed(apart)}; only the same can be "
            "paired."
        )
    unmeant = {name: told for name, told in different_settings(first, second).items() if name not in across}
    if unmeant:
        raise MeasurementError(
            f"{first.name} and {second.name} were measured with other settings: {listed(unmeant.values())}; measure "
            f"them alike, or say that it is meant: `across={','.join(unmeant)}`."
        )


def compare(
    first: Measurement,
    second: Measurement,
    quantity: str = "cr",
    *,
    across: Collection[str] = (),
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Estimate, int]:
    """Return a quantity of the first minus that of the second over the probes that both measured, with its interval.

    Args:
        first: one measurement.
        second: the other.
        quantity: of the table (`metrics.quantities`).
        across: settings in which the two are meant to differ.
        seed: of the bootstrap.
        level: of the interval.

    Returns:
        The estimate, and how many probes both measured.

    Raises:
        MeasurementError: the two were not measured on the same probes, or not alike.
    """
    found = compared(first, second, quantity, across=across, seed=seed, level=level)
    return found.estimate, found.probes


def compared(
    first: Measurement,
    second: Measurement,
    quantity: str = "cr",
    *,
    across: Collection[str] = (),
    seed: int = 0,
    level: float = 0.95,
) -> PairedQuantity:
    """Return what `compare` does with a p-value, and whether it is below resolution; arguments and errors as there."""
    if quantity not in QUANTITIES:
        raise ArgumentError(f"quantity must be one of {', '.join(QUANTITIES)}, not {quantity!r}.")
    check_alike(first, second, across=across)
    stream = Stream(seed).child("bootstrap", "paired")
    found = paired(first, second, QUANTITIES[quantity], stream, level=level)
    if found is None:
        raise ArgumentError(f"first and second have no measured probe of {quantity} in common; there is no difference.")
    return found


def paired(
    first: Measurement,
    second: Measurement,
    quantity: Quantity,
    stream: Stream,
    *,
    level: float = 0.95,
    among: NDArray[np.bool_] | None = None,
) -> PairedQuantity | None:
    """Return a quantity of one measurement minus that of another of the same probes; None where nothing can be paired.

    Args:
        first: one of them.
        second: the other.
        quantity: of the table.
        stream: of the bootstrap.
        level: of the interval.
        among: bool (N,), the probes that count; all by default.
    """
    columns, others = first.columns, second.columns
    if not (quantity.known_from(columns) and quantity.known_from(others)):
        return None
    return paired_quantity(
        quantity,
        columns,
        others,
        first.source_images,
        stream,
        level=level,
        among=among,
        resolution_rad=max(first.resolution_rad, second.resolution_rad),
    )
