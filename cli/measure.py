"""`couplingkit measure`: the coupling rate of one or several models on the same probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .data_options import optional_data_options, probe_options
from .model_options import BACKBONE_OPTIONS, model_options
from .options import batch_size_option, format_option, out_options, seed_option

__all__ = ["measure"]


@click.command(short_help="Measure the coupling rate of models on your data.")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option(
    "--models",
    "zoo",
    type=click.Path(path_type=Path),
    help="TOML file with a [[model]] table each: name, and options of its own (label, layer, image_size, ...).",
)
@optional_data_options
@click.option(
    "--probes",
    default="500",
    show_default=True,
    metavar="NUMBER|SET",
    help="How many are drawn; or a manifest (`couplingkit probes make`), or its name (`couplingkit probes sets`).",
)
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
@click.pass_context
def measure(
    context: click.Context,
    /,
    models: tuple[str, ...],
    zoo: Path | None,
    form: str,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
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
      couplingkit measure --models zoo.toml --probes coco_val2017_5k.json --images val2017.zip --out runs/zoo
      torchrun --nproc-per-node 8 -m couplingkit measure dino.pth --probes scenes_500 --out runs/many

    Standard output has one row a model and the row of control:cell, which must be 1. The folder of --out gets rows.csv
    (one row per probe and model), summary.json (all numbers and their provenance), probes.json, coupling.png/.pdf, and
    extremes.npz (for `couplingkit report`). Rows are kept in OUT.unfinished as they come: a run that is stopped goes on
    with the same command and --out. torchrun shares the probes out over processes.
    """
    from .choices import Choice, check_choices, read_zoo
    from .measuring import measure_run
    from .probe_sets import open_probes
    from .session import default_out
    from .study_session import entered, join

    processes = join()
    common = {key: options[key] for key in BACKBONE_OPTIONS}
    choices = [Choice(name, common) for name in models] + (read_zoo(zoo, common) if zoo else [])
    if not choices:
        raise click.UsageError("name a MODEL, or a file of them with --models.")
    folder = processes.only_first(lambda: out or default_out("measure"))
    check_choices(choices, lenient=zoo is not None)
    with entered(processes, open_probes(context, options.pop("probes"), options)) as probes:
        measure_run(processes, folder, choices, probes, options, form=form, overwrite=overwrite)
