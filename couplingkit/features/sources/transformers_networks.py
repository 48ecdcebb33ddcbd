"""The name or folder of a Hugging Face transformers vision model in, a network out, read through its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BackboneError, listed
from ...streams import Stream
from ...typed_files import Record, read_json
from ...words import existing_path
from ..backbone import RUN_ERRORS
from ..checkpoints import open_checkpoint
from ..names import RGB, BackboneOptions, ModelName, as_rgb, split_layers
from ..state_dict_matching import MatchedWeights
from .base import OpenedNetwork, ReadLayer, build_errors, layer_index, seeded, wanted_norm
from .downloads import check_hub
from .hooks import as_map

__all__ = ["open_network"]

Size = tuple[int, int]
# What the families call the norm behind their last block.
# What models of images and text call their image tower.
IMAGE_TOWERS = ("vision_model", "vision_tower", "vision_encoder", "visual", "image_encoder")
NORMS = ("layernorm", "layer_norm", "norm", "post_layernorm", "encoder.layernorm")


class _Config(Record, frozen=True):
    auto_map: dict[str, Any] | None = None


def open_network(model: ModelName, options: BackboneOptions, matched: MatchedWeights | None) -> OpenedNetwork:
    """Load `transformers:NAME_OR_FOLDER`, all of its weights or nothing.

    A ViT's layer 3 is what its fourth block gives; a hierarchical network's is what its fourth stage gives.
    """
    if matched is not None or options.output_stride is not None or model.options:
        raise BackboneError(
            f"{model.text}: transformers reads its own folders only; weights files, settings and output strides go "
            "with timm's architectures."
        )
    network, processor = _load(model, options)
    network = _image_tower(network)
    native = _native_size(network, processor)
    size = options.size or native
    noise = torch.from_numpy(Stream(0).child("norm probe").generator().standard_normal((1, 3, *size))).float()
    _check_order(network, model.text)
    states, dense = _states(network, noise, model.text)
    norm = _dense_norm(network, states[-1], dense, model.text)
    indices = [layer_index(layer, len(states), model.text) for layer in split_layers(options.layer)]
    # The final norm is made for the width of the last layer; the earlier stages of a hierarchical network have another.
    fits = [norm is not None and states[index].shape[1] == states[-1].shape[1] for index in indices]
    asked = wanted_norm(options, matched)

    def read(net: Any, images: Tensor, which: Sequence[int]) -> list[Tensor]:
        maps, _ = _states(net, images, model.text)
        normed = asked == "applied"
        return [_normed(norm, maps[indices[one]]) if normed and fits[one] else maps[indices[one]] for one in which]

    return OpenedNetwork(
        network=network,
        layers=tuple(
            ReadLayer(f"{index} of 0..{len(states) - 1}", asked if fit else "none")
            for index, fit in zip(indices, fits, strict=True)
        ),
        read=read,
        size_px=size,
        normalisation=_normalisation(processor),
        facts={
            "source": f"transformers {_version()}",
            "architecture": type(network).__name__,
            "options": {},
            "native_size": list(native),
            "input": "native" if size == native else "plain call",
            "interpolation": "none" if size == native else "as the network's own code does",
        },
    )


def _image_tower(network: Any) -> Any:
    """Return the part of a network that sees images: the network itself, or one of its two towers."""
    for name in IMAGE_TOWERS:
        tower = getattr(network, name, None)
        # An image network has no text beside it.
        if isinstance(tower, nn.Module) and hasattr(network.config, "vision_config"):
            return tower.eval()
    return network


def _version() -> str:
    import transformers

    return str(transformers.__version__)


def _checked_pickles(folder: Path) -> bool:
    """Return whether a folder's weights are torch files, as older ones have them; each was opened safely then.

    Raises:
        BackboneError: one of them is damaged, or holds other objects than tensors.
    """
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if not pickles or any(folder.glob("*.safetensors")):
        return False
    for path in pickles:
        open_checkpoint(path)
    return True


def _load(model: ModelName, options: BackboneOptions) -> tuple[Any, dict[str, Any]]:
    try:
        import transformers
    except ImportError as error:
        raise BackboneError(
            f"{model.text} needs the package transformers, which is not installed; "
            "run: python -m pip install 'couplingkit[transformers]'."
        ) from error
    place = model.architecture
    folder = existing_path(place)
    local = folder is not None and folder.is_dir()
    # Whatever a terminal answers when it is asked, a folder's own code runs only where that was asked for.
    own: dict[str, Any] = {"trust_remote_code": options.trust_checkpoint}
    with seeded(options.seed, place), build_errors(model, pretrained=not model.random):
        if folder is not None and local:
            place = str(folder)
            if not options.trust_checkpoint:
                _check_code(folder, model)
        else:
            check_hub(place, ["config.json"])
        if model.random:
            config = transformers.AutoConfig.from_pretrained(place, **own)
            build: Any = transformers.AutoModel.from_config
            return build(config, **own).eval(), _processor(transformers, place)
        # Of the hub, safetensors alone: a pickle that comes over the network stays outside.
        pickled = _checked_pickles(folder) if folder is not None and local else False
        network, report = transformers.AutoModel.from_pretrained(
            place, output_loading_info=True, use_safetensors=not pickled, local_files_only=local, **own
        )
    lacking = [name for name in report["missing_keys"] if not name.startswith(("pooler.", "head."))]
    lacking += [str(entry) for entry in report.get("mismatched_keys", ())]
    if lacking:
        raise BackboneError(
            f"the weights of {model.text} are not whole: {listed(lacking)} missing or of another shape."
        )
    return network.eval(), _processor(transformers, place)


def _check_code(folder: Path, model: ModelName) -> None:
    """Raise `BackboneError` if a folder's network is code of its own."""
    config = folder / "config.json"
    if config.is_file() and read_json(config, _Config, f"model {model.text}:", error=BackboneError).auto_map:
        raise BackboneError(
            f"{model.text} is built by code that lies in its folder; `trust_checkpoint=True` runs it, and whatever "
            "else it does."
        )


def _processor(transformers: Any, place: str) -> dict[str, Any]:
    try:
        matched: dict[str, Any] = transformers.image_processing_utils.ImageProcessingMixin.get_image_processor_dict(
            place
        )[0]
    except (OSError, ValueError):
        return {}
    return matched


def _native_size(network: Any, processor: dict[str, Any]) -> Size:
    side = getattr(network.config, "image_size", None)
    if isinstance(side, int):
        return side, side
    if isinstance(side, (tuple, list)):
        return int(side[0]), int(side[1])
    asked = processor.get("crop_size") or processor.get("size") or {}
    side = asked.get("height") or asked.get("shortest_edge") or 224
    return int(side), int(side)


def _states(network: Any, images: Tensor, name: str) -> tuple[list[Tensor], Tensor]:
    """Return what each block or stage gives, (B, D, h, w), before the final norm; and the network's dense output."""
    size = images.shape[-2], images.shape[-1]
    try:
        with torch.inference_mode():
            try:
                out = network(pixel_values=images, output_hidden_states=True, interpolate_pos_encoding=True)
            except TypeError:  # networks without a position embedding of fixed size
                out = network(pixel_values=images, output_hidden_states=True)
    except RUN_ERRORS as error:
        raise BackboneError(f"{name} cannot read images of {size[0]} x {size[1]} px: {error}") from error
    states = getattr(out, "reshaped_hidden_states", None) or getattr(out, "hidden_states", None)
    if not states or getattr(out, "last_hidden_state", None) is None:
        raise BackboneError(f"{name} gives no hidden states, so it has no map of features to read.")
    # The first is the embedding, which is no layer.
    depth = getattr(network.config, "num_hidden_layers", None) or len(getattr(network.config, "depths", ()))
    kept = states[1:] if depth and len(states) == depth + 1 else states
    patch = getattr(network.config, "patch_size", None)
    stride = patch if isinstance(patch, int) and not hasattr(network.config, "depths") else None
    maps = [as_map(state, size, f"{name}'s hidden state", stride=stride) for state in kept]
    last = size[0] // maps[-1].shape[-2]
    return maps, as_map(out.last_hidden_state, size, f"{name}'s last hidden state", stride=last)


def _check_order(network: Any, name: str) -> None:
    if hasattr(network.config, "mask_ratio"):
        raise BackboneError(
            f"{name} ({type(network).__name__}) leaves tokens out or shuffles them, so its cells have no place; load "
            "the encoder of such weights with timm, as ARCH@FILE."
        )


def _dense_norm(network: nn.Module, last: Tensor, dense: Tensor, name: str) -> nn.Module | None:
    """Return the norm that stands between the last layer and the dense output; None where there is none."""
    if last.shape == dense.shape and torch.allclose(last, dense, atol=1e-5):
        return None
    for place in NORMS:
        norm: nn.Module | None = dict(network.named_modules()).get(place)
        with torch.inference_mode():
            if norm is not None and torch.allclose(_normed(norm, last), dense, atol=1e-4):
                return norm
    raise BackboneError(f"{name}: what lies between its last layer and its output is not known here.")


def _normed(norm: nn.Module | None, features: Tensor) -> Tensor:
    assert norm is not None
    result: Tensor = norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return result


def _normalisation(processor: dict[str, Any]) -> tuple[RGB, RGB] | None:
    mean, std = processor.get("image_mean"), processor.get("image_std")
    if not mean or not std or len(mean) != 3 or len(std) != 3:
        return None
    return as_rgb(mean), as_rgb(std)
