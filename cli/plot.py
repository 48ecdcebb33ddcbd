"""`couplingkit plot`: the figures of a finished run, drawn anew for the page that they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .asked import claim, named_figure
from .command import Command
from .options import look_options, overwrite_option, style_option, upsampling_option
from .words import PATH

__all__ = ["plot"]


@click.command(cls=Command, short_help="Draw the figures of a finished run anew, in the style of a conference.")
@click.argument("run", type=PATH)
@style_option
@click.option(
    "--width",
    type=click.Choice(["column", "page"]),
    help="One column of the style, or the page. [default: as each figure has it]",
)
@look_options
@upsampling_option
@click.option(
    "--format",
    "suffix",
    type=click.Choice(["pdf", "png", "svg"]),
    default="pdf",
    show_default=True,
    help="Of figures that go to a folder.",
)
@click.option(
    "--out", type=PATH, help="A figure (.pdf, .png, .svg) where RUN has one; or a folder. [default: RUN-plots]"
)
@overwrite_option
def plot(run: Path, suffix: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Draw the figures of RUN, a folder of any command, anew from its numbers: nothing is measured.

    \b
    Example:
      couplingkit plot runs/first --style cvpr
      couplingkit plot runs/affinity --style neurips --cmap viridis --overlay .6 --out fig3.pdf
    """
    from ..errors import ArgumentError
    from ..figures.plots import save_figure
    from ..figures.redrawing import drawings_of
    from ..figures.style import in_style
    from ..files import new_file, new_folder
    from .mapped import map_look

    single = named_figure(out)
    place = single or out or run.with_name(f"{run.name}-plots")
    claim(place, overwrite=overwrite, folder=single is None)
    look, style = map_look({**options, "width": options["width"] or "page"})
    drawings = drawings_of(run, look)
    if single is not None and len(drawings) != 1:
        raise ArgumentError(f"run {run} has {len(drawings)} figures ({', '.join(drawings)}); let --out be a folder.")
    with in_style(style):
        figures = {
            name: draw(style.column_in if (options["width"] or usual) == "column" else style.page_in)
            for name, (usual, draw) in drawings.items()
        }
        if single is not None:
            with new_file(single, overwrite=overwrite) as draft:
                save_figure(next(iter(figures.values())), draft)
            click.echo(f"Wrote {single}", err=True)
            return
        with new_folder(place, overwrite=overwrite) as folder:
            for name, figure in figures.items():
                save_figure(figure, folder / f"{name}.{suffix}")
    click.echo(f"Wrote {', '.join(f'{name}.{suffix}' for name in figures)} to {place}", err=True)
