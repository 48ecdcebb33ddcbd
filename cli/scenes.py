"""`couplingkit scenes`: a procedural dataset in COCO's format."""

from __future__ import annotations

from pathlib import Path

import click

from .command import Command
from .options import out_options, seed_option

__all__ = ["scenes"]


@click.command(cls=Command, short_help="Write a procedural dataset in COCO's format.")
@click.option("--images", "count", type=click.IntRange(1), default=100, show_default=True, help="How many pictures.")
@click.option("--width", type=click.IntRange(32, 4096), default=384, show_default=True, help="Of each picture, px.")
@click.option("--height", type=click.IntRange(32, 4096), default=320, show_default=True, help="Of each picture, px.")
@seed_option
@out_options("scenes")
def scenes(count: int, width: int, height: int, seed: int, out: Path | None, overwrite: bool) -> None:
    """Write pictures of shaded, textured objects with exact masks: images/ and instances.json.

    Sixteen categories; four pairs of them mostly stand side by side, so that there is something to couple. Scene 17 of
    a seed is the same however many are written. Any tool that reads COCO reads them. (Runs on the CPU alone.)

    \b
    Example:
      couplingkit scenes --images 1000 --out scenes
      couplingkit measure random:resnet18 --annotations scenes/instances.json --images scenes/images
    """
    from ..data.scenes import write_scenes

    annotations, images = write_scenes(
        out or Path("scenes"),
        count=count,
        seed=seed,
        width=width,
        height=height,
        overwrite=overwrite,
        progress=True,
    )
    click.echo(f"Wrote {count} images to {images} and {annotations}")
