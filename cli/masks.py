"""`couplingkit masks`: how much of real objects survives each way of cutting a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .asked import claim, default_out, eligibility
from .command import Command
from .options import annotations_option, border_option, format_option, min_area_option, out_options, seed_option
from .words import listed_values

__all__ = ["masks"]

strategies = listed_values(str, "strategies with commas, like blockwise,rcc")
ratios = listed_values(float, "numbers with commas, like .2,.4,.6")


@click.command(cls=Command, short_help="See how much of real objects survives each cutout strategy.")
@annotations_option(required=True)
@min_area_option
@border_option
@click.option("--strategy", default="blockwise,random,rcc", show_default=True, callback=strategies, help="With commas.")
@click.option("--ratio", default=".2,.4,.6", show_default=True, callback=ratios, help="Cut, with commas.")
@click.option("--grid", type=click.IntRange(2, 256), default=14, show_default=True, help="Cells along each side.")
@click.option("--draws", type=click.IntRange(1, 10**6), default=20, show_default=True, help="Masks per photo, setting.")
@seed_option
@format_option
@out_options("runs/masks-DATE-TIME")
def masks(annotations: Path, form: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Cut every annotated photo by each strategy and ratio, and say what is left of its objects.

    rcc is Region Collaborative Cutout, blockwise is BEiT's, random cuts single cells. An object with more than 95 % cut
    counts as erased: a loss that asks for its features then asks for what only its surroundings can tell.

    \b
    Example:
      couplingkit masks --annotations instances.json --strategy blockwise,random,rcc --ratio .2,.4,.6

    The folder of --out gets rows.csv (one row per object and setting), summary.json and survival.png/.pdf.
    """
    from ..figures.plots import figure_files
    from ..figures.survival_plots import survival_figure, survival_text
    from ..runs.pictures import read_index
    from ..runs.survival import survival_document, write_survival
    from ..training.cutout import check_strategy
    from ..training.survival import ERASED, object_survival
    from ..typed_files import json_text

    folder = out or default_out("masks")
    claim(folder, overwrite=overwrite)
    for strategy in options["strategy"]:
        check_strategy(strategy)
    for ratio in options["ratio"]:
        if not 0 < ratio < 1:
            raise click.BadParameter(f"--ratio {ratio:g} must lie between 0 and 1.")
    index = read_index(annotations, eligibility(options))
    pairs = [(strategy, ratio) for ratio in options["ratio"] for strategy in options["strategy"]]
    grid = (options["grid"], options["grid"])
    parts = object_survival(index, pairs, grid=grid, draws=options["draws"], seed=options["seed"], progress=True)
    figure = survival_figure({(part.strategy, part.ratio): part.visible for part in parts}, erased_below=1 - ERASED)
    settings = {key: options[key] for key in ("grid", "draws", "seed", "min_area", "allow_border")}
    document = survival_document(parts, index, settings)
    write_survival(folder, parts, document, files=figure_files({"survival": figure}), overwrite=overwrite)
    click.echo(f"Wrote rows.csv, summary.json and survival.png/.pdf to {folder}", err=True)
    click.echo(json_text(document).rstrip() if form == "json" else survival_text(document["masks"], form))
