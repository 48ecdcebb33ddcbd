"""`couplingkit train`: make a model, plain or decoupled, from images without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .asked import watch_settings
from .command import Command, given_names
from .options import corpus_options, train_device_option, watch_options
from .words import PATH, tracker_names

__all__ = ["draw_coupling", "draw_loss", "train"]


@click.command(cls=Command, short_help="Train a method, plain or decoupled, on images without labels.")
@click.argument("method", required=False)
@click.option("--data", help="A folder of images, an instances JSON, tar files, or scenes:COUNT (built in).")
@click.option("--recipe", help="One that comes with couplingkit (--list), or a .toml file.")
@corpus_options
@click.option("--out", type=PATH, help="The run folder; a new one, or that of this very run.")
@click.option("--checkpoint-every", type=click.IntRange(1), help="Steps between checkpoints. [default: the recipe's]")
@click.option("--seed", type=click.IntRange(0, 2**63), help="Of weights, order, crops, masks. [default: the recipe's]")
@click.option("--proposals", type=PATH, help="Of `couplingkit proposals`, for soco.")
@watch_options
@click.option("--probes", type=click.IntRange(10, 10**6), help="How many, with --probe-every. [default: 100]")
@click.option("--tracker", metavar="NAMES", help="Pass the log on: tensorboard, wandb, or both with a comma (extras).")
@click.option("--resume", type=PATH, metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--list", "listing", is_flag=True, help="List methods and recipes.")
@train_device_option
def train(method: str | None, listing: bool, resume: Path | None, device: str, **options: Any) -> None:
    """Train METHOD: ibot, densecl, soco, maskalign, moco, or ibot-d, densecl-d, ... with Region Collaborative Cutout
    and the de-coupling branch.

    X and X-D see the same crops in the same order from the same seed, so that their coupling rates can be set side by
    side. A run folder is a model of `couplingkit measure`: the network that the method is evaluated by (iBOT's teacher,
    the online network of the others), or that of --branch. METHOD may be your own, MODULE:CLASS. With --resume only
    --steps (to go on for longer), --probe-every, --tracker and --device may be given.

    \b
    Examples:
      couplingkit train ibot --data scenes:4000 --recipe ibot-tiny --out runs/ibot
      couplingkit train ibot-d --data scenes:4000 --recipe ibot-tiny --probe-every 250 --out runs/ibot-d
      couplingkit train --resume runs/ibot-d --steps 2000
      couplingkit train ibot-d --from dinov2.pth --data photos/ --recipe dinov2-decouple-vits14 --out runs/dinov2-d
      torchrun --nproc_per_node 8 -m couplingkit train ibot-d --data photos/ --recipe ibot-coco-800ep --out runs/big

    The folder of --out gets recipe.toml (everything resolved), run.json, metrics.jsonl, loss.png and checkpoints, with
    --probe-every also coupling.csv and coupling.png; a run that is stopped, by Ctrl-C or the plug, goes on exactly
    where its last checkpoint was, also when its own command is given again.
    """
    from ..errors import ArgumentError
    from ..runs.session import leave_processes
    from ..runs.training import new_training, resumed_training, run_training
    from ..training.recipe import recipe_names
    from ..training.registry import method_names

    if listing:
        click.echo("methods: " + ", ".join(method_names()))
        click.echo("recipes: " + ", ".join(recipe_names()))
        return
    if resume is not None:
        _refuse_changes()
        given = {"probe_every": options["probe_every"], "trackers": tracker_names(options["tracker"])}
        given = {name: value for name, value in given.items() if value}
        request = resumed_training(resume, method, given, steps=options["steps"])
    elif method is None or None in (options["data"], options["recipe"], options["out"]):
        raise ArgumentError("a new run needs METHOD, --data, --recipe and --out; --resume RUN goes on with an old one.")
    else:
        request = new_training(_request(method, options))
    try:
        last = run_training(request, device=device, draw=draw_coupling, progress=True)
        # A process that ends among others without a word may take them down with it.
        leave_processes()
    finally:
        draw_loss(request.out)
    click.echo(f"Wrote {last}; `couplingkit measure {request.out}` measures it.", err=True)


def _request(method: str, options: dict[str, Any]) -> Any:
    from ..runs.training import TrainRequest
    from ..training.recipe import read_recipe
    from ..training.starting import starting_from

    short = {key: options[key] for key in ("steps", "checkpoint_every", "seed")}
    changes = [f"run.{key}={value}" for key, value in short.items() if value is not None]
    recipe = read_recipe(method, options["recipe"], [*options["changes"], *changes])
    if options["start"]:
        recipe = starting_from(recipe, options["start"])
    files = {key: options[key] and str(options[key]) for key in ("images", "proposals")}
    watch = watch_settings(options, options["probes"] or 100)
    return TrainRequest(recipe, options["out"], options["data"], files["images"], files["proposals"], watch)


def _refuse_changes() -> None:
    """Raise `ArgumentError` if a run that is resumed is to become another one."""
    from ..errors import ArgumentError

    allowed = ("probe_every", "tracker", "steps", "resume", "device", "method")
    options = click.get_current_context().command.params
    given = [
        max(option.opts, key=len) for option in options if option.name in given_names() and option.name not in allowed
    ]
    if given:
        raise ArgumentError(f"--resume goes on with the run as it was begun; leave {', '.join(given)} away.")


def draw_loss(out: Path) -> None:
    """Draw loss.png of what the log holds, also of a run that was stopped."""
    from ..figures.plots import save_figure
    from ..figures.training_plots import loss_figure
    from ..files import new_file
    from ..typed_files import read_json_lines

    lines = read_json_lines(out / "metrics.jsonl", dict[str, float])
    # torchrun starts several of these; the first one draws.
    if lines and os.environ.get("RANK", "0") == "0":
        with new_file(out / "loss.png", mark=None) as draft:
            save_figure(loss_figure(lines), draft)


def draw_coupling(out: Path) -> None:
    """Draw coupling.png of the looks at a run so far."""
    from ..figures.plots import save_figure
    from ..figures.training_plots import coupling_curves
    from ..files import new_file
    from ..runs.learning import read_curve

    with new_file(out / "coupling.png", mark=None) as draft:
        save_figure(coupling_curves({out.name: [read_curve(out)]}), draft)
