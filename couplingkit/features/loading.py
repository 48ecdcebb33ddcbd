"""The name of a model in, a backbone out: its source, its weights, its normalisation, and what the record says."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ArgumentError, BackboneError, NormalisationError, listed
from .architectures import recognise
from .backbone import LayeredBackbone, NetworkBackbone
from .checkpoints import file_sha256, open_checkpoint, tensors_sha256
from .controls import CONTROL_STRIDE, parse_control
from .found_weights import FoundWeights, find_weights
from .names import RGB, BackboneOptions, ModelName, parse_model_name, split_layers
from .opened import OpenedNetwork
from .own_format import own_weights

__all__ = ["load_backbone", "load_layers"]

HOMES = {
    "timm": "timm_networks",
    "torchvision": "torchvision_networks",
    "hub": "hub_networks",
    "transformers": "transformers_networks",
}
HALF: RGB = (0.5, 0.5, 0.5)


def load_backbone(name: str, **options: Any) -> NetworkBackbone:
    """Load a model by its name, to read one layer.

    Args:
        name: a checkpoint's `FILE` (format and architecture are recognised), `ARCH` or `timm:ARCH` (pretrained, as timm
            does; also `hf-hub:ORG/NAME`), `ARCH@FILE` (weights from a file, read safely), `torchvision:ARCH`,
            `random:ARCH` (seeded random weights), a `FOLDER` as timm or transformers save it, `transformers:NAME`,
            `hub:CLONE:ENTRY` (a local clone's hubconf.py), `control:cell`, `control:leak:AMOUNT[:REACH]`;
            `ARCH,KEY=VALUE` passes a setting to the architecture.
        **options: the fields of `BackboneOptions`.

    Raises:
        BackboneError: no such model, its weights cannot be had or do not fit, its normalisation cannot be known, or it
            gives no map of features.
    """
    if len(split_layers(options.get("layer", "last"))) > 1:
        raise ArgumentError(f"layer {options['layer']!r} must be one layer here; load_layers reads several.")
    backbone = load_layers(name, **options).layers[0]
    assert isinstance(backbone, NetworkBackbone)
    return backbone


def load_layers(name: str, **options: Any) -> LayeredBackbone:
    """Load a model by its name, to read one or several layers in one forward pass; see `load_backbone`.

    Args:
        name: of the model.
        **options: the fields of `BackboneOptions`; `layer` may be several with commas.
    """
    chosen = BackboneOptions(**options)
    layers = split_layers(chosen.layer)
    model = _of_a_run(parse_model_name(name), chosen.branch)
    if model.source == "control":
        return LayeredBackbone([_control_backbone(model, chosen)])
    found = None
    if model.weights is not None:
        found = _found(model, chosen)
    elif chosen.branch is not None or chosen.key is not None:
        raise BackboneError(f"model {name!r} has no weights file, so branch and key have nothing to choose from.")
    resolved = _resolved(model, found)
    # timm takes seconds to import; who measures a control or asks for help does not wait for it.
    source = importlib.import_module(f".sources.{HOMES[resolved.source]}", __package__)
    opened: OpenedNetwork = source.open_network(resolved, chosen, found)
    mean, std, origin, notes = _normalisation(model, chosen, found, opened)
    facts = {**opened.facts, **_weights_record(model, opened, chosen, found), "normalisation": origin}
    backbones = [
        NetworkBackbone(
            opened.network,
            _reader(opened, place),
            name=name if len(layers) == 1 else f"{name} (layer {layers[place]})",
            size_px=opened.size_px,
            mean=mean,
            std=std,
            stride_px=layer.stride_px,
            precision=chosen.precision,
            device=chosen.device,
            facts={
                **facts,
                "layer": layer.label,
                "norm": layer.norm,
                "notes": [*_of_the_file(found, layer.norm), *notes],
            },
        )
        for place, layer in enumerate(opened.layers)
    ]
    return LayeredBackbone(backbones, lambda network, images: opened.read(network, images, range(len(layers))))


def _of_the_file(found: FoundWeights | None, norm: str) -> list[str]:
    notes = [f"{found.caution}."] if found is not None and found.caution else []
    if found is not None and not found.norm_trained and norm != "none":
        became = "left out" if norm == "raw" else "applied, as chosen"
        notes.append(f"its final norm was never trained ({found.system}) and is {became}.")
    return notes


def _reader(opened: OpenedNetwork, place: int) -> Any:
    def read(network: Any, images: Tensor) -> Tensor:
        return opened.read(network, images, [place])[0]

    return read


def _found(model: ModelName, options: BackboneOptions) -> FoundWeights:
    assert model.weights is not None
    checkpoint = open_checkpoint(model.weights, trust=options.trust)
    own = own_weights(checkpoint)
    if own is None:
        return find_weights(checkpoint, branch=options.branch, key=options.key)
    if options.branch not in (None, own.branch) or options.key is not None:
        raise BackboneError(
            f"weights file {model.weights} is couplingkit's own and holds one network ({own.branch or 'no branches'}); "
            "leave --branch and --key away."
        )
    return own


def _resolved(model: ModelName, found: FoundWeights | None) -> ModelName:
    """Return the name with source and architecture, which a bare file or a folder does not say."""
    if model.source == "folder":
        return _folder(model)
    if model.source == "timm" and found is not None and found.settings:
        return replace(model, options={**found.settings, **model.options})
    if model.source != "file":
        return model
    assert found is not None
    if found.architecture:
        return replace(model, source="timm", architecture=found.architecture, options=dict(found.settings))
    if found.family is None:
        raise BackboneError(
            f"weights file {model.text} holds {listed(found.tensors, most=4)}, which is no ResNet, ViT or Swin by its "
            f"names; name the architecture, as ARCH@{model.text}."
        )
    if found.strange:
        raise BackboneError(
            f"weights file {model.text} holds a {found.family} with weights that are none of its own "
            f"({listed(found.strange)}); name the architecture, as ARCH@{model.text}."
        )
    architecture = recognise(found.tensors, found.family, source=f"weights file {model.text}")
    return replace(
        model, source="timm", architecture=architecture.name, options={**architecture.options, **found.settings}
    )


def _of_a_run(model: ModelName, branch: str | None) -> ModelName:
    """Return the last checkpoint of a run folder, what its method is evaluated by unless a branch is named.

    Other models are returned as they are.
    """
    folder = Path(model.architecture) if model.source == "folder" else None
    if folder is None or not (folder / "run.json").is_file():
        return model
    whole = sorted(step.parent for step in folder.glob("checkpoints/step-*/step.json"))
    if not whole:
        raise BackboneError(f"model {model.text!r} is a training run without a checkpoint yet.")
    evaluated = json.loads((whole[-1] / "step.json").read_text()).get("evaluated", "teacher")
    weights = whole[-1] / f"{branch or evaluated}.safetensors"
    if not weights.is_file():
        has = listed(sorted(path.stem for path in whole[-1].glob("*.safetensors")))
        raise BackboneError(f"model {model.text!r} has no branch {branch!r}; its checkpoints hold {has}.")
    return replace(model, source="file", architecture="", weights=weights)


def _folder(model: ModelName) -> ModelName:
    config = Path(model.architecture) / "config.json"
    try:
        content = json.loads(config.read_text())
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"model {model.text!r} is a folder without a readable config.json; give a folder that timm or transformers "
            "saved, or a weights file in it."
        ) from error
    if "architecture" in content:
        return replace(model, source="timm", architecture=f"local-dir:{model.architecture}")
    if "model_type" in content:
        return replace(model, source="transformers")
    raise BackboneError(f"model {model.text!r}: {config} names neither an architecture of timm nor a model_type.")


def _normalisation(
    model: ModelName, options: BackboneOptions, found: FoundWeights | None, opened: OpenedNetwork
) -> tuple[RGB, RGB, str, tuple[str, ...]]:
    """Return mean, std, where they come from, and what a reader must know of them."""
    notes: tuple[str, ...] = ()
    stated, origin = opened.normalisation, f"{opened.facts['source']}'s for the model"
    if found is not None and found.normalisation is not None:
        if model.source != "file" and stated is not None and stated != found.normalisation:
            notes = (
                f"normalised with mean {found.normalisation[0]} and std {found.normalisation[1]}, as the file's layout "
                f"asks for ({found.system}), not with {opened.facts['source']}'s mean {stated[0]} and std {stated[1]} "
                f"for {opened.facts['architecture']}; --mean and --std choose otherwise.",
            )
        stated, origin = found.normalisation, f"by the file's layout: {found.system}"
    elif model.source == "file":
        stated = None
    elif found is not None and found.family == "vit" and stated is not None:
        notes = (
            f"normalised with timm's mean {stated[0]} and std {stated[1]} for {opened.facts['architecture']}, which "
            "the file does not confirm; files of DeiT and of MAE's fine-tuning need ImageNet's; --mean, --std.",
        )
    mean, std = options.mean or (stated and stated[0]), options.std or (stated and stated[1])
    if not mean or not std:
        raise NormalisationError(
            f"the normalisation of {model.text} cannot be told from it, and with the wrong one every number is wrong: "
            "give --mean and --std (ImageNet's: 0.485,0.456,0.406 and 0.229,0.224,0.225; timm's supervised ViTs: 0.5)."
        )
    if options.mean or options.std:
        return mean, std, "as chosen" if options.mean and options.std else f"as chosen, the rest {origin}", ()
    return mean, std, origin, notes


def _weights_record(
    model: ModelName, opened: OpenedNetwork, options: BackboneOptions, found: FoundWeights | None
) -> dict[str, Any]:
    if model.weights is None or found is None:
        origin = f"random, seed {options.seed}" if model.random else "pretrained"
        return {
            "weights": origin,
            "weights_sha256": tensors_sha256(opened.network.state_dict()),
            "sha256_of": "tensors",
        }
    return {
        "weights": str(model.weights),
        "weights_sha256": file_sha256(model.weights),
        "sha256_of": "file",
        "format": found.system,
        "branch": found.branch or None,
        "branches": list(found.branches),
        "key": found.place,
        "left_out": list(found.left_out),
    }


def _control_backbone(model: ModelName, options: BackboneOptions) -> NetworkBackbone:
    for name in ("layer", "norm", "branch", "key", "output_stride"):
        value = getattr(options, name)
        if value not in (None, "last", "applied"):
            raise BackboneError(
                f"control networks have one layer and no weights: {name} {value!r} is not for {model.text}."
            )
    size = options.size or (224, 224)
    if size[0] % CONTROL_STRIDE or size[1] % CONTROL_STRIDE:
        raise BackboneError(
            f"image_size of control networks must be multiples of {CONTROL_STRIDE}, but is {size[0]} x {size[1]}."
        )
    return NetworkBackbone(
        parse_control(model.architecture),
        lambda network, images: network(images),
        name=model.text,
        size_px=size,
        mean=options.mean or HALF,
        std=options.std or HALF,
        stride_px=CONTROL_STRIDE,
        # Their answer is known to 1e-6, and only float32 keeps that.
        precision="float32",
        device=options.device,
        facts={"source": "control", "architecture": model.architecture, "layer": "last", "norm": "none"},
    )
