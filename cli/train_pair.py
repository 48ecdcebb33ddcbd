"""`couplingkit train-pair`: X and X-D on the same crops, some seeds of each, and their comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .asked import watch_settings
from .command import Command
from .options import corpus_options, train_device_option, watch_options
from .train import draw_coupling, draw_loss
from .words import PATH

if TYPE_CHECKING:
    from ..probes.probeset import ProbeSet
    from ..runs.pairs import PairRun
    from ..training.recipe import Recipe

__all__ = ["train_pair"]

SHOWN_PROBE = 3


@click.command(cls=Command, short_help="Train a method and its decoupled version, and compare them.")
@click.argument("method")
@click.option("--data", default="scenes:4000", show_default=True, help="As of `train`.")
@click.option("--recipe", help="As of `train`. [default: METHOD-tiny]")
@corpus_options
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each of the two.")
@click.option("--seed", type=click.IntRange(0, 2**62), default=0, show_default=True, help="The first run's.")
@click.option("--out", type=PATH, required=True, help="Folder of the runs and the comparison.")
@watch_options
@click.option("--probes", type=click.IntRange(20, 10**6), default=500, show_default=True, help="That are compared on.")
@click.option("--objects", type=click.IntRange(20), default=1000, show_default=True, help="That are classified.")
@train_device_option
def train_pair(method: str, seeds: int, seed: int, out: Path, device: str, **options: Any) -> None:
    """Train METHOD and METHOD-d with the same crops from the same seeds, and compare them on the same probes.

    The runs lie in OUT/METHOD/seed-N and OUT/METHOD-d/seed-N; OUT/comparison gets the runs' numbers (runs.csv), those
    of the untrained networks (or of the model of --from) beside them, the paired differences with their intervals
    (differences.csv, table.md), the rows behind them, and the figures. The same command goes on where it was stopped;
    runs that are done are not made again. SoCo's boxes are RCC's in both, so that X and X-D differ in nothing else.

    \b
    Example:
      couplingkit train-pair ibot --recipe ibot-tiny --seeds 3 --probe-every 250 --out runs/ibot-pair
    """
    from ..data.coco import read_instances
    from ..errors import ArgumentError
    from ..figures.pair_plots import pair_text
    from ..probes.probeset import ProbeSet
    from ..runs.learning import probe_files
    from ..runs.pair_files import write_pair
    from ..runs.pairs import compare_pair
    from ..runs.trained_models import HeldOut, check_photos
    from ..runs.training import is_done, new_training, pair_recipes, run_training

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError("train-pair is one process; start `couplingkit train` by torchrun, and compare its runs.")
    changes = [*options["changes"], *([f"run.steps={options['steps']}"] if options["steps"] else [])]
    recipes = pair_recipes(method, options["recipe"], changes, range(seed, seed + seeds), start=options["start"])
    # All of them are held against what is there before any is made.
    requests = [new_training(_request(recipe, out, options)) for recipe in recipes]
    with TemporaryDirectory(prefix="couplingkit-scenes-") as scratch:
        files = probe_files(options["probe_annotations"], options["probe_images"], Path(scratch))
        index = read_instances(files[0])
        check_photos(index)
        for request in requests:
            if is_done(request):
                continue
            click.echo(f"{request.recipe.name}, seed {request.recipe.run.seed}: {request.out}", err=True)
            try:
                # Drawn once for all runs; a run that is resumed alone draws its own.
                run_training(request, device=device, draw=draw_coupling, shown=files, progress=True)
            finally:
                draw_loss(request.out)
        probes = ProbeSet.from_coco(*files, count=options["probes"], seed=0)
        held_out = HeldOut(probes, index, files[1], options["objects"])
        pair = compare_pair(out, recipes, held_out, device=device)
        text = pair_text(pair.models, pair.differences, pair.verdicts)
        write_pair(out / "comparison", pair, probes, _files(out, recipes, probes, pair, text))
    click.echo(text)
    click.echo(f"Wrote {out / 'comparison'}.", err=True)


def _request(recipe: Recipe, out: Path, options: dict[str, Any]) -> Any:
    from ..runs.pairs import run_folder
    from ..runs.training import TrainRequest

    watch = watch_settings(options, min(options["probes"], 200))
    images = options["images"] and str(options["images"])
    return TrainRequest(recipe, run_folder(out, recipe), options["data"], images, watch=watch)


def _files(out: Path, recipes: Sequence[Recipe], probes: ProbeSet, pair: PairRun, text: str) -> dict[str, Any]:
    """Return what writes the table and the figures of the comparison."""
    from ..features.names import BackboneOptions
    from ..figures.affinity_plots import run_figure
    from ..figures.pair_plots import pair_figure
    from ..figures.plots import figure_files
    from ..figures.training_plots import coupling_curves
    from ..runs.affinity import map_probe
    from ..runs.affinity_files import map_files
    from ..runs.models import ModelChoice
    from ..runs.pair_files import run_table
    from ..runs.pairs import common_curves, run_folder

    cpu = BackboneOptions(device="cpu")
    first = [ModelChoice(str(run_folder(out, recipe)), cpu, recipe.name) for recipe in recipes[:2]]
    maps = map_probe(first, probes, SHOWN_PROBE)
    figures = {"pair": pair_figure(run_table(pair.models)), "affinity": run_figure(maps)}
    curves = common_curves(out, recipes)
    if curves is not None:
        figures["curves"] = coupling_curves(curves)
    table = {"table.md": lambda path: path.write_text(text + "\n", encoding="utf-8")}
    return {**table, **figure_files(figures), **map_files(maps)}
