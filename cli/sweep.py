"""`couplingkit sweep`: the coupling rate along gaps, visible shares, canvases, object sizes and layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim, default_out, measure_settings, model_choices, probes_choice
from .command import Command, given_names
from .options import (
    batch_size_option,
    data_options,
    eps_option,
    format_option,
    label_option,
    min_cells_option,
    model_options,
    out_options,
    pair_options,
    probes_option,
    seed_option,
    some_models_argument,
    zoo_option,
)
from .words import listed_values, say_where, terminal_width

if TYPE_CHECKING:
    from ..probes.spec import ProbeSpec
    from ..runs.records import Run
    from ..runs.writing import Writer

__all__ = ["sweep"]

LOOKS = ("gap", "visible", "canvas", "object_size")


def _values(read: Any) -> Any:
    return listed_values(read, "a value, or several with commas between them")


@click.command(cls=Command, short_help="Measure along gaps, visible shares, canvases, object sizes, layers.")
@some_models_argument
@zoo_option
@data_options(required=False)
@probes_option
@click.option("--gap", callback=_values(int), default="16", show_default=True, help="In units, like 0,16,32,64.")
@click.option("--visible", callback=_values(float), default="1", show_default=True, help="Share of A, like 1,.8,.6,.4.")
@click.option("--canvas", callback=_values(str), default="mean", show_default=True, help="Like mean,noise,image.")
@click.option("--object-size", callback=_values(int), default="80", show_default=True, help="In units, like 48,64,80.")
@pair_options
@model_options
@label_option
@batch_size_option
@eps_option
@min_cells_option
@seed_option
@format_option
@out_options("runs/sweep-DATE-TIME")
def sweep(
    models: tuple[str, ...], zoo: Path | None, form: str, out: Path | None, overwrite: bool, **options: Any
) -> None:
    """Measure each MODEL along every option that has several values, one at a time.

    Where an option is not swept it has the value of `measure` if that is among its values, else its first; a set of
    --probes decides by itself. Images that do not depend on what is swept go through the network once; --layer 3,7,11
    takes one pass. Along --gap, A stands where the widest gap needs it and B moves, so that a gap's row there is not
    that of `measure`, nor of the other axes.

    \b
    Examples:
      couplingkit sweep dino.pth moco.pth --annotations instances.json --images images/ --gap 0,16,32,64 --out sweep
      couplingkit sweep bundled:ibot bundled:ibot-d --probes scenes_500 --visible 1,.8,.6,.4 --layer 0,1,2,3

    The folder of --out gets rows.csv (one row per probe, model and value), sweep.csv (one row per model and value),
    summary.json, probes.json, and sweep-AXIS.png/.pdf. A run that is stopped goes on with the same command and --out.
    """
    from ..runs.measuring import RunPlace
    from ..runs.probe_sets import open_probes
    from ..runs.session import entered, joined_processes
    from ..runs.sweeping import sweep_models
    from ..study.sweeping import drawing_spec

    layers = tuple(part.strip() for part in options["layer"].split(","))
    axes: dict[Any, Any] = {name: options[name] for name in LOOKS} | {"layer": layers}
    swept = [axis for axis, values in axes.items() if len(values) > 1]
    if not swept:
        raise click.UsageError(
            "give several values with commas to --gap, --visible, --canvas, --object-size or --layer."
        )
    with joined_processes() as processes:
        folder = processes.only_first(lambda: out or default_out("sweep"))
        processes.only_first(lambda: claim(folder, overwrite=True))
        choices = model_choices(models, options | {"layer": layers[0] if len(layers) == 1 else "last"}, zoo)
        base = _base(axes, options)
        # What is swept is not decided by a set; what is not, is.
        asked = probes_choice(options, drawing_spec(base, axes), free=swept)
        with entered(processes, open_probes(asked)) as probes:
            look = base if asked.probes.isdecimal() else replace(probes.spec)
            place, settings = RunPlace(folder, overwrite, _files, "eps" in given_names()), measure_settings(options)
            run = sweep_models(
                choices, probes, axes, settings, base=look, place=place, processes=processes, progress=True
            )
        if processes.first:
            _end(run, form)


def _base(axes: Mapping[Any, Any], options: dict[str, Any]) -> ProbeSpec:
    """Return the look that stays: what `measure` shows by default, where it is among the values."""
    from ..probes.spec import ProbeSpec

    usual = asdict(ProbeSpec())
    held = {key: usual[key] if usual[key] in axes[key] else axes[key][0] for key in LOOKS}
    return ProbeSpec(**held, pairing=options["pairing"], control=options["control"], design=options["design"])


def _files(run: Run) -> Mapping[str, Writer]:
    from ..figures.plots import figure_files
    from ..figures.sweep_plots import sweep_figure, sweep_numbers
    from ..runs.sweeping import points_of

    points = points_of(run)
    axes = dict.fromkeys(point.axis for point in points)
    figures = {f"sweep-{axis}": sweep_figure([point for point in points if point.axis == axis]) for axis in axes}
    return {"sweep.csv": lambda path: sweep_numbers(points).to_csv(path, index=False), **figure_files(figures)}


def _end(run: Run, form: str) -> None:
    from ..figures.sweep_plots import sweep_notes, sweep_render

    axes = dict.fromkeys(place[0] for place in run.places if place is not None)
    pictures = ", ".join(f"sweep-{axis}.png/.pdf" for axis in axes)
    say_where(run, f"rows.csv, sweep.csv, summary.json, probes.json, {pictures}")
    click.echo(sweep_render(run, form, width=terminal_width()))
    for note in sweep_notes(run):
        click.echo(note, err=True)
    if run.failures:
        click.echo(f"{len(run.failures)} failed: {'; '.join(run.failures)}", err=True)
        raise SystemExit(2)
