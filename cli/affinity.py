"""`couplingkit affinity`: what a point of a photo is similar to, as a figure, and scored against masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim, default_out, model_choices, named_figure
from .command import Command
from .mapped import check_words, map_look, mapped
from .options import (
    batch_size_option,
    data_options,
    fit_option,
    format_option,
    image_option,
    label_option,
    look_options,
    model_options,
    models_argument,
    out_options,
    point_option,
    probe_options,
    seed_option,
    style_option,
    upsampling_option,
    width_option,
)

if TYPE_CHECKING:
    from ..runs.affinity import AffinityRun

__all__ = ["affinity"]


@click.command(cls=Command, short_help="Draw what a point of a photo is similar to, and score it against masks.")
@models_argument
@image_option
@point_option
@click.option(
    "--rows",
    multiple=True,
    metavar="PHOTO@X,Y|FILE.toml",
    help="Rows of the figure, in place of --image and --point; a TOML has [[row]] tables: image, point, caption.",
)
@data_options(required=False)
@click.option("--examples", type=click.IntRange(1, 40), default=6, show_default=True, help="Objects that are drawn.")
@click.option("--objects", type=click.IntRange(0), default=200, show_default=True, help="Scored, at most; 0: none.")
@click.option("--probe", type=click.IntRange(0, 99_999), help="Draw this probe instead: without B, with B.")
@probe_options
@fit_option
@upsampling_option
@look_options
@style_option
@width_option
@label_option
@model_options
@batch_size_option
@seed_option
@format_option
@out_options("runs/affinity-DATE-TIME")
def affinity(models: tuple[str, ...], form: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Draw, for points of photos, how similar each MODEL's features are at every other place (cosine).

    A row per point, a column per model. MODEL is as in `couplingkit measure`; `--layer 3,7,11` gives three columns.

    \b
    Points of your own:
      couplingkit affinity vit.pth resnet50 --image photo.jpg --point 212,140 --point 60,88 --out affinity.pdf
    A row per photo, each with its own point, and short names above the columns:
      couplingkit affinity ibot.pth ibot-d.pth --label iBOT --label iBOT-D --rows cat.jpg@212,140 --rows dog.jpg@60,88
    Points inside annotated objects, which are scored against their masks, too:
      couplingkit affinity vit.pth resnet50 --annotations instances.json --images images/ --out runs/affinity
    What changes when B stands beside A, in the probe that `measure` calls 17:
      couplingkit affinity vit.pth --probe 17 --annotations instances.json --images images/ --out probe.pdf

    --out is a figure (.png, .pdf, .svg) or a folder. A folder gets affinity.png/.pdf, the raw maps (maps.npz) and
    summary.json; with annotations also rows.csv (one row per object and model) and categories.csv, and the scores are
    printed: how well affinity finds the object (AUROC, average precision), and how much of it leaks onto the nearest
    other object.
    """
    from ..features.names import split_layers
    from ..figures.affinity_plots import run_figure
    from ..figures.map_layout import check_columns
    from ..figures.plots import figure_files, save_figure
    from ..figures.style import in_style
    from ..files import new_file
    from ..runs.affinity_files import write_affinity

    check_words(options)
    figure_path = named_figure(out)
    place = figure_path or out or default_out("affinity")
    claim(place, overwrite=overwrite, folder=figure_path is None)
    look, style = map_look(options)
    bars = "below" if look.colour_range == "model" else "beside"
    check_columns(len(models) * len(split_layers(options["layer"])), look.width_in, bars=bars)
    run = mapped(model_choices(models, options), options, scored=figure_path is None)
    with in_style(style):
        figure = run_figure(run, look=look)
    if figure_path is not None:
        with new_file(figure_path, overwrite=overwrite) as draft:
            save_figure(figure, draft)
        click.echo(f"Wrote {figure_path}", err=True)
    else:
        write_affinity(place, run, files=figure_files({"affinity": figure}), overwrite=overwrite)
        click.echo(f"Wrote affinity.png/.pdf, maps.npz and tables to {place}", err=True)
    _end(run, form)


def _end(run: AffinityRun, form: str) -> None:
    from ..figures.score_tables import render_scores

    for finding in run.findings:
        click.echo(finding)
    if run.scores:
        click.echo(render_scores(run.scores, form, differences=run.differences, document=run.document))
    if run.failures:
        click.echo(f"{len(run.failures)} failed: {'; '.join(run.failures)}", err=True)
        raise SystemExit(2)
