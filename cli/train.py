"""`couplingkit train`: make a model, plain or decoupled, from images without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .watching import WATCHED, draw_run, watch_options, watching

if TYPE_CHECKING:
    from ..data.corpus import Corpus
    from ..data.proposals import Proposals
    from ..training.recipe import Recipe

__all__ = ["train"]


@click.command(short_help="Train a method, plain or decoupled, on images without labels.")
@click.argument("method", required=False)
@click.option("--data", help="A folder of images, an instances JSON, tar files, or scenes:COUNT (built in).")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the photos, where --data is a JSON.")
@click.option("--recipe", help="One that comes with couplingkit (--list), or a .toml file.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; a new one.")
@click.option("--steps", type=click.IntRange(1), help="Length of the run. [default: the recipe's]")
@click.option("--checkpoint-every", type=click.IntRange(1), help="Steps between checkpoints. [default: the recipe's]")
@click.option(
    "--set", "changes", multiple=True, metavar="TABLE.KEY=VALUE", help="Change a value, like optimizer.lr=3e-4."
)
@click.option("--seed", type=click.IntRange(0), help="Of weights, order, crops and cuts. [default: the recipe's]")
@click.option("--proposals", type=click.Path(path_type=Path), help="Of `couplingkit proposals`, for soco.")
@watch_options
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--list", "listing", is_flag=True, help="List methods and recipes.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where it computes."
)
def train(method: str | None, listing: bool, resume: Path | None, device: str, **options: Any) -> None:
    """Train METHOD: ibot, densecl, soco, maskalign, moco, or ibot-d, densecl-d, ... with Region Collaborative Cutout
    and the de-coupling branch.

    X and X-D see the same crops in the same order from the same seed, so that their coupling rates can be set side by
    side. A run folder is a model of `couplingkit measure`: the network that the method is evaluated by (iBOT's teacher,
    the online network of the others), or that of --branch. With --resume only --probe-every, --tensorboard and
    --device may be given.

    \b
    Examples:
      couplingkit train ibot --data scenes:4000 --recipe ibot-tiny --out runs/ibot
      couplingkit train ibot-d --data scenes:4000 --recipe ibot-tiny --probe-every 250 --out runs/ibot-d
      couplingkit train --resume runs/ibot-d
      torchrun --nproc_per_node 8 -m couplingkit train ibot-d --data photos/ --recipe ibot-coco-800ep --out runs/big

    The folder of --out gets recipe.toml (everything resolved), run.json, metrics.jsonl, loss.png and checkpoints, with
    --probe-every also coupling.csv and coupling.png; a run that is stopped, by Ctrl-C or the plug, goes on exactly
    where its last checkpoint was.
    """
    from ..errors import ArgumentError
    from ..training.recipe import method_names, recipe_names

    if listing:
        click.echo("methods: " + ", ".join(method_names()))
        click.echo("recipes: " + ", ".join(recipe_names()))
        return
    if resume is not None:
        _refuse_changes(options)
        recipe, corpus, kept = _opened(resume, method)
        # The probes stay what they were, or the looks could not be compared.
        asked = {name: options[name] for name in ("probe_every", "tensorboard") if options[name]}
        out, options = resume, {**options, **kept["watched"], **asked, **kept["corpus"]}
    elif method is None or None in (options["data"], options["recipe"], options["out"]):
        raise ArgumentError("a new run needs METHOD, --data, --recipe and --out; --resume RUN goes on with an old one.")
    else:
        out = options["out"]
        recipe, corpus = _new(method, out, options)
    # The engine takes a second to import.
    from ..training.checkpoint import last_step
    from ..training.loop import train as run

    about = {key: _plain(options[key]) for key in ("data", "images", "proposals", *WATCHED)}
    boxes = boxes_for(recipe, corpus, options["proposals"])
    try:
        with watching(out, last_step(out), options, device) as watch:
            last = run(
                recipe,
                corpus,
                out,
                device=device,
                resume=bool(resume),
                about=about,
                progress=True,
                proposals=boxes,
                watch=watch,
            )
    finally:
        draw_run(out)
    click.echo(f"Wrote {last}; `couplingkit measure {out}` measures it.", err=True)


def _new(method: str, out: Path, options: dict[str, Any]) -> tuple[Recipe, Corpus]:
    from ..data.corpus import open_corpus
    from ..files import check_free
    from ..training.recipe import read_recipe

    check_free(out, overwrite=False)
    short = {"steps": options["steps"], "checkpoint_every": options["checkpoint_every"], "seed": options["seed"]}
    changes = [f"run.{key}={value}" for key, value in short.items() if value is not None]
    recipe = read_recipe(method, options["recipe"], [*options["changes"], *changes])
    return recipe, open_corpus(options["data"], images=options["images"], seed=recipe.run.seed)


def boxes_for(recipe: Recipe, corpus: Corpus, given: Path | str | None) -> Proposals | None:
    """Return the proposals of a run that wants some; say where its boxes come from otherwise."""
    from ..data.proposals import read_proposals
    from ..errors import ArgumentError

    wanted = recipe.augmentation.boxes > 0
    if given is not None and not wanted:
        raise ArgumentError(f"--proposals is for soco; {recipe.name} has no boxes.")
    if given is not None and recipe.decoupled:
        raise ArgumentError(f"--proposals is for soco; the boxes of {recipe.name} are RCC's.")
    if given is not None:
        return read_proposals(Path(given), corpus)
    if wanted and not recipe.decoupled:
        click.echo("No --proposals: objects are RCC's boxes over the whole image, not selective search's.", err=True)
    return None


def _refuse_changes(options: dict[str, Any]) -> None:
    """Raise `ArgumentError` if a run that is resumed is to become another one."""
    from ..errors import ArgumentError

    names = ("data", "images", "recipe", "out", "steps", "checkpoint_every", "changes", "seed", "proposals")
    given = [
        "--set" if name == "changes" else f"--{name.replace('_', '-')}"
        for name in names
        if options[name] not in (None, ())
    ]
    if given:
        raise ArgumentError(f"--resume goes on with the run as it was begun; leave {', '.join(given)} away.")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _opened(run: Path, method: str | None) -> tuple[Recipe, Corpus, dict[str, dict[str, Any]]]:
    """Return the recipe and the images of a run folder, and what its command said of them and of looking at it."""
    from ..data.corpus import open_corpus
    from ..errors import ArgumentError
    from ..training.recipe import read_recipe

    try:
        about = json.loads((run / "run.json").read_text())
        name, data, images = about["method"], about["data"], about["images"]
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(f"resume {run} is no run folder of couplingkit: it has no whole run.json.") from error
    if method not in (None, name):
        raise ArgumentError(f"resume {run} is a run of {name}, not of {method}.")
    recipe = read_recipe(name, str(run / "recipe.toml"))
    kept = {
        "corpus": {"data": data, "images": images, "proposals": about.get("proposals")},
        "watched": {key: about[key] for key in WATCHED if key in about},
    }
    return recipe, open_corpus(data, images=images, seed=recipe.run.seed), kept
