"""`couplingkit measure`: the coupling rate of one or several models on the same probes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim, default_out, measure_settings, model_choices, probe_spec, probes_choice
from .command import Command, as_options, given_names
from .options import (
    batch_size_option,
    columns_option,
    data_options,
    eps_option,
    format_option,
    label_option,
    min_cells_option,
    model_options,
    out_options,
    probe_options,
    probes_option,
    seed_option,
    some_models_argument,
    zoo_option,
)
from .words import say_where, terminal_width

if TYPE_CHECKING:
    from ..runs.records import Run
    from ..runs.writing import Writer

__all__ = ["coupling_files", "end", "measure"]


@click.command(cls=Command, short_help="Measure the coupling rate of models on your data.")
@some_models_argument
@zoo_option
@data_options(required=False)
@probes_option
@probe_options
@model_options
@label_option
@batch_size_option
@eps_option
@min_cells_option
@click.option(
    "--position",
    is_flag=True,
    help="Measure how far an object's feature depends on its place, too: four more forward passes a probe.",
)
@click.option("--center", is_flag=True, help="For experts: subtract the mean feature first (clips denominators).")
@seed_option
@format_option
@columns_option
@out_options("runs/measure-DATE-TIME")
def measure(
    models: tuple[str, ...],
    zoo: Path | None,
    form: str,
    columns: tuple[str, ...] | None,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Measure the coupling rate of each MODEL, all on the same probes.

    Two objects are cut out and pasted apart and side by side. The coupling rate (cr) says how much more similar their
    features are side by side: above 1 they are coupled. At or below 1 they may be, too: a decoupled model has a low
    specificity, leak and displacement, all three (docs/coupling.md).

    \b
    MODEL is one of
      FILE                  a checkpoint; its format and architecture are recognised
      ARCH@FILE             weights from a file (.pth, .safetensors), read safely
      ARCH,KEY=VALUE@FILE   the same, with a setting of the architecture
      NAME, timm:NAME       a timm architecture with its pretrained weights
      hf-hub:ORG/NAME       the same from the Hugging Face hub
      torchvision:NAME      likewise from torchvision
      transformers:NAME     a vision model of Hugging Face transformers
      hub:CLONE:ENTRY       an entry of the hubconf.py in a local clone
      FOLDER                as timm or transformers save a model, or a run of `couplingkit train`
      bundled:ibot          a small ViT that comes with couplingkit; bundled:ibot-d is its decoupled version
      random:ARCH           random weights, from --seed
      control:cell          a network that cannot couple
      control:leak:0.2[:32] one with a planted leak (and its reach in px)

    `couplingkit backbones` lists the names, `couplingkit inspect` says how a model will be read.

    \b
    Example:
      couplingkit measure dino_vitsmall16.pth moco_v2_800ep.pth.tar random:vit_small_patch16_224 \\
          --annotations instances.json --images images/ --probes 500 --out runs/first
      couplingkit measure --models zoo.toml --probes coco_val2017_5k.json --images val2017.zip --out runs/zoo
      torchrun --nproc-per-node 8 -m couplingkit measure dino.pth --probes scenes_500 --out runs/many

    Standard output has one row a model and the row of control:cell, which must be 1. The folder of --out gets rows.csv
    (one row per probe and model), summary.json (all numbers and their provenance), probes.json, coupling.png/.pdf, and
    extremes.npz (for `couplingkit report`). Rows are kept in OUT.unfinished as they come: a run that is stopped goes on
    with the same command and --out. torchrun shares the probes out over processes.
    """
    from ..figures.tables import columns_chosen
    from ..runs.measuring import RunPlace, measure_models
    from ..runs.probe_sets import open_probes
    from ..runs.session import entered, joined_processes

    with joined_processes() as processes:
        folder = processes.only_first(lambda: out or default_out("measure"))
        processes.only_first(lambda: claim(folder, overwrite=True))
        columns_chosen(columns or ())
        choices = model_choices(models, options, zoo)
        with entered(processes, open_probes(probes_choice(options, probe_spec(options)))) as probes:
            place = RunPlace(folder, overwrite, coupling_files, "eps" in given_names())
            settings = measure_settings(options)
            run = measure_models(choices, probes, settings, place=place, processes=processes, progress=True)
        if processes.first:
            end(run, form, columns or ())


def coupling_files(run: Run) -> Mapping[str, Writer]:
    """Return what writes the figures of a run."""
    from ..figures.plots import coupling_figure, figure_files

    return figure_files({"coupling": coupling_figure(run.measurements)})


def end(run: Run, form: str, columns: tuple[str, ...]) -> None:
    """Print what a run found, and what its reader must know; exit code 2 where a model failed."""
    from ..errors import counted
    from ..figures.tables import controls_line, render

    say_where(run, "rows.csv, summary.json, probes.json, extremes.npz, coupling.png/.pdf")
    click.echo(render(run, form, columns=columns, width=terminal_width()))
    for measurement in run.measurements:
        for warning in measurement.warnings:
            click.echo(as_options(f"Note on {measurement.name}: {warning}"), err=True)
    for measurement in run.measurements:
        click.echo(f"Controls of {measurement.name}: {controls_line(measurement)}", err=True)
    if run.failures:
        count = len(run.identity["models"])
        again = "The same command tries them again."
        click.echo(
            f"{len(run.failures)} of {counted(count, 'model')} failed: {'; '.join(run.failures)} {again}", err=True
        )
        raise SystemExit(2)
