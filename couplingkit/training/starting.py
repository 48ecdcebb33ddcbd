"""A model that exists in, a recipe that goes on from it and a method that holds its weights out."""

from __future__ import annotations

import ast
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, BackboneError, NormalisationError, first_line, listed
from ..features.checkpoints import open_checkpoint
from ..features.loading import load_backbone
from ..features.names import RGB, parse_model_name
from ..words import existing_path
from .checkpoint import checkpoints_of
from .method import Method
from .recipe import Recipe, build_method

__all__ = ["check_start", "load_start", "starting_from"]

log = logging.getLogger(__name__)
# What DINO and iBOT have beside their networks, as their authors name it, and as it is named here.
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
CENTRES = {"center": "class_centre", "center2": "cell_centre"}


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

    Architecture, its settings and the normalisation become the model's (a file that does not tell its normalisation has
    the recipe's). Where its file holds all that the method has beside its networks, `start.head_steps` becomes 0:
    nothing has to be learnt by a head alone.

    Args:
        recipe: of the method.
        model: any name that `load_backbone` reads, of a network of timm's.

    Raises:
        BackboneError: no such model, or the method cannot train its network.
        ArgumentError: it is no network of timm's.
    """
    path = existing_path(model)
    name = str(path.resolve()) if path is not None else model
    start = _read(name, recipe)
    method = replace(
        recipe.method, architecture=start.architecture, options=start.options, mean=start.mean, std=start.std
    )
    found = replace(recipe, method=method, start=replace(recipe.start, model=name))
    if _head_for(build_method(found), found):
        return replace(found, start=replace(found.start, head_steps=0))
    if not found.start.head_steps:
        log.warning(
            "%s has no head for %s: a new one learns together with the backbone (start.head_steps = 0).",
            *(model, recipe.name),
        )
    return found


def check_start(recipe: Recipe) -> None:
    """Raise `ArgumentError` if a run would end before its backbone begins to learn, or hold one with random weights."""
    start, steps = recipe.start, recipe.run.steps
    if start.head_steps and not start.model:
        raise ArgumentError(
            f"start.head_steps is {start.head_steps}, but there is no model to start from; name one, or set it to 0."
        )
    if start.head_steps >= steps:
        raise ArgumentError(
            f"start.head_steps must be below the {steps} steps of the run, or its backbone never learns, but is "
            f"{start.head_steps}."
        )


def load_start(method: Method, recipe: Recipe) -> None:
    """Give a method's networks the weights of the model that its recipe starts from, and its head where it has one.

    Raises:
        ArgumentError: the weights do not fit the method's networks.
    """
    model = recipe.start.model
    start = _read(model, recipe)
    for branch, backbone in method.branches().items():
        own = backbone.state_dict()
        # What no feature depends on is left out on both sides.
        wanted = {name for name in own if not name.startswith("head.")}
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


def _read(model: str, recipe: Recipe) -> _Start:
    plain: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    try:
        backbone = load_backbone(model, **plain)
    except NormalisationError:
        backbone = load_backbone(model, **plain, mean=recipe.method.mean, std=recipe.method.std)
    facts = backbone.provenance()
    if not str(facts.get("source", "")).startswith("timm"):
        raise ArgumentError(
            f"start.model {model} is a network of {facts.get('source')}; only those that timm builds are trained."
        )
    options = {name: _value(text) for name, text in dict(facts.get("options", {})).items()}
    # Of a folder or a hub's name only the network itself says what it is.
    said = getattr(backbone.network, "pretrained_cfg", None) or {}
    architecture = str(said.get("architecture") or facts["architecture"]).partition(".")[0]
    kept = {name: value for name, value in options.items() if value is not None}
    return _Start(architecture, kept, backbone.network.state_dict(), backbone.mean, backbone.std)


def _value(text: str) -> Any:
    """Return a setting as TOML would give it back: a list, not a tuple."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


def _head_for(method: Method, recipe: Recipe) -> dict[str, Tensor]:
    """Return what a model's file holds of a method beside its networks: all of it, or nothing.

    Half of a head would be neither the model's nor a new one.
    """
    core = method.core()
    networks = {id(network) for network in core.networks()}
    within = tuple(f"{name}." for name, module in core.named_modules() if id(module) in networks)
    wanted = {name: value for name, value in core.state_dict().items() if not name.startswith(within)}
    held = _beside_networks(recipe.start.model, recipe.name)
    fits = wanted and all(name in held and held[name].shape == value.shape for name, value in wanted.items())
    return {name: held[name] for name in wanted} if fits else {}


def _beside_networks(model: str, method: str) -> dict[str, Tensor]:
    """Return what a model's file holds, under a method's own names; nothing of what the method does not know."""
    folder = existing_path(model)
    if folder is not None and (folder / "run.json").is_file():
        return _of_run(folder)
    weights = parse_model_name(model).weights
    if weights is None or not method.startswith("ibot"):
        return {}
    try:
        groups = open_checkpoint(weights).groups
    except BackboneError:
        return {}
    return _of_authors(groups)


def _of_authors(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the head, the mask token and the centres of a whole checkpoint of iBOT whose tokens share one head."""
    found: dict[str, Tensor] = {}
    for branch in ("student", "teacher"):
        held = {name.removeprefix("module."): value for name, value in groups.get(branch, {}).items()}
        other = held.get("head.last_layer2.weight_v")
        if other is not None and not torch.equal(other, held.get("head.last_layer.weight_v", other[:0])):
            return {}
        found |= {
            f"{branch}.head.{ours}": held[f"head.{name}"] for name, ours in HEAD.items() if f"head.{name}" in held
        }
        # Only the student has one; nobody asks the teacher for it.
        if "backbone.masked_embed" in held:
            token = held["backbone.masked_embed"].flatten()
            found |= {"student.mask_token": token, "teacher.mask_token": token}
    centres = groups.get("ibot_loss", {})
    found |= {ours: centres[name].flatten() for name, ours in CENTRES.items() if name in centres}
    return {name: value.float() for name, value in found.items()}


def _of_run(run: Path) -> dict[str, Tensor]:
    found = checkpoints_of(run)
    if not found:
        return {}
    try:
        state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)["method"]
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ArgumentError(f"start.model {run} cannot be read ({first_line(error)}); is it whole?") from error
    return {name.removeprefix("inner."): value for name, value in state.items()}
