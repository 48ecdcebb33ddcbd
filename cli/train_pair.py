"""`couplingkit train-pair`: X and X-D on the same crops, some seeds of each, and their comparison."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .options import together
from .watching import WATCHED, draw_run, probe_files, watching

if TYPE_CHECKING:
    from ..training.recipe import Recipe

__all__ = ["train_pair"]

recipe_options = together(
    click.option("--data", default="scenes:4000", show_default=True, help="As of `train`."),
    click.option("--images", type=click.Path(path_type=Path), help="Folder of the photos, where --data is a JSON."),
    click.option("--recipe", help="As of `train`. [default: METHOD-tiny]"),
    click.option("--steps", type=click.IntRange(1), help="Length of each run. [default: the recipe's]"),
    click.option("--set", "changes", multiple=True, metavar="TABLE.KEY=VALUE", help="Change a value of the recipe."),
)


@click.command(short_help="Train a method and its decoupled version, and compare them.")
@click.argument("method")
@recipe_options
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each of the two.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first run's.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs and the comparison.")
@click.option("--probe-every", type=click.IntRange(1), help="Steps between looks at the coupling rate. [none]")
@click.option("--probes", type=click.IntRange(20), default=500, show_default=True, help="That are compared on.")
@click.option("--probe-annotations", type=click.Path(path_type=Path), help="Instances JSON. [default: scenes]")
@click.option("--probe-images", type=click.Path(path_type=Path), help="Folder of its photos.")
@click.option("--objects", type=click.IntRange(20), default=1000, show_default=True, help="That are classified.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where it computes."
)
def train_pair(method: str, seeds: int, seed: int, out: Path, device: str, **options: Any) -> None:
    """Train METHOD and METHOD-d with the same crops from the same seeds, and compare them on the same probes.

    The runs lie in OUT/METHOD/seed-N and OUT/METHOD-d/seed-N; OUT/comparison gets the runs' numbers (runs.csv), the
    paired differences with their intervals (differences.csv, table.md), the rows behind them, and the figures. The same
    command goes on where it was stopped; runs that are done are not made again. SoCo's boxes are RCC's in both, so that
    X and X-D differ in nothing else.

    \b
    Example:
      couplingkit train-pair ibot --recipe ibot-tiny --seeds 3 --probe-every 250 --out runs/ibot-pair
    """
    from ..errors import ArgumentError
    from .pair_outputs import write_comparison

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError("train-pair is one process; start `couplingkit train` by torchrun, and compare its runs.")
    recipes = _recipes(method, range(seed, seed + seeds), options)
    _check_runs(out, recipes, options)
    with TemporaryDirectory(prefix="couplingkit-scenes-") as scratch:
        given = (options["probe_annotations"], options["probe_images"])
        annotations, images = probe_files(*given, Path(scratch))
        for recipe in recipes:
            _train(recipe, _folder(out, recipe), device, options, (annotations, images))
        write_comparison(out, recipes, annotations, images, device, options)


def _recipes(method: str, seeds: range, options: dict[str, Any]) -> list[Recipe]:
    from ..errors import ArgumentError
    from ..training.recipe import SUFFIX, has_decoupled, read_recipe

    if method.endswith(SUFFIX):
        raise ArgumentError(f"method {method!r} is the decoupled one already; name the plain one of the pair.")
    if not has_decoupled(method):
        raise ArgumentError(f"method {method!r} has no decoupled version; `couplingkit train --list` shows which have.")
    name = options["recipe"] or f"{method}-tiny"
    changes = list(options["changes"]) + ([f"run.steps={options['steps']}"] if options["steps"] else [])
    return [
        read_recipe(method + ending, name, [*changes, f"run.seed={seed}"]) for seed in seeds for ending in ("", SUFFIX)
    ]


def _folder(out: Path, recipe: Recipe) -> Path:
    return out / recipe.name / f"seed-{recipe.run.seed}"


def _check_runs(out: Path, recipes: list[Recipe], options: dict[str, Any]) -> None:
    """Raise `ArgumentError` if a run is there that another recipe made, or of other images."""
    from ..data.corpus import open_corpus
    from ..errors import ArgumentError
    from ..training.checkpoint import check_corpus
    from ..training.recipe import read_recipe

    for recipe in recipes:
        run = _folder(out, recipe)
        written = run / "recipe.toml"
        if not written.exists():
            continue
        if read_recipe(recipe.name, str(written)) != recipe:
            raise ArgumentError(f"out {run} is a run of another recipe; choose another --out.")
        check_corpus(run, open_corpus(options["data"], images=options["images"], seed=recipe.run.seed))


def _train(recipe: Recipe, run: Path, device: str, options: dict[str, Any], shown: tuple[Path, Path]) -> None:
    """Make a run, or what is missing of it; it is looked at with the objects in `shown`."""
    from ..data.corpus import open_corpus
    from ..study.learning import read_curve
    from ..training.checkpoint import last_step
    from ..training.loop import train

    done = last_step(run)
    looked = not options["probe_every"] or any(line["step"] == done for line in read_curve(run))
    if done == recipe.run.steps and looked:
        return
    corpus = open_corpus(options["data"], images=options["images"], seed=recipe.run.seed)
    watched = {**{name: options.get(name) for name in WATCHED}, "probes": min(options["probes"], 200)}
    about = {"data": options["data"], "images": options["images"], **watched}
    about = {key: str(value) if isinstance(value, Path) else value for key, value in about.items()}
    click.echo(f"{recipe.name}, seed {recipe.run.seed}: {run}", err=True)
    try:
        # Drawn once for all runs; a run that is resumed alone draws its own.
        here = {**watched, "probe_annotations": shown[0], "probe_images": shown[1]}
        with watching(run, done, here, device) as watch:
            train(
                recipe,
                corpus,
                run,
                device=device,
                resume=done > 0,
                about=about,
                progress=True,
                watch=watch,
            )
    finally:
        draw_run(run)
