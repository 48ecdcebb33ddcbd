"""`couplingkit backbones`: what can be named."""

from __future__ import annotations

from pathlib import Path

import click

from .asked import claim
from .command import Command
from .options import out_options

__all__ = ["backbones"]

SOURCES = """\
FILE                    a checkpoint of MoCo, ReSim, DenseCL, PLRC, SoCo, iBOT, DINO(v2), MAE, MaskAlign or couplingkit;
                        ResNet-18/34/50/101/152, ViT-Ti/S/B/L/H/g and Swin-T/S/B/L are recognised from the weights
ARCH@FILE               any architecture below, with weights from a file
hf-hub:ORG/NAME         timm's models on the Hugging Face hub
transformers:NAME       vision models of Hugging Face transformers (pip install 'couplingkit[transformers]')
hub:CLONE:ENTRY         an entry of the hubconf.py in a local clone of a project
FOLDER                  what timm or transformers saved, or a run of `couplingkit train`
bundled:NAME            a small ViT that comes with couplingkit: ibot, and its decoupled version ibot-d
random:ARCH             random weights, from --seed
control:cell, control:leak:AMOUNT[:REACH]   networks whose coupling is known"""


@click.command(cls=Command, short_help="List the models that can be named.")
@click.option("--search", default="", help="Only architectures with all of these words in their name or family.")
@click.option("--failing", is_flag=True, help="Only architectures that cannot be measured, or not at every layer.")
@click.option(
    "--format", "form", type=click.Choice(["table", "csv"]), default="table", show_default=True, help="Of the list."
)
@out_options("only printed")
def backbones(search: str, failing: bool, form: str, out: Path | None, overwrite: bool) -> None:
    """List the architectures of timm and torchvision that can be named, with what their maps are like.

    Stride and channels are of the last layer's map at the native input, as measured. `layers` is how many --layer can
    choose from (0: it takes the names of submodules). `other sizes` says how --image-size is served; `square
    only` where a non-square one is not. Nothing is drawn or run here, so there is no --seed and no --device. --out
    gets the list as CSV.

    \b
    Example:
      couplingkit backbones --search "dinov2 small"
      couplingkit backbones --search torchvision: --format csv
    """
    from dataclasses import asdict

    import pandas as pd

    from ..errors import ArgumentError
    from ..features.catalogue import catalogue_text, search_catalogue
    from ..files import new_file

    if out is not None:
        claim(out, overwrite=overwrite, folder=False, mark=catalogue_text([]).encode())
    found = [entry for entry in search_catalogue(search) if entry.problem or not failing]
    if not found:
        raise ArgumentError(f"search {search!r} matches no architecture of timm or torchvision; try fewer words.")
    if out is not None:
        with new_file(out, overwrite=overwrite, mark=catalogue_text([]).encode()) as draft:
            draft.write_text(catalogue_text(found), encoding="utf-8")
        click.echo(f"Wrote {out}", err=True)
    if form == "csv":
        click.echo(catalogue_text(found).rstrip())
        return
    table = pd.DataFrame([asdict(entry) for entry in found])
    table.insert(0, "model", [entry.name if entry.source == "timm" else f"torchvision:{entry.name}" for entry in found])
    table["parameters"] = [f"{entry.parameters / 1000:.1f} M" for entry in found]
    shown = table.drop(columns=["source", "name"]).rename(columns={"other_sizes": "other sizes"})
    click.echo(shown.to_string(index=False, max_colwidth=60))
    if not search and not failing:
        click.echo(f"\n{len(found)} architectures. What else can be named:\n{SOURCES}")
