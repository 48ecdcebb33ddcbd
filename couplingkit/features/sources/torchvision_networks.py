"""The name of a torchvision architecture in, a network with its weights out, read by hooks on its submodules."""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn

from ...errors import BackboneError, listed, near
from ..fitting import fit_weights
from ..names import BackboneOptions, ModelName, as_rgb
from ..state_dict_matching import MatchedWeights
from .base import OpenedNetwork, build_errors, seeded, wanted_norm
from .hooks import read_by_hooks

__all__ = ["known_architectures", "open_network"]

VERSION = torchvision.__version__
HEADS = ("fc", "classifier", "heads", "head", "AuxLogits", "aux1", "aux2")


def known_architectures() -> list[str]:
    """Return the names of torchvision's classification networks, sorted."""
    return sorted(torchvision.models.list_models(module=torchvision.models))


def open_network(model: ModelName, options: BackboneOptions, matched: MatchedWeights | None) -> OpenedNetwork:
    """Build a torchvision network with pretrained weights, those found in a file, or random ones."""
    known = known_architectures()
    if model.architecture not in known:
        raise BackboneError(
            f"model {model.text!r}: torchvision {VERSION} has no architecture {model.architecture!r}"
            f"{near(model.architecture, known)}."
        )
    if options.output_stride is not None:
        raise BackboneError(
            f"{model.text}: torchvision's networks take no output_stride; timm's of the same name may, as "
            f"{model.architecture}."
        )
    weights = _weights(model)
    settings = {key: value for key, value in model.options.items() if key != "weights"}
    pretrained = matched is None and not model.random
    transforms = weights.transforms()
    native = int(transforms.crop_size[0])
    size = options.size or (native, native)
    # torchvision's ViT is built for one size; other families take any.
    sized = {"image_size": size[0]} if model.architecture.startswith("vit_") and not pretrained else {}
    with seeded(options.seed, model.architecture), build_errors(model, pretrained=pretrained):
        network: nn.Module = torchvision.models.get_model(
            model.architecture, weights=weights if pretrained else None, **{**sized, **settings}
        )
    if matched is not None:
        source = f"{model.weights}, read as torchvision's {model.architecture}"
        fit_weights(network, matched.tensors, source=source, heads=HEADS)
    layers, read = read_by_hooks(network, options, wanted_norm(options, matched), model.text)
    return OpenedNetwork(
        network=network.eval(),
        layers=layers,
        read=read,
        size_px=size,
        normalisation=(as_rgb(transforms.mean), as_rgb(transforms.std)),
        facts={
            "source": f"torchvision {VERSION}",
            "architecture": model.architecture,
            "options": {key: str(value) for key, value in model.options.items()},
            "native_size": [native, native],
            "input": "native" if size == (native, native) else "plain call",
            "interpolation": "none",
        },
    )


def _weights(model: ModelName) -> Any:
    """Return the weights that `,weights=NAME` asks for, or the architecture's own choice."""
    known = torchvision.models.get_model_weights(model.architecture)
    asked = model.options.get("weights")
    if asked is None:
        return known.DEFAULT
    if asked not in known.__members__:
        raise BackboneError(f"model {model.text!r}: weights {asked!r} must be one of {listed(known.__members__)}.")
    return known[asked]
