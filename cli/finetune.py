"""`couplingkit finetune`: what a network is good for once a detector or segmenter is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim, default_out, model_choices
from .command import Command
from .evaluate import end, score_files
from .options import (
    annotations_option,
    format_option,
    images_option,
    label_option,
    out_options,
    some_models_argument,
    train_device_option,
    weights_options,
    zoo_option,
)

if TYPE_CHECKING:
    from ..transfer.recipe import FineTuneRecipe

__all__ = ["finetune"]


@click.command(cls=Command, short_help="Train a detector or segmenter on networks, and score it.")
@click.argument("task", type=click.Choice(["detect", "segment"]), required=False)
@some_models_argument
@zoo_option
@click.option(
    "--data", metavar="WORDS", help="scenes:TRAIN+TEST (built in), coco:ROOT, voc:ROOT, ade20k:ROOT, FILE.toml."
)
@annotations_option(required=False)
@images_option(required=False)
@click.option("--recipe", help="One that comes with couplingkit (--list), or a .toml file.")
@click.option("--frozen", is_flag=True, help="Leave the networks as they are: only what is built on them learns.")
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of each model.")
@click.option("--seed", type=click.IntRange(0, 2**62), default=0, show_default=True, help="The first run's.")
@click.option("--steps", type=click.IntRange(1, 2**53), help="Length of a run. [default: the recipe's]")
@click.option("--set", "changes", multiple=True, metavar="TABLE.KEY=VALUE", help="Change a value of the recipe.")
@click.option("--resamples", type=click.IntRange(100, 10**6), default=1000, show_default=True, help="Of the intervals.")
@click.option("--list", "listing", is_flag=True, help="List the recipes, and on what each was run.")
@weights_options
@label_option
@train_device_option
@format_option
@out_options("runs/finetune-DATE-TIME")
def finetune(
    task: str | None, models: tuple[str, ...], zoo: Path | None, listing: bool, form: str, **options: Any
) -> None:
    """Train what predicts on each MODEL (as `measure` takes them, of timm's kind), and score it: TASK is

    \b
      detect   boxes, and masks where the data has some, by a detector of the R-CNN family
      segment  the class of each pixel, by UperNet

    The same recipe, photos, order and first weights of the head for all models, from each seed; a random network of
    each architecture stands beside them. Scores are AP (of COCO's or of VOC's rule, as the data asks for) or mIoU at
    the photos' own pixels; brackets are over photos, and with --seeds also over seeds.

    \b
    Examples:
      couplingkit finetune detect bundled:ibot bundled:ibot-d --data scenes:600+200 --recipe detect-tiny --seeds 2
      couplingkit finetune detect dinov2.pth --data my.toml --recipe detect-tiny --frozen --out runs/frozen
      couplingkit finetune detect moco.pth densecl.pth --data voc:VOCdevkit --recipe voc-c4 --out runs/voc
      torchrun --nproc-per-node 8 -m couplingkit finetune detect dc.pth --data coco:ROOT --recipe coco-fpn-1x

    A TOML file for --data has tables [train] and [test] with `images` and `annotations` (an instances JSON); in place
    of --data, --annotations and --images name one JSON, whose photos are halved. The
    folder of --out gets detections.csv (each with what it found), objects.csv, rows.csv, summary.json, scores.csv,
    scores.png/.pdf and training/ (of each run the recipe, the log and the weights): `compare`, `relate` and `report`
    take it. A run that is stopped goes on with the same command and --out, bit for bit.
    """
    from ..errors import ArgumentError
    from ..runs.evaluating import EvaluationPlace
    from ..runs.fine_tuning import fine_tune_models, fine_tuning_data
    from ..runs.session import joined_processes
    from ..transfer.scoring import FineTuneSettings

    if listing:
        _list()
        return
    if task is None or options["recipe"] is None:
        raise ArgumentError("a run needs TASK, a MODEL, --data and --recipe; --list lists the recipes.")
    recipe = _recipe(task, options)
    seeds = tuple(range(options["seed"], options["seed"] + options["seeds"]))
    settings = FineTuneSettings(seeds, resamples=options["resamples"])
    with joined_processes() as processes:
        folder = processes.only_first(lambda: options["out"] or default_out("finetune"))
        processes.only_first(lambda: claim(folder, overwrite=True))
        run = fine_tune_models(
            model_choices(models, {**options, "seed": 0}, zoo),
            recipe,
            fine_tuning_data(task, **{key: options[key] for key in ("annotations", "images")}, words=options["data"]),
            settings,
            place=EvaluationPlace(folder, options["overwrite"], score_files),
            processes=processes,
            device=options["device"],
        )
        if processes.first:
            end(run, form, "rows, objects.csv, summary.json, scores.csv, scores.png/.pdf and training/")


def _recipe(task: str, options: dict[str, Any]) -> FineTuneRecipe:
    from ..transfer.recipe import read_fine_tune_recipe

    changes = [*options["changes"], *([f"run.steps={options['steps']}"] if options["steps"] else [])]
    return read_fine_tune_recipe(
        task, options["recipe"], [*changes, *(["backbone.frozen=true"] if options["frozen"] else [])]
    )


def _list() -> None:
    from ..transfer.recipe import recipe_names, recipe_status

    for name in recipe_names():
        task, status = recipe_status(name)
        click.echo(f"{name:16} {task:8} {status}")
