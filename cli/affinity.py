"""`couplingkit affinity`: what a point of a photo is similar to, as a figure, and scored against masks."""

from __future__ import annotations

import math
from typing import Any

import click

from .data_options import fit_option, image_option, optional_data_options, probe_options
from .model_options import BACKBONE_OPTIONS, check_models, label_option, model_options
from .options import batch_size_option, format_option, out_options, seed_option
from .pictures import point

__all__ = ["affinity"]


def colour_range(_context: click.Context, _parameter: click.Parameter, value: str) -> str | tuple[float, float]:
    """Read `shared`, `per-panel` or `0,1`."""
    if value in ("shared", "per-panel"):
        return value
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not shared, per-panel or LOW,HIGH like 0,1.") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise click.BadParameter(f"{value!r} must be two finite numbers that go up, like 0,1.")
    return low, high


@click.command(short_help="Draw what a point of a photo is similar to, and score it against masks.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@image_option
@click.option("--point", "points", multiple=True, callback=point, metavar="X,Y", help="A query on each --image, px.")
@optional_data_options
@click.option("--examples", type=click.IntRange(1, 40), default=6, show_default=True, help="Objects that are drawn.")
@click.option(
    "--objects",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Objects that are scored, at most; 0 scores none.",
)
@click.option(
    "--probe", type=click.IntRange(0, 99_999), help="Draw this probe of the annotations instead: without B, with B."
)
@probe_options
@fit_option
@click.option(
    "--upsampling",
    "how",
    type=click.Choice(["bicubic", "nearest"]),
    default="bicubic",
    show_default=True,
    help="From cells to pixels; nearest shows the cells.",
)
@click.option(
    "--range",
    "colours",
    default="shared",
    show_default=True,
    callback=colour_range,
    metavar="shared|per-panel|LOW,HIGH",
    help="Of the colours; one for all maps, since a range per panel hides what is compared.",
)
@click.option(
    "--width",
    type=click.Choice(["column", "page"]),
    default="page",
    show_default=True,
    help="Of the figure: one column of a paper (3.35 in) or two (6.9 in).",
)
@label_option
@model_options
@batch_size_option
@seed_option
@format_option
@out_options("runs/affinity-DATE-TIME")
def affinity(models: tuple[str, ...], **options: Any) -> None:
    """Draw, for points of photos, how similar each MODEL's features are at every other place (cosine).

    A row per point, a column per model. MODEL is as in `couplingkit measure`; `--layer 3,7,11` gives three columns.

    \b
    Points of your own:
      couplingkit affinity vit.pth resnet50 --image photo.jpg --point 212,140 --point 60,88 --out affinity.pdf
    Points inside annotated objects, which are scored against their masks, too:
      couplingkit affinity vit.pth resnet50 --annotations instances.json --images images/ --out runs/affinity
    What changes when B stands beside A, in the probe that `measure` calls 17:
      couplingkit affinity vit.pth --probe 17 --annotations instances.json --images images/ --out probe.pdf

    --out is a figure (.png, .pdf, .svg) or a folder. A folder gets affinity.png/.pdf, the raw maps (maps.npz) and
    summary.json; with annotations also rows.csv (one row per object and model) and categories.csv, and the scores are
    printed: how well affinity finds the object (AUROC, average precision), and how much of it leaks onto the nearest
    other object.
    """
    from ..errors import ArgumentError
    from ..features.names import split_layers
    from ..figures.map_layout import check_columns
    from ..files import check_free
    from .affinity_outputs import look
    from .affinity_runs import draw_examples, draw_points, draw_probe
    from .pictures import check_sources, figure_path
    from .session import default_out

    check_sources(options["pictures"], options["annotations"], options["images"])
    if options["pictures"] and options["annotations"] is not None:
        raise ArgumentError("--image and --annotations are two ways to choose queries; give one of them.")
    if options["probe"] is not None and options["annotations"] is None:
        raise ArgumentError("--probe needs --annotations and --images, from which probes are made.")
    if options["points"] and not options["pictures"]:
        raise ArgumentError("--point belongs to --image; with --annotations the points are chosen from the masks.")
    folder = None if figure_path(options["out"]) else options["out"] or default_out("affinity")
    check_free(folder or options["out"], overwrite=options["overwrite"], folder=folder is not None)
    check_models(models, options)
    check_columns(len(models) * len(split_layers(options["layer"])), look(options)["width_in"])
    backbone_options = {key: options[key] for key in BACKBONE_OPTIONS}
    draw = draw_points if options["pictures"] else draw_examples if options["probe"] is None else draw_probe
    failures = draw(models, backbone_options, folder, options)
    if failures:
        click.echo(f"{len(failures)} failed: {'; '.join(failures)}", err=True)
        raise SystemExit(2)
