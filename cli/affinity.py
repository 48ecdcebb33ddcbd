"""`couplingkit affinity`: what a point of a photo is similar to, as a figure, and scored against masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import check_sources, claim, default_out, eligibility, model_choices, named_figure, probe_spec
from .command import Command
from .options import (
    batch_size_option,
    data_options,
    fit_option,
    format_option,
    image_option,
    label_option,
    model_options,
    models_argument,
    out_options,
    point_option,
    probe_options,
    range_option,
    seed_option,
    upsampling_option,
    width_option,
)

if TYPE_CHECKING:
    from ..runs.affinity import AffinityRun
    from ..runs.models import ModelChoice

__all__ = ["affinity"]


@click.command(cls=Command, short_help="Draw what a point of a photo is similar to, and score it against masks.")
@models_argument
@image_option
@point_option
@data_options(required=False)
@click.option("--examples", type=click.IntRange(1, 40), default=6, show_default=True, help="Objects that are drawn.")
@click.option("--objects", type=click.IntRange(0), default=200, show_default=True, help="Scored, at most; 0: none.")
@click.option("--probe", type=click.IntRange(0, 99_999), help="Draw this probe instead: without B, with B.")
@probe_options
@fit_option
@upsampling_option
@range_option
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
    from ..figures.affinity_plots import MapLook, run_figure
    from ..figures.map_layout import check_columns
    from ..figures.plots import COLUMN_IN, PAGE_IN, figure_files, save_figure
    from ..files import new_file
    from ..runs.affinity import write_affinity

    _check_words(options)
    figure_path = named_figure(out)
    place = figure_path or out or default_out("affinity")
    claim(place, overwrite=overwrite, folder=figure_path is None)
    width = PAGE_IN if options["width"] == "page" else COLUMN_IN
    look = MapLook(width, options["how"], options["colours"])
    check_columns(len(models) * len(split_layers(options["layer"])), width)
    run = _mapped(model_choices(models, options), options, scored=figure_path is None)
    figure = run_figure(run, look=look)
    if figure_path is not None:
        with new_file(figure_path, overwrite=overwrite) as draft:
            save_figure(figure, draft)
        click.echo(f"Wrote {figure_path}", err=True)
    else:
        write_affinity(place, run, files=figure_files({"affinity": figure}), overwrite=overwrite)
        click.echo(f"Wrote affinity.png/.pdf, maps.npz and tables to {place}", err=True)
    _end(run, form)


def _check_words(options: dict[str, Any]) -> None:
    from ..errors import ArgumentError

    check_sources(options)
    if options["pictures"] and options["annotations"] is not None:
        raise ArgumentError("--image and --annotations are two ways to choose queries; give one of them.")
    if options["probe"] is not None and options["annotations"] is None:
        raise ArgumentError("--probe needs --annotations and --images, from which probes are made.")
    if options["points"] and not options["pictures"]:
        raise ArgumentError("--point belongs to --image; with --annotations the points are chosen from the masks.")


def _mapped(choices: list[ModelChoice], options: dict[str, Any], *, scored: bool) -> AffinityRun:
    """Map points of pictures, examples from annotations, or a probe."""
    from ..evaluation.localization import LocalizeSettings
    from ..probes.probeset import ProbeSet
    from ..runs.affinity import map_examples, map_points, map_probe
    from ..runs.pictures import open_pictures, read_index

    settings = LocalizeSettings(options["fit"], options["how"], options["batch_size"], options["seed"])
    if options["pictures"]:
        return map_points(choices, open_pictures(options["pictures"]), options["points"], settings)
    rules, files = eligibility(options), (options["annotations"], options["images"])
    if options["probe"] is None:
        counts = {"examples": options["examples"], "objects": options["objects"] if scored else 0}
        return map_examples(choices, read_index(files[0], rules), files[1], settings, **counts, progress=True)
    look, number = probe_spec(options), options["probe"]
    probes = ProbeSet.from_coco(*files, count=number + 1, seed=options["seed"], spec=look, eligibility=rules)
    return map_probe(choices, probes, number, settings)


def _end(run: AffinityRun, form: str) -> None:
    from ..figures.score_tables import render_scores

    for finding in run.findings:
        click.echo(finding)
    if run.scores:
        click.echo(render_scores(run.scores, form, differences=run.differences, document=run.document))
    if run.failures:
        click.echo(f"{len(run.failures)} failed: {'; '.join(run.failures)}", err=True)
        raise SystemExit(2)
