"""The name of a model in, a backbone out: its source, its weights, its normalisation, and what the record says."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError, BackboneError, listed
from ..signatures import taking
from .architectures import recognise
from .backbone import Declaration, NetworkBackbone
from .checkpoints import open_checkpoint, tensors_sha256
from .controls import CONTROL_STRIDE, parse_control
from .hardware import resolve_device, resolve_precision
from .identity import opened_digests, resolve_folder, resolve_run
from .layered import LayeredBackbone
from .names import RGB, BackboneOptions, ModelName, parse_model_name, split_layers
from .normalisation import normalisation_of
from .own_format import own_weights
from .sources.base import OpenedNetwork
from .speeding import compile_blocks, round_weights
from .state_dict_matching import MatchedWeights, match_weights

__all__ = ["load_backbone", "load_layers"]

HOMES = {
    "timm": "timm_networks",
    "torchvision": "torchvision_networks",
    "hub": "hub_networks",
    "transformers": "transformers_networks",
}
HALF: RGB = (0.5, 0.5, 0.5)
NOT_COMPILED = "not compiled: it has no blocks of one shape, which torch.compile would make faster."
# Options that say how a network is read.
CHOSEN = ("layer", "norm", "image_size", "output_stride", "mean", "std")


@taking(BackboneOptions)
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


@taking(BackboneOptions)
def load_layers(name: str, **options: Any) -> LayeredBackbone:
    """Load a model by its name, to read one or several layers in one forward pass; see `load_backbone`.

    Args:
        name: of the model.
        **options: the fields of `BackboneOptions`; `layer` may be several with commas.
    """
    chosen = BackboneOptions(**options)
    layers = split_layers(chosen.layer)
    model = resolve_run(parse_model_name(name), chosen.branch)
    if model.source == "control":
        return LayeredBackbone([_control_backbone(model, chosen)])
    matched = _matched(model, chosen)
    resolved = _resolved(model, matched)
    # timm takes seconds to import; who measures a control or asks for help does not wait for it.
    source = importlib.import_module(f".sources.{HOMES[resolved.source]}", __package__)
    opened: OpenedNetwork = source.open_network(resolved, chosen, matched)
    matched = opened.matched or matched
    mean, std, origin, notes = normalisation_of(model, chosen, matched, opened)
    facts = {
        "model": name,
        **opened.facts,
        **_weights_record(model, opened, chosen, matched),
        "normalisation": origin,
        # What was left to the model's own defaults is not among the settings in which two models can differ.
        "chosen": {name: value for name in CHOSEN if (value := getattr(chosen, name)) is not None},
    }
    network = opened.network.eval().requires_grad_(False).to(resolve_device(chosen.device))
    if (compiled := _made_faster(network, chosen, resolved.source)) is not None:
        facts["compiled"] = compiled
        notes = notes if compiled else (*notes, NOT_COMPILED)
    backbones = [
        NetworkBackbone(
            network,
            _reader(opened, index),
            name=name if len(layers) == 1 else f"{name} (layer {layers[index]})",
            size_px=opened.size_px,
            mean=mean,
            std=std,
            precision=chosen.precision,
            declared=Declaration(
                layer.stride_px,
                {
                    **facts,
                    "layer": layer.label,
                    "norm": layer.norm,
                    "notes": [*_of_the_file(matched, layer.norm), *notes],
                },
            ),
        )
        for index, layer in enumerate(opened.layers)
    ]
    return LayeredBackbone(backbones, lambda network, images: opened.read(network, images, range(len(layers))))


def _made_faster(network: nn.Module, options: BackboneOptions, source: str) -> bool | None:
    """Round and compile a network as far as that was asked for; return whether it is compiled, None if nobody asked."""
    # What other people's code does with a weight beside multiplying by it, nobody here knows.
    known = source in ("timm", "torchvision")
    if known and resolve_precision(options.precision, resolve_device(options.device)) == "bfloat16":
        round_weights(network)
    return compile_blocks(network) > 0 if options.compile else None


def _of_the_file(matched: MatchedWeights | None, norm: str) -> list[str]:
    notes = [f"{matched.caution}."] if matched is not None and matched.caution else []
    if matched is not None and not matched.norm_trained and norm != "none":
        became = "left out" if norm == "raw" else "applied, as chosen"
        notes.append(f"its final norm was never trained ({matched.system}) and is {became}.")
    return notes


def _reader(opened: OpenedNetwork, place: int) -> Any:
    def read(network: Any, images: Tensor) -> Tensor:
        return opened.read(network, images, [place])[0]

    return read


def _matched(model: ModelName, options: BackboneOptions) -> MatchedWeights | None:
    """Return what is read of a model's weights file; None where it has none."""
    if model.weights is None:
        if options.branch is not None or options.key is not None:
            raise BackboneError(
                f"model {model.text!r} has no weights file, so branch and key have nothing to choose from."
            )
        return None
    checkpoint = open_checkpoint(model.weights, trust=options.trust_checkpoint)
    own = own_weights(checkpoint)
    if own is None:
        return match_weights(checkpoint, branch=options.branch, key=options.key)
    if options.branch not in (None, own.branch) or options.key is not None:
        raise BackboneError(
            f"weights file {model.weights} is couplingkit's own and holds one network ({own.branch or 'no branches'}); "
            "leave `branch` and `key` away."
        )
    return own


def _resolved(model: ModelName, matched: MatchedWeights | None) -> ModelName:
    """Return the name with source and architecture, which a bare file or a folder does not say."""
    if model.source == "folder":
        return resolve_folder(model)
    if model.source == "timm" and matched is not None and matched.settings:
        return replace(model, options={**matched.settings, **model.options})
    if model.source != "file":
        return model
    assert matched is not None
    if matched.architecture:
        return replace(model, source="timm", architecture=matched.architecture, options=dict(matched.settings))
    if matched.family is None:
        raise BackboneError(
            f"weights file {model.text} holds {listed(matched.tensors, most=4)}, which is no ResNet, ViT or Swin by "
            f"its names; {_way_to_read(model, matched)}."
        )
    if matched.strange:
        raise BackboneError(
            f"weights file {model.text} holds a {matched.family} with weights that are none of its own "
            f"({listed(matched.strange)}); name the architecture, as ARCH@{model.text}, where timm has it, or read it "
            f"by its project's own code, as hub:CLONE:ENTRY@{model.text}."
        )
    # Self-supervised releases have their final norm; who averages cells before it, or leaves it to a head, has none.
    normed = matched.normalisation is not None
    source = f"weights file {model.text}"
    architecture = recognise(matched.tensors, matched.family, source=source, normed=normed)
    return replace(
        model, source="timm", architecture=architecture.name, options={**architecture.options, **matched.settings}
    )


def _way_to_read(model: ModelName, matched: MatchedWeights) -> str:
    """Return what can be done with a file whose names say no family."""
    if not any("embeddings." in name or name.startswith("encoder.") for name in matched.tensors):
        return f"name the architecture, as ARCH@{model.text}, or its project's clone, as hub:CLONE:ENTRY@{model.text}"
    assert model.weights is not None
    folder = model.weights.parent
    if (folder / "config.json").is_file():
        return f"these are names of transformers: give its folder, {folder}"
    return f"these may be names of transformers: give a folder that holds it with its config.json, or ARCH@{model.text}"


def _weights_record(
    model: ModelName, opened: OpenedNetwork, options: BackboneOptions, matched: MatchedWeights | None
) -> dict[str, Any]:
    if model.weights is None or matched is None:
        origin = f"random, seed {options.seed}" if model.random else "pretrained"
        return {
            "weights": origin,
            "weights_sha256": tensors_sha256(opened.network.state_dict()),
            "sha256_of": "tensors",
            "files": opened_digests(model),
        }
    files = opened_digests(model)
    return {
        "weights": str(model.weights),
        "weights_sha256": files[model.weights.name],
        "sha256_of": "file",
        "files": files,
        "format": matched.system + (", names converted by timm" if matched.converted else ""),
        "branch": matched.branch or None,
        "branches": list(matched.branches),
        "key": matched.place,
        "left_out": [*matched.left_out, *_heads_left_out(opened, matched)],
    }


def _heads_left_out(opened: OpenedNetwork, matched: MatchedWeights) -> list[str]:
    """Return what of the matched weights the network has no place for, a classifier mostly, by the first word."""
    own = opened.network.state_dict()
    lost = [name for name in matched.tensors if name not in own]
    counts = {
        first: sum(name.partition(".")[0] == first for name in lost) for first in (n.partition(".")[0] for n in lost)
    }
    return [f"{first} ({count} tensors)" for first, count in counts.items()]


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
        parse_control(model.architecture).eval().to(resolve_device(options.device)),
        lambda network, images: network(images),
        name=model.text,
        size_px=size,
        mean=options.mean or HALF,
        std=options.std or HALF,
        # Their answer is known to 1e-6, and only float32 keeps that.
        precision="float32",
        declared=Declaration(
            CONTROL_STRIDE,
            {"source": "control", "architecture": model.architecture, "layer": "last", "norm": "none"},
        ),
    )
