"""A model that exists in, a recipe that goes on from it and a method that holds its weights out."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, BackboneError, first_line, listed
from ..features.checkpoints import open_checkpoint
from ..features.loading import load_backbone
from ..features.names import RGB, parse_model_name
from .checkpoint import checkpoints_of
from .method import Method
from .recipe import Recipe, build_method

__all__ = ["load_start", "starting_from"]

# The head of DINO and iBOT as their authors name its parts, and as ours are named.
HEAD = {
    "mlp.0.weight": "layers.0.weight",
    "mlp.0.bias": "layers.0.bias",
    "mlp.2.weight": "layers.2.weight",
    "mlp.2.bias": "layers.2.bias",
    "mlp.4.weight": "layers.4.weight",
    "mlp.4.bias": "layers.4.bias",
    "last_layer.weight_v": "prototypes",
    "last_layer.weight_g": "lengths",
}
HEADS = (".head.", "head.")


@dataclass(frozen=True)
class _Start:
    """What a run begins with: a network of timm's, how it is built, and how its pixels are normalised."""

    architecture: str
    options: dict[str, Any]
    tensors: Mapping[str, Tensor]
    mean: RGB
    std: RGB


def starting_from(recipe: Recipe, model: str) -> Recipe:
    """Return a recipe whose networks are those of a model, and begin with its weights.

    Architecture, its settings and the normalisation become the model's. Where its file has a head for the method, too,
    `start.head_steps` becomes 0: nothing has to be learnt by a head alone.

    Args:
        recipe: of the method.
        model: any name that `load_backbone` reads, of a network of timm's.

    Raises:
        BackboneError: no such model.
        ArgumentError: it is no network that the method trains.
    """
    name = str(Path(model).expanduser().resolve()) if Path(model).expanduser().exists() else model
    start = _read(name)
    known = {"architecture", "options", "mean", "std"}
    missing = {name for name in known if not hasattr(recipe.method, name)}
    if missing:
        raise ArgumentError(f"method {recipe.name} has no {listed(missing)}, and cannot start from a model.")
    method = replace(
        recipe.method, architecture=start.architecture, options=start.options, mean=start.mean, std=start.std
    )
    found = replace(recipe, method=method, start=replace(recipe.start, model=name))
    if found.start.head_steps and _head_for(build_method(found), found):
        found = replace(found, start=replace(found.start, head_steps=0))
    return found


def load_start(method: Method, recipe: Recipe) -> None:
    """Give a method's networks the weights of the model that its recipe starts from, and its head where it has one.

    Raises:
        ArgumentError: the weights do not fit the method's networks.
    """
    model = recipe.start.model
    start = _read(model)
    for branch, backbone in method.branches().items():
        own = backbone.state_dict()
        # What no feature depends on is left out on both sides.
        wanted = {name for name in own if not name.startswith(HEADS)}
        found = {name: value for name, value in start.tensors.items() if name in own}
        wrong = sorted(wanted - set(found)) + [n for n, value in found.items() if value.shape != own[n].shape]
        if wrong:
            raise ArgumentError(
                f"start.model {model} does not fit the {branch} ({recipe.method.architecture}): {listed(wrong[:5])} of "
                f"{len(wrong)} differ; leave `method.architecture` and its options to the model."
            )
        backbone.load_state_dict({**own, **found})
    core = method.core()
    core.load_state_dict({**core.state_dict(), **_head_for(method, recipe)})


def _head_for(method: Method, recipe: Recipe) -> dict[str, Tensor]:
    """Return what a model's file holds of a method beside its backbones; nothing where its heads are others.

    All of it or nothing: half of a head would be neither.
    """
    state = method.core().state_dict()
    held = _heads_of(recipe.start.model, recipe.name)
    fitting = {name: value for name, value in held.items() if name in state and value.shape == state[name].shape}
    heads = {name for name in state if ".head." in name and ".backbone." not in name}
    return fitting if heads and heads <= set(fitting) else {}


def _read(model: str) -> _Start:
    backbone = load_backbone(model, device="cpu", precision="float32")
    facts = backbone.provenance()
    if not str(facts.get("source", "")).startswith("timm"):
        raise ArgumentError(
            f"start.model {model} is a network of {facts.get('source')}; only those that timm builds are trained."
        )
    options = {name: _value(text) for name, text in dict(facts.get("options", {})).items()}
    architecture = str(facts["architecture"]).partition(".")[0]
    return _Start(architecture, options, backbone.network.state_dict(), backbone.mean, backbone.std)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _heads_of(model: str, method: str) -> dict[str, Tensor]:
    """Return what a model's file holds beside its networks, under a method's own names; nothing of other methods."""
    folder = Path(model)
    if (folder / "run.json").is_file():
        return _of_run(folder, method)
    weights = parse_model_name(model).weights
    if weights is None or not method.startswith("ibot"):
        return {}
    try:
        groups = open_checkpoint(weights).groups
    except BackboneError:
        return {}
    found: dict[str, Tensor] = {}
    for branch in ("student", "teacher"):
        for name, value in groups.get(branch, {}).items():
            part = name.removeprefix("module.").removeprefix("head.")
            if "head." in name and part in HEAD:
                found[f"{branch}.head.{HEAD[part]}"] = value.float()
    return found


def _of_run(run: Path, method: str) -> dict[str, Tensor]:
    found = checkpoints_of(run)
    if not found:
        return {}
    try:
        state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)["method"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ArgumentError(f"start.model {run} cannot be read ({first_line(error)}); is it whole?") from error
    inner = {name.removeprefix("inner."): value for name, value in state.items()}
    return {name: value for name, value in inner.items() if ".backbone." not in name}
