"""`couplingkit evaluate`: what frozen features are good for, on labelled photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim, default_out, model_choices
from .command import Command, as_options
from .labelled import coupling_probes, labelled_data
from .options import (
    annotations_option,
    batch_size_option,
    fit_option,
    format_option,
    images_option,
    label_option,
    labelled_options,
    leak_options,
    model_options,
    out_options,
    seed_option,
    some_models_argument,
    zoo_option,
)
from .words import terminal_width

if TYPE_CHECKING:
    from ..runs.evaluation_files import EvaluationRun
    from ..runs.writing import Writer

__all__ = ["end", "evaluate", "score_files"]


@click.command(cls=Command, short_help="Score frozen features: segmentation, objects, discovery.")
@click.argument("tasks", metavar="TASK[,TASK]")
@some_models_argument
@zoo_option
@labelled_options
@annotations_option(required=False)
@images_option(required=False)
@leak_options
@click.option(
    "--coupling",
    metavar="SET",
    help="Measure coupling on the same loaded networks, too: a manifest or its name, like scenes_500.",
)
@model_options
@label_option
@fit_option
@batch_size_option
@seed_option
@format_option
@out_options("runs/evaluation-DATE-TIME")
def evaluate(
    tasks: str, models: tuple[str, ...], zoo: Path | None, form: str, out: Path | None, overwrite: bool, **options: Any
) -> None:
    """Score the frozen features of each MODEL (as `measure` takes them) on labelled photos. TASK is of

    \b
      knn-seg     segmentation by the nearest cells of training photos: sees the geometry of features
      linear-seg  by logistic regression on cells, convex: whether the information is there
      objects     objects told by their nearest in other photos, and by planes
      discover    one object a photo without any training (TokenCut, LOST): thresholds decide, never a headline

    No task stands alone: what a leak bends is not always gone, and they disagree. Beside the models stand a random
    network of each architecture, the commonest class (floor), and true labels at the cells' resolution (ceiling).

    \b
    Examples:
      couplingkit evaluate knn-seg,linear-seg,objects bundled:ibot bundled:ibot-d --data scenes:300+300 --out runs/eval
      couplingkit evaluate knn-seg,linear-seg dinov2.pth ibot.pth --data voc:VOCdevkit --bank 1000000 --out runs/voc
      couplingkit evaluate knn-seg dino.pth --annotations instances.json --images images/ --classes super
      couplingkit evaluate knn-seg,linear-seg bundled:ibot-d --leak 0,.25,.5 --out runs/dose

    A TOML file for --data has tables [train] and [test] with `images` and `masks` (PNGs of the same names; [classes]
    says number = "name") or `annotations`. The folder of --out gets rows.csv (photo and class), objects.csv (what each
    object's pixels were taken for, its neighbour's class beside controls), summary.json, scores.csv, scores.png/.pdf.
    A run that is stopped goes on with the same command and --out; torchrun shares the photos out over processes.
    """
    from ..evaluation.task import EvaluateSettings, check_tasks
    from ..runs.evaluating import EvaluationPlace, Leaks, evaluate_models
    from ..runs.session import entered, joined_processes

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    settings = EvaluateSettings(**{key: options[key] for key in ("k", "bank", "fit", "batch_size", "seed")})
    with joined_processes() as processes:
        folder = processes.only_first(lambda: out or default_out("evaluation"))
        processes.only_first(lambda: claim(folder, overwrite=True))
        check_tasks(names)
        choices = model_choices(models, options, zoo)
        data = labelled_data(options)
        with entered(processes, coupling_probes(options)) as probes:
            run = evaluate_models(
                choices,
                names,
                data,
                settings,
                leaks=Leaks(options["leak"], options["reach"]),
                probes=probes,
                place=EvaluationPlace(folder, overwrite, score_files),
                processes=processes,
            )
        if processes.first:
            also = ", coupling/" if run.coupling else ""
            end(run, form, f"rows.csv, objects.csv, summary.json, scores.csv, scores.png/.pdf{also}")


def score_files(run: EvaluationRun) -> Mapping[str, Writer]:
    """Return what writes the figure and the numbers of an evaluation."""
    from ..figures.evaluation_tables import evaluation_numbers
    from ..figures.plots import figure_files
    from ..figures.score_plots import score_figure

    numbers = evaluation_numbers(run)
    return {
        "scores.csv": lambda path: numbers.to_csv(path, index=False),
        **figure_files({"scores": score_figure(run.evaluations)}),
    }


def end(run: EvaluationRun, form: str, wrote: str) -> None:
    """Print what was found; exit code 2 where a model failed."""
    from ..figures.evaluation_tables import evaluation_text

    if run.fresh:
        said = f"Wrote {wrote} to {run.folder}"
    else:
        said = f"{run.folder} holds the results of this very run: nothing to do. (--overwrite makes them anew.)"
    click.echo(said, err=True)
    click.echo(evaluation_text(run, form, width=terminal_width()))
    if run.failures:
        click.echo(as_options(f"{len(run.failures)} models failed: {'; '.join(run.failures)}"), err=True)
        raise SystemExit(2)
