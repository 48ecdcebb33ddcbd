"""One axis of the probes' look (or of the layers) and a backbone in, one measurement per value out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import ArgumentError, CouplingKitError, MeasurementError, listed
from ..features.layered import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..probes.spec import ProbeSpec
from ..processes import ALONE, Processes
from .measurement import Measurement
from .measuring import variant_rows
from .rows import Parts
from .settings import MeasureSettings
from .summarizing import summarize_layer

__all__ = ["AXES", "Axis", "SweepPoint", "drawing_spec", "sweep", "sweep_variants"]

Axis = Literal["gap", "visible", "canvas", "object_size", "layer"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True)
class SweepPoint:
    """One model at one value of one axis.

    Attributes:
        axis: what is swept.
        value: where it stands.
        measurement: what came out; its `name` is the model's, without the layer.
    """

    axis: Axis
    value: Any
    measurement: Measurement


def drawing_spec(base: ProbeSpec, axes: dict[Axis, Sequence[Any]]) -> ProbeSpec:
    """Return the look for which pairs are drawn, so that they serve all values of all axes.

    A control object must fit beside A at the largest objects and the widest gap; a photo lies behind the pair if one is
    asked for anywhere.
    """
    gaps = [base.gap, *axes.get("gap", ())]
    sizes = [base.object_size, *axes.get("object_size", ())]
    canvases = [base.canvas, *axes.get("canvas", ())]
    # What hides a part of A cannot be read both ways.
    hidden = min(axes.get("visible", ()), default=1.0) < 1 and base.design == "auto"
    return ProbeSpec(
        object_size=max(sizes),
        gap=max(gaps),
        canvas="image" if "image" in canvases else base.canvas,
        pairing=base.pairing,
        visible=base.visible,
        control=base.control,
        design="pairs" if hidden else base.design,
    )


def sweep_variants(probes: ProbeSet, base: ProbeSpec, axis: Axis, values: Sequence[Any]) -> list[ProbeSet]:
    """Return the same pairs at each value of an axis (not the layer); everything else as `base` has it.

    Along `gap`, A stays where it is for the widest gap, and B moves.

    Raises:
        ArgumentError: a value cannot be had.
    """
    room = max(values) if axis == "gap" else None
    look: dict[str, Any] = {**asdict(base), "room": room}
    return [probes.vary(**{**look, axis: value}) for value in values]


def sweep(
    backbone: LayeredBackbone,
    variants: Sequence[ProbeSet],
    axis: Axis,
    values: Sequence[Any],
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    processes: Processes = ALONE,
    parts: Parts | None = None,
    progress: bool = False,
) -> tuple[list[SweepPoint], list[str]]:
    """Measure along an axis; images that do not depend on it are rendered for each value but run once.

    Args:
        backbone: the network; along `layer` it has one layer per value.
        variants: one per value (`sweep_variants`); along `layer` a single one.
        axis: what is swept.
        values: of the axis.
        settings: as in `measure`.
        processes: that share the work.
        parts: where rows are kept as they come.
        progress: whether to show a bar.

    Returns:
        One point per value at which anything could be measured, and a sentence for each other one.

    Raises:
        MeasurementError: a control fails, features are not finite, or no value can be measured.
    """
    expected = (1, len(values)) if axis == "layer" else (len(values), 1)
    if (len(variants), len(backbone.layers)) != expected:
        raise ArgumentError(
            f"values of {axis} are {len(values)}, but come with {len(variants)} variants and {len(backbone.layers)} "
            "layers; there must be one of either per value."
        )
    rows, controls = variant_rows(backbone, variants, settings, processes=processes, parts=parts, progress=progress)
    points, failures = [], []
    for index, value in enumerate(values):
        variant, layer = (0, index) if axis == "layer" else (index, 0)
        try:
            measured = summarize_layer(
                backbone.layers[layer], variants[variant], rows[variant][layer], settings, controls
            )
            points.append(SweepPoint(axis, value, measured))
        except CouplingKitError as error:
            failures.append(f"{axis} {value}: {error}")
    if not points:
        raise MeasurementError(f"no value of {axis} can be measured: {listed(failures, most=1)}")
    return points, failures
