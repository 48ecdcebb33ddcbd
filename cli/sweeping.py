"""The run of `couplingkit sweep`: its place, axis by axis and model by model, what is written and said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CouplingKitError, listed
from .choices import Choice, each_choice
from .measuring import identity_of
from .probe_sets import open_probes
from .session import command_line
from .study_session import described, entered, study_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..features.backbone import LayeredBackbone
    from ..probes.placement import ProbeSpec
    from ..probes.probeset import ProbeSet
    from ..study import Processes, RunFolder, SweepPoint

__all__ = ["sweep_run"]

SETTINGS = ("batch_size", "eps", "min_cells")


@contextmanager
def _pairs(
    context: click.Context, axes: dict[str, tuple[Any, ...]], options: dict[str, Any]
) -> Iterator[tuple[ProbeSet, ProbeSpec]]:
    """Give the pairs, and the look that stays where nothing is swept."""
    from ..probes.placement import ProbeSpec
    from ..study import drawing_spec

    looks = {key: axes[key] for key in ("gap", "visible", "canvas", "object_size")}
    probes = options.pop("probes")
    if probes.isdecimal():
        # What `measure` shows by default, where it is among the values.
        usual = vars(ProbeSpec())
        held = {key: usual[key] if usual[key] in values else values[0] for key, values in looks.items()}
        base = ProbeSpec(**held, pairing=options["pairing"], control=options["control"])
        spec = vars(drawing_spec(base, axes))  # type: ignore[arg-type]
        with open_probes(context, probes, options | spec) as found:
            yield found, base
        return
    # What is swept is not decided by the set; what is not, is.
    swept = [key for key, values in axes.items() if len(values) > 1]
    with open_probes(context, probes, options, free=swept) as found:
        yield found, found.spec


def sweep_run(
    processes: Processes,
    context: click.Context,
    folder: Path,
    choices: Sequence[Choice],
    axes: dict[str, tuple[Any, ...]],
    options: dict[str, Any],
    *,
    form: str,
    overwrite: bool,
) -> None:
    """Measure models along axes, write the run's folder and print the table; exit code 2 where anything failed."""
    swept = {axis: values for axis, values in axes.items() if len(values) > 1}
    with entered(processes, _pairs(context, axes, options)) as (probes, base):
        identity = identity_of(choices, probes, options, axes={key: list(values) for key, values in axes.items()})
        with study_session(folder, identity, overwrite=overwrite, processes=processes) as run:
            if run.finished:
                click.echo(
                    f"{folder} holds the results of this very run: nothing to do. (--overwrite makes them anew.)"
                )
                return
            click.echo(f"Where it is not swept: {_held(base, axes)}", err=True)
            points, failures = _measured(choices, swept, probes, base, options, run, processes)
            if not processes.first:
                return
            if not points:
                raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
            more = {"run": identity, "failures": failures, "held": _held(base, axes)}
            _write(folder, points, probes, more, overwrite=overwrite or folder.exists())
            if not failures:
                run.close()
            _print(points, form)
            if failures:
                click.echo(f"{len(failures)} failed: {'; '.join(failures)}", err=True)
                raise SystemExit(2)


def _held(base: ProbeSpec, axes: dict[str, tuple[Any, ...]]) -> str:
    looks = [f"{key} {getattr(base, key)}" for key in ("gap", "visible", "canvas", "object_size")]
    return ", ".join([*looks, f"layer {axes['layer'][0] if len(axes['layer']) == 1 else 'last'}"])


def _measured(
    choices: Sequence[Choice],
    swept: dict[str, tuple[Any, ...]],
    probes: ProbeSet,
    base: ProbeSpec,
    options: dict[str, Any],
    run: RunFolder,
    processes: Processes,
) -> tuple[list[SweepPoint], list[str]]:
    from ..study import share_digests

    points: list[SweepPoint] = []
    failures: list[str] = []
    settings = {key: options[key] for key in SETTINGS}
    # What cannot be had along any axis is refused before hours are spent on the others.
    works = {
        axis: _along(axis, values, probes, base, settings, run, processes, failures) for axis, values in swept.items()
    }
    if probes.promised:
        share_digests(probes, processes, progress=True)
    for axis, values in swept.items():
        work = works[axis]
        layer = {"layer": ",".join(values)} if axis == "layer" else {}
        asked = [replace(choice, options=choice.options | layer) for choice in choices]
        found, lost = each_choice(asked, work, processes=processes)
        points += found
        failures += lost
    return points, failures


def _along(
    axis: Any,
    values: tuple[Any, ...],
    probes: ProbeSet,
    base: ProbeSpec,
    settings: dict[str, Any],
    run: RunFolder,
    processes: Processes,
    failures: list[str],
) -> Callable[[LayeredBackbone], list[SweepPoint]]:
    """Return what is done with each model along one axis."""
    from ..study import share_digests, sweep, sweep_variants

    variants = [probes.vary(**vars(base))] if axis == "layer" else sweep_variants(probes, base, axis, values)

    def work(backbone: LayeredBackbone) -> list[SweepPoint]:
        for variant in variants:
            share_digests(variant, processes, progress=True)
        looks = [[variant.manifest().identity(), variant.fingerprint()] for variant in variants]
        parts = run.parts(described(backbone), looks, settings)
        shared: dict[str, Any] = {"processes": processes, "parts": parts, "progress": True}
        found, lost = sweep(backbone, variants, axis, values, **shared, **settings)
        name = backbone.name.partition(" (layer ")[0]
        failures.extend(f"{name}, {sentence}" for sentence in lost)
        return [replace(point, measurement=replace(point.measurement, name=name)) for point in found]

    return work


def _write(
    folder: Path, points: Sequence[SweepPoint], probes: ProbeSet, more: dict[str, Any], *, overwrite: bool
) -> None:
    import pandas as pd

    from ..figures.plots import save_figure
    from ..figures.sweep_plots import sweep_figure, sweep_numbers
    from ..figures.tables import summary_document
    from ..files import new_folder

    places = [{"axis": point.axis, "value": point.value} for point in points]
    document = summary_document([point.measurement for point in points], command=command_line()) | more
    for place, told in zip(places, document["models"], strict=True):
        told |= place
    axes = list(dict.fromkeys(point.axis for point in points))
    with new_folder(folder, overwrite=overwrite) as draft:
        rows = [
            point.measurement.rows.assign(model=point.measurement.name, axis=point.axis, value=str(point.value))
            for point, place in zip(points, places, strict=True)
        ]
        table = pd.concat(rows)
        table[["axis", "value", *[name for name in table if name not in ("axis", "value")]]].to_csv(
            draft / "rows.csv", index=False
        )
        sweep_numbers(points).to_csv(draft / "sweep.csv", index=False)
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        (draft / "probes.json").write_text(probes.manifest().text())
        for axis in axes:
            figure = sweep_figure([point for point in points if point.axis == axis])
            for suffix in ("png", "pdf"):
                save_figure(figure, draft / f"sweep-{axis}.{suffix}")
    pictures = ", ".join(f"sweep-{axis}.png/.pdf" for axis in axes)
    click.echo(f"Wrote rows.csv, sweep.csv, summary.json, probes.json, {pictures} to {folder}", err=True)


def _print(points: Sequence[SweepPoint], form: str) -> None:
    from ..figures.sweep_plots import sweep_text, uneven
    from ..figures.tables import summary_document

    if form == "json":
        document = summary_document([point.measurement for point in points], command=command_line())
        for point, told in zip(points, document["models"], strict=True):
            told |= {"axis": point.axis, "value": point.value}
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(sweep_text(points, form))
    for sentence in uneven(points):
        click.echo(f"Note: {sentence}", err=True)
    noted: dict[str, list[str]] = {}
    for point in points:
        for warning in point.measurement.warnings:
            noted.setdefault(warning, []).append(f"{point.measurement.name} at {point.axis} {point.value}")
    for warning, places in noted.items():
        click.echo(f"Note on {listed(places, most=3)}: {warning}", err=True)
