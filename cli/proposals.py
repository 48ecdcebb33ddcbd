"""`couplingkit proposals`: boxes that may hold an object, found once for the images that SoCo is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .asked import claim
from .command import Command
from .options import images_option, out_options, seed_option

__all__ = ["proposals"]


@click.command(cls=Command, short_help="Find boxes that may hold an object, for SoCo.")
@click.option("--data", required=True, help="As of `train`: a folder, an instances JSON, tar files, or scenes:COUNT.")
@images_option(required=False)
@seed_option
@click.option("--workers", type=click.IntRange(1, 1024), default=2, show_default=True, help="Processes.")
@click.option("--min-side", type=click.IntRange(1), default=32, show_default=True, help="Of a box, px of the image.")
@click.option("--max-aspect", default=3.0, show_default=True, help="Longer side / shorter side.")
@click.option("--min-size", default=0.3, show_default=True, help="Root of the box's share of the image.")
@click.option("--max-size", default=0.8, show_default=True, help="Likewise.")
@out_options("an .npz file", required=True)
def proposals(data: str, images: Path | None, seed: int, workers: int, out: Path, **options: Any) -> None:
    """Run selective search over the images of --data and keep the boxes that fit, for `train soco --proposals FILE`.

    The file says how it was made and of which images; an image in which no box fits has the whole image. Nothing is
    random or runs on a GPU here, so there is no --device.

    \b
    Example:
      couplingkit proposals --data photos/ --out photos-boxes.npz
      couplingkit train soco --data photos/ --recipe soco-coco-800ep --proposals photos-boxes.npz --out runs/soco
    """
    from ..errors import ArgumentError
    from ..training.corpus import open_corpus
    from ..training.proposals import WHOLE, ProposalRules, find_proposals, write_proposals

    overwrite = options.pop("overwrite")
    if out.suffix != ".npz":
        raise ArgumentError(f"out {out} must end in .npz.")
    claim(out, overwrite=overwrite, folder=False)
    rules = ProposalRules(**options)
    corpus = open_corpus(data, images=images, seed=seed)
    found = find_proposals(corpus, rules=rules, workers=workers, progress=True)
    write_proposals(out, found, overwrite=overwrite)
    without = sum(bool((found.of(number) == WHOLE).all()) for number in range(len(found)))
    click.echo(
        f"Wrote {len(found.boxes)} boxes of {len(found)} images to {out}; in {without} no box fits: the whole image.",
        err=True,
    )
