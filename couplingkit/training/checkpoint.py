"""The state of a run in, a folder that can be resumed and measured out; never half of one."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.corpus import Corpus
from ..data.proposals import Proposals
from ..errors import ArgumentError, OutputError
from ..features.names import as_rgb
from ..features.own_format import save_backbone
from ..files import new_folder
from .recipe import Recipe

__all__ = [
    "CHECKPOINTS",
    "check_corpus",
    "checkpoints_of",
    "inner_method",
    "last_step",
    "prune",
    "read_checkpoint",
    "write_branches",
    "write_checkpoint",
]

CHECKPOINTS = "checkpoints"
KEPT = 2


def write_checkpoint(out: Path, step: int, recipe: Recipe, method: nn.Module, optimizer: Mapping[str, Any]) -> Path:
    """Write `checkpoints/step-NNNNNNNN`: student and teacher as models, and the rest of the state beside them.

    Args:
        out: the run folder.
        step: steps that are done.
        recipe: of the run.
        method: the networks.
        optimizer: its state.

    Raises:
        OutputError: the disk refuses; older checkpoints are as they were.
    """
    folder = out / CHECKPOINTS / f"step-{step:08d}"
    with new_folder(folder, overwrite=True) as draft:
        write_branches(draft, recipe, method)
        state = {"step": step, "method": method.state_dict(), "optimizer": dict(optimizer)}
        torch.save(state, draft / "state.pt")
        said = {"step": step, "method": recipe.name, "evaluated": inner_method(method).evaluated}
        (draft / "step.json").write_text(json.dumps(said) + "\n")
    return folder


def inner_method(method: nn.Module) -> Any:
    """Return X of an X-D; a plain method as it is."""
    return getattr(method, "inner", method)


def write_branches(folder: Path, recipe: Recipe, method: nn.Module) -> None:
    """Write the backbones of a method's networks as `BRANCH.safetensors`, which `load_backbone` reads."""
    inner, settings = inner_method(method), asdict(recipe.method)
    for branch, backbone in inner.branches().items():
        save_backbone(
            folder / f"{branch}.safetensors",
            backbone.state_dict(),
            architecture=settings["architecture"],
            settings=settings["options"],
            mean=as_rgb(settings["mean"]),
            std=as_rgb(settings["std"]),
            norm_trained=inner.norm_trained,
            branch=branch,
            method=recipe.name,
        )


def checkpoints_of(out: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in (out / CHECKPOINTS).glob("step-*/step.json"))


def last_step(out: Path) -> int:
    """Return the steps that the last checkpoint of a run holds, 0 without one."""
    found = checkpoints_of(out)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def read_checkpoint(folder: Path, method: nn.Module) -> tuple[int, dict[str, Any]]:
    """Load the networks of a checkpoint into `method`; return the steps that are done and the optimizer's state.

    Raises:
        OutputError: it cannot be read, or is of another method.
    """
    try:
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        method.load_state_dict(state["method"])
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        what = str(error).splitlines()[0]
        raise OutputError(f"checkpoint {folder} cannot be resumed ({what}); is it of this recipe?") from error
    return int(state["step"]), state["optimizer"]


def prune(out: Path, keep_every: int) -> None:
    """Delete checkpoints but the last two and, where `keep_every` is not 0, those at its multiples."""
    found = checkpoints_of(out)
    for folder in found[:-KEPT]:
        step = int(folder.name.removeprefix("step-"))
        if not keep_every or step % keep_every:
            shutil.rmtree(folder, ignore_errors=True)


def check_corpus(run: Path, corpus: Corpus, proposals: Proposals | None = None) -> None:
    """Raise `ArgumentError` if a run was begun on other images: its batches would not be the same any more."""
    try:
        said = json.loads((run / "run.json").read_text())
        begun, boxes = said["corpus"], said.get("boxes")
    except (OSError, ValueError, KeyError):
        return
    if boxes != (proposals.digest() if proposals is not None else None):
        raise ArgumentError(f"run {run} was begun with other proposals, and cannot go on with these.")
    if begun != json.loads(json.dumps(corpus.describe())):
        raise ArgumentError(f"run {run} was begun on {begun}, and cannot go on with {corpus.describe()}.")
