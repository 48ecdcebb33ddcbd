"""Names of models, probes and axes in, a run with one measurement per model and value out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

from ..errors import ArgumentError, CouplingKitError
from ..features.layered import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..probes.spec import ProbeSpec
from ..processes import ALONE, Processes
from ..study.measuring import share_digests
from ..study.settings import MeasureSettings
from ..study.sweeping import AXES, Axis, SweepPoint, sweep, sweep_variants
from .measuring import RunPlace, as_asked, as_choices, described, identity_of, taken_place
from .models import ModelChoice, each_model
from .records import Run
from .workspace import Workspace
from .writing import command_line, dropped_files, write_run

__all__ = ["held_fixed", "points_of", "sweep_models"]

log = logging.getLogger(__name__)
Axes = Mapping[Axis, Sequence[Any]]


@dataclass(frozen=True)
class _Sweep:
    """What a sweep is made of, for each of its axes."""

    probes: ProbeSet
    base: ProbeSpec
    settings: MeasureSettings
    workspace: Workspace | None
    processes: Processes
    progress: bool
    failures: list[str]


def sweep_models(
    models: Sequence[str | ModelChoice],
    probes: ProbeSet,
    axes: Axes,
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    base: ProbeSpec | None = None,
    place: RunPlace | None = None,
    processes: Processes = ALONE,
    progress: bool = False,
) -> Run:
    """Measure models along every axis that has several values, one axis at a time, as `couplingkit sweep` does.

    Args:
        models: names as `load_backbone` takes them, or choices with options and labels of their own.
        probes: the pairs; they must serve all values (`drawing_spec`).
        axes: gap, visible, canvas, object_size or layer -> its values.
        settings: of the measurement.
        base: the look where nothing is swept; that of the probes by default.
        place: where the run is written; without one it is not.
        processes: that share the work.
        progress: whether to show bars.

    Raises:
        ArgumentError: nothing is swept, or a value cannot be had.
        CouplingKitError: not one model could be measured, or the place is taken.
    """
    choices, look = as_choices(models), base or probes.spec
    swept: dict[Axis, Sequence[Any]] = {axis: axes[axis] for axis in AXES if len(axes.get(axis, ())) > 1}
    if not swept:
        raise ArgumentError(f"axes must have one of {', '.join(AXES)} with several values; there is nothing to sweep.")
    held = held_fixed(look, axes)
    work = partial(_swept, choices, swept)
    made = _Sweep(probes, look, settings, None, processes, progress, [])
    if place is None:
        return _concluded(work(made), made, held)
    identity = identity_of(choices, probes, settings, axes={axis: list(values) for axis, values in axes.items()})
    with taken_place(place, identity, processes) as taken:
        if isinstance(taken, Run):
            return as_asked(taken, settings, probes, place, processes)
        log.info("Where it is not swept: %s", held)
        made = replace(made, workspace=taken)
        run = replace(_concluded(work(made), made, held), identity=identity)
        if processes.first:
            overwrite = place.overwrite or taken.replaces
            files = {**place.draw(run), **dropped_files(probes.index.faults)}
            write_run(place.out, run, probes.manifest(), files=files, overwrite=overwrite)
            if not run.failures:
                taken.close()
        return replace(run, folder=place.out)


def held_fixed(base: ProbeSpec, axes: Axes) -> str:
    """Return in words what stays where it is not swept."""
    looks = [f"{key} {getattr(base, key)}" for key in ("gap", "visible", "canvas", "object_size")]
    layers = axes.get("layer", ("last",))
    return ", ".join([*looks, f"layer {layers[0] if len(layers) == 1 else 'last'}"])


def _swept(choices: Sequence[ModelChoice], swept: Axes, made: _Sweep) -> list[SweepPoint]:
    # What cannot be had along any axis is refused before hours are spent on the others.
    works = {axis: _along(axis, values, made) for axis, values in swept.items()}
    if made.probes.promised:
        share_digests(made.probes, made.processes, progress=made.progress)
    points: list[SweepPoint] = []
    for axis, values in swept.items():
        asked = [
            replace(choice, options=replace(choice.options, layer=",".join(map(str, values))))
            if axis == "layer"
            else choice
            for choice in choices
        ]
        measured, lost = each_model(asked, works[axis], processes=made.processes)
        points += measured
        made.failures.extend(lost)
    if not points:
        raise CouplingKitError(f"no model could be used: {' '.join(made.failures)}")
    return points


def _along(axis: Axis, values: Sequence[Any], made: _Sweep) -> Callable[[LayeredBackbone], list[SweepPoint]]:
    """Return what is done with each model along one axis."""
    base = made.base
    shared: dict[str, Any] = {"processes": made.processes, "progress": made.progress}
    variants = (
        [made.probes.vary(**asdict(base))] if axis == "layer" else sweep_variants(made.probes, base, axis, values)
    )

    def work(backbone: LayeredBackbone) -> list[SweepPoint]:
        for variant in variants:
            share_digests(variant, **shared)
        parts = None
        if made.workspace is not None:
            looks = [[variant.manifest().identity(), variant.fingerprint()] for variant in variants]
            parts = made.workspace.parts(described(backbone), looks, made.settings.of_rows())
        points, lost = sweep(backbone, variants, axis, values, made.settings, parts=parts, **shared)
        name = backbone.name.partition(" (layer ")[0]
        made.failures.extend(f"{name}, {sentence}" for sentence in lost)
        return [
            replace(
                point,
                measurement=replace(point.measurement, name=name, rows=point.measurement.rows.assign(model=name)),
            )
            for point in points
        ]

    return work


def _concluded(points: Sequence[SweepPoint], made: _Sweep, held: str) -> Run:
    return Run(
        tuple(point.measurement for point in points),
        tuple((point.axis, point.value) for point in points),
        tuple(made.failures),
        held=held,
        command=command_line(),
    )


def points_of(run: Run) -> list[SweepPoint]:
    """Return the points of a sweep."""
    places = zip(run.measurements, run.places, strict=True)
    return [
        SweepPoint(cast(Axis, place[0]), place[1], measurement) for measurement, place in places if place is not None
    ]
