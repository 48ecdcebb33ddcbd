"""A local clone of a project and an entry of its hubconf.py in, a network out, read by hooks on its submodules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import BackboneError
from ...words import existing_path
from ..fitting import fit_weights
from ..names import BackboneOptions, ModelName
from ..state_dict_matching import MatchedWeights
from .base import OpenedNetwork, build_errors, seeded, wanted_norm
from .hooks import read_by_hooks

__all__ = ["open_network"]

# Neither classifiers nor the tokens of masked training take part in features.
HEADS = ("head", "fc", "classifier", "mask_token", "masked_embed")


def open_network(model: ModelName, options: BackboneOptions, matched: MatchedWeights | None) -> OpenedNetwork:
    """Call an entry of `hub:CLONE:ENTRY`; this runs the clone's code, as using the project does.

    With weights from a file, or random ones, the entry is told `pretrained=False` where it has such an argument.
    """
    clone, colon, entry = model.architecture.rpartition(":")
    folder = existing_path(clone)
    if not colon or folder is None or not (folder / "hubconf.py").is_file():
        raise BackboneError(
            f"model {model.text!r}: {clone or model.architecture} holds no hubconf.py; write hub:CLONE:ENTRY with the "
            "folder of a local clone."
        )
    if options.output_stride is not None:
        raise BackboneError(f"{model.text}: pass what the entry itself takes, as hub:CLONE:ENTRY,KEY=VALUE.")
    network = _call(model, options, folder, entry, given=matched is not None or model.random)
    if matched is not None:
        fit_weights(network, matched.raw, source=f"{model.weights}, read as {entry}", heads=HEADS)
    layers, read = read_by_hooks(network, options, wanted_norm(options, matched), model.text)
    return OpenedNetwork(
        network=network.eval(),
        layers=layers,
        read=read,
        size_px=options.size or (224, 224),
        normalisation=None,
        facts={
            "source": f"torch hub, {folder.resolve()}",
            "architecture": entry,
            "options": {key: str(value) for key, value in model.options.items()},
            "native_size": None,
            "input": "plain call",
            "interpolation": "as the network's own code does",
        },
    )


def _call(model: ModelName, options: BackboneOptions, folder: Path, entry: str, *, given: bool) -> nn.Module:
    attempts = [{"pretrained": False, **model.options}, model.options] if given else [model.options]
    with seeded(options.seed, entry), build_errors(model, pretrained=not given):
        network = _first_that_fits(str(folder), entry, attempts)
    if not isinstance(network, nn.Module):
        raise BackboneError(f"model {model.text!r}: the entry gives a {type(network).__name__}, and no network.")
    return network


def _first_that_fits(folder: str, entry: str, attempts: Sequence[Mapping[str, Any]]) -> Any:
    for number, settings in enumerate(attempts):
        try:
            load: Callable[..., Any] = torch.hub.load
            return load(folder, entry, source="local", trust_repo=True, **settings)
        except TypeError:
            if number + 1 == len(attempts):
                raise
    raise AssertionError("no attempt was made")
