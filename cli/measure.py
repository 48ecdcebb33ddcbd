"""`couplingkit measure`: the coupling rate of one or several models on the same probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .data_options import data_options, probe_options
from .model_options import BACKBONE_OPTIONS, check_models, model_options
from .options import batch_size_option, format_option, out_options, seed_option

__all__ = ["measure"]


@click.command(short_help="Measure the coupling rate of models on your data.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@data_options
@click.option("--probes", "count", type=click.IntRange(1), default=500, show_default=True, help="How many probes.")
@probe_options
@model_options
@batch_size_option
@click.option("--eps", default=0.01, show_default=True, help="Smaller similarities count as this, in rad.")
@click.option(
    "--min-cells",
    default=1.0,
    show_default=True,
    help="A region of fewer feature cells cannot be measured; such probes are reported and counted.",
)
@click.option("--center", is_flag=True, help="For experts: subtract the mean feature first (clips denominators).")
@seed_option
@format_option
@out_options("runs/measure-DATE-TIME")
def measure(models: tuple[str, ...], count: int, form: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Measure the coupling rate of each MODEL, all on the same probes.

    A coupling rate of 1 means that an object's feature knows nothing of its neighbour; above 1 it moved towards it.

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

    Standard output has one row a model and the row of control:cell, which must be 1. The folder of --out gets rows.csv
    (one row per probe and model), summary.json (all numbers and their provenance), probes.json and coupling.png/.pdf.
    """
    from ..data.coco import Eligibility
    from ..figures.tables import render
    from ..files import check_free
    from ..probes.placement import ProbeSpec
    from ..probes.probeset import ProbeSet
    from .session import command_line, default_out, differences_to_first, measure_models, write_run

    folder = out or default_out("measure")
    check_free(folder, overwrite=overwrite)
    check_models(models, options)
    probes = ProbeSet.from_coco(
        options["annotations"],
        options["images"],
        count=count,
        seed=options["seed"],
        spec=ProbeSpec(
            **{key: options[key] for key in ("object_size", "gap", "canvas", "pairing", "visible", "control")}
        ),
        eligibility=Eligibility(options["min_area"], options["allow_border"]),
    )
    click.echo(f"{len(probes.index.objects)} eligible objects; {probes.index.what_was_dropped()}", err=True)
    backbone_options = {key: options[key] for key in BACKBONE_OPTIONS}
    settings = {key: options[key] for key in ("batch_size", "eps", "min_cells", "center")}
    measurements, failures = measure_models(models, probes, backbone_options, settings)
    differences = differences_to_first(measurements, seed=options["seed"])
    # To disk first: a reader of standard output may hang up.
    write_run(folder, measurements, probes, differences, overwrite=overwrite)
    click.echo(render(measurements, form, differences=differences, command=command_line()))
    for measurement in measurements:
        for warning in measurement.warnings:
            click.echo(f"Note on {measurement.name}: {warning}", err=True)
    zero = measurements[0].provenance["zero_control"]
    click.echo(
        f"Zero control: with B left out, CR is exactly 1 on each model's first {zero['probes']} probes.",
        err=True,
    )
    if failures:
        click.echo(f"{len(failures)} of {len(models)} models failed: {'; '.join(failures)}", err=True)
        raise SystemExit(2)
