"""An architecture's name in, a network with its weights out: timm and torchvision, read as maps of features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
import torchvision
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session
from timm.data import resolve_model_data_config
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from ..errors import BackboneError, listed, near
from ..streams import Stream
from .backbone import RGB, BackboneOptions, ModelName, NetworkBackbone
from .checkpoints import file_sha256, fit_weights, read_weights, tensors_sha256

__all__ = ["build", "known_architectures"]

# The last submodule of each torchvision family that still has a grid, with the family's final norm where it has one
# before pooling; the second of a pair is the same without the norm.
TORCHVISION_LAYERS = (
    ("encoder", "encoder.layers"),  # ViT
    ("norm", "features"),  # Swin
    ("layer4", None),  # ResNet, ResNeXt, Wide ResNet
    ("trunk_output", None),  # RegNet
    ("blocks", None),  # MaxViT
    ("layers", None),  # MNASNet
    ("conv5", None),  # ShuffleNet
    ("inception5b", None),  # GoogLeNet
    ("Mixed_7c", None),  # Inception
    ("features", None),  # ConvNeXt, DenseNet, EfficientNet, MobileNet, SqueezeNet, VGG, AlexNet
)
TORCHVISION_HEADS = ("fc", "classifier", "heads", "head", "AuxLogits", "aux1", "aux2")
VERSIONS = {"timm": timm.__version__, "torchvision": torchvision.__version__}


def known_architectures(source: str) -> list[str]:
    """Return the names that a source (`timm` or `torchvision`) has, sorted."""
    if source == "torchvision":
        return sorted(torchvision.models.list_models(module=torchvision.models))
    return sorted(timm.list_models())


def build(model: ModelName, options: BackboneOptions) -> NetworkBackbone:
    """Build the backbone that a name and options ask for; see `load_backbone`."""
    source = "torchvision" if model.source == "torchvision" else "timm"
    known = known_architectures(source)
    plain = model.architecture.partition(".")[0]
    if plain not in known:
        other = known_architectures("timm" if source == "torchvision" else "torchvision")
        hint = near(plain, known) or near(plain, other)
        raise BackboneError(f"model {model.text!r}: {source} {VERSIONS[source]} has no architecture {plain!r}{hint}.")
    return _build_torchvision(model, options) if source == "torchvision" else _build_timm(model, options)


def _build_timm(model: ModelName, options: BackboneOptions) -> NetworkBackbone:
    network = _timm_network(model, options)
    config = resolve_model_data_config(network)
    native = int(config["input_size"][-1])
    side = options.image_size or native
    way = "native"
    if side != native:
        network, way = _timm_at(model, options, network, side)
    count = _count_layers(network, side, model.text)
    index = _layer_index(options.layer, count, model.text)
    with_norm, norm = _norm_in_effect(network, index, side, options.norm)

    def read(net: Any, images: Tensor) -> Tensor:
        return _intermediate(net, images, index, with_norm)

    return NetworkBackbone(
        network,
        read,
        name=model.text,
        side_px=side,
        mean=options.mean or _triple(config["mean"]),
        std=options.std or _triple(config["std"]),
        stride_px=_declared_stride(network, index),
        precision=options.precision,
        device=options.device,
        facts={
            "source": f"timm {VERSIONS['timm']}",
            "architecture": model.architecture,
            "options": {key: str(value) for key, value in model.options.items()},
            "layer": f"{index} of 0..{count - 1}",
            "norm": norm,
            "input": way,
            **_weights_record(model, network, options),
        },
    )


def _timm_network(model: ModelName, options: BackboneOptions, **extra: Any) -> nn.Module:
    pretrained = model.source == "timm" and model.weights is None
    settings = {"num_classes": 0, **model.options, **extra}
    with _seeded(options.seed, model.architecture), _explained(model, pretrained):
        if pretrained:
            _check_hub(model)
        network: Any = timm.create_model(model.architecture, pretrained=pretrained, **settings)
    if model.weights is not None:
        heads = network.default_cfg.get("classifier", ())
        fit_weights(
            network,
            read_weights(model.weights),
            source=f"{model.weights} in {model.architecture}",
            heads=(heads,) if isinstance(heads, str) else tuple(heads or ()),
            reshape=lambda name, value: _fit_position_embedding(network, name, value),
        )
    trunk: nn.Module = network.eval()
    return trunk


def _timm_at(model: ModelName, options: BackboneOptions, network: nn.Module, side: int) -> tuple[nn.Module, str]:
    """Return a network that takes images of `side` px, and the way it was found."""
    try:
        _intermediate(network, torch.zeros(1, 3, side, side), None, True)
        return network, "plain call"
    except (RuntimeError, AssertionError, ValueError, TypeError):
        pass
    try:
        return _timm_network(model, options, img_size=side), "img_size"
    except (TypeError, BackboneError, AssertionError) as error:
        raise BackboneError(
            f"{model.text} cannot take images of {side} x {side} px ({error}); leave --image-size away, or choose a "
            "multiple of its stride."
        ) from error


def _intermediate(network: Any, images: Tensor, index: int | None, norm: bool) -> Tensor:
    """Run a timm network to one of its layers (None: the last) and return the NCHW map, prefix tokens gone."""
    with torch.inference_mode():
        maps = network.forward_intermediates(
            images,
            indices=1 if index is None else [index],
            norm=norm,
            output_fmt="NCHW",
            intermediates_only=True,
            stop_early=True,
        )
    result: Tensor = maps[-1]
    return result


def _count_layers(network: Any, side: int, name: str) -> int:
    try:
        with torch.inference_mode():
            maps = network.forward_intermediates(
                torch.zeros(1, 3, side, side), indices=None, output_fmt="NCHW", intermediates_only=True
            )
    except (AttributeError, RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(f"{name} gives no map of features for {side} x {side} px: {error}") from error
    return len(maps)


def _layer_index(layer: str, count: int, name: str) -> int:
    if layer == "last":
        return count - 1
    try:
        index = int(layer)
    except ValueError:
        index = count
    if not 0 <= index < count:
        raise BackboneError(f"layer {layer!r} of {name}: give last or an index from 0 to {count - 1}.")
    return index


def _norm_in_effect(network: Any, index: int, side: int, asked: str) -> tuple[bool, str]:
    """Return whether to ask for the final norm, and what that does: applied, raw, or none (there is none to apply).

    Some networks refuse the argument, others ignore it; so the two maps are compared.
    """
    noise = Stream(0).child("norm probe").generator().standard_normal((1, 3, side, side))
    images = torch.from_numpy(noise).to(torch.float32)
    raw = _intermediate(network, images, index, False)
    try:
        normed = _intermediate(network, images, index, True)
    except AssertionError:
        return False, "none"
    if torch.equal(raw, normed):
        return False, "none"
    return asked == "applied", asked


def _declared_stride(network: Any, index: int) -> int | None:
    info = getattr(network, "feature_info", None)
    try:
        return int(info[index]["reduction"]) if info else None
    except (IndexError, KeyError, TypeError):
        return None


def _fit_position_embedding(network: Any, name: str, value: Tensor) -> Tensor:
    """Resample an absolute position embedding to the network's grid; other tensors pass through."""
    own = network.state_dict().get(name)
    if not name.endswith("pos_embed") or own is None or value.shape == own.shape or value.ndim != 3:
        return value
    prefix = 0 if getattr(network, "no_embed_class", False) else getattr(network, "num_prefix_tokens", 0)
    old = round((value.shape[1] - prefix) ** 0.5)
    if old * old != value.shape[1] - prefix:
        return value
    fitted: Tensor = resample_abs_pos_embed(value, list(network.patch_embed.grid_size), num_prefix_tokens=prefix)
    return fitted


def _build_torchvision(model: ModelName, options: BackboneOptions) -> NetworkBackbone:
    weights = torchvision.models.get_model_weights(model.architecture).DEFAULT
    pretrained = model.weights is None
    with _seeded(options.seed, model.architecture), _explained(model, pretrained):
        network = torchvision.models.get_model(
            model.architecture, weights=weights if pretrained else None, **model.options
        ).eval()
    if model.weights is not None:
        source = f"{model.weights} in {model.architecture}"
        fit_weights(network, read_weights(model.weights), source=source, heads=TORCHVISION_HEADS)
    transforms = weights.transforms()
    side = options.image_size or int(transforms.crop_size[0])
    place, norm = _torchvision_layer(network, options, model.text)
    return NetworkBackbone(
        network,
        lambda net, images: _hooked_map(net, images, place),
        name=model.text,
        side_px=side,
        mean=options.mean or _triple(transforms.mean),
        std=options.std or _triple(transforms.std),
        precision=options.precision,
        device=options.device,
        facts={
            "source": f"torchvision {VERSIONS['torchvision']}",
            "architecture": model.architecture,
            "options": {key: str(value) for key, value in model.options.items()},
            "layer": place,
            "norm": norm,
            "input": "plain call",
            **_weights_record(model, network, options),
        },
    )


def _torchvision_layer(network: nn.Module, options: BackboneOptions, name: str) -> tuple[str, str]:
    modules = dict(network.named_modules())
    if options.layer != "last":
        if options.layer not in modules or not options.layer:
            known = near(options.layer, modules) or f" (it has {listed(dict(network.named_children()), most=12)})"
            raise BackboneError(f"layer {options.layer!r} of {name}: no such submodule{known}.")
        return options.layer, "none"
    for place, without_norm in TORCHVISION_LAYERS:
        if place in modules and (without_norm is None or without_norm in modules):
            if isinstance(modules[place], nn.ModuleList):
                place = f"{place}.{len(list(modules[place].children())) - 1}"
            if without_norm is None:
                return place, "none"
            return (place, "applied") if options.norm == "applied" else (without_norm, "raw")
    raise BackboneError(f"{name}: its last map is not known; name a submodule with --layer.")


def _hooked_map(network: nn.Module, images: Tensor, place: str) -> Tensor:
    """Run the network, catch what the submodule at `place` gives, and bring it to NCHW."""
    caught: list[Any] = []
    handle = network.get_submodule(place).register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        network(images)
    finally:
        handle.remove()
    return _as_map(caught[-1], images.shape[-1] == images.shape[-2], place)


def _as_map(output: Any, square: bool, place: str) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 4:
        channels_last = square and output.shape[1] == output.shape[2] != output.shape[3]
        return output.permute(0, 3, 1, 2) if channels_last else output
    if isinstance(output, Tensor) and output.ndim == 3 and square:
        side = int(output.shape[1] ** 0.5)
        grid = output[:, output.shape[1] - side * side :]
        return grid.transpose(1, 2).reshape(output.shape[0], -1, side, side)
    raise BackboneError(f"submodule {place} gives no map of features; name another with --layer.")


def _weights_record(model: ModelName, network: nn.Module, options: BackboneOptions) -> dict[str, Any]:
    if model.weights is not None:
        return {
            "weights": str(model.weights),
            "weights_sha256": file_sha256(model.weights),
            "sha256_of": "file",
        }
    origin = f"random, seed {options.seed}" if model.source == "random" else "pretrained"
    return {"weights": origin, "weights_sha256": tensors_sha256(network.state_dict()), "sha256_of": "tensors"}


def _triple(values: Any) -> RGB:
    first, second, third = (float(value) for value in values)
    return first, second, third


@contextmanager
def _seeded(seed: int, architecture: str) -> Iterator[None]:
    """Draw initial weights from a named stream and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Stream(seed).child("weights", architecture).torch_seed())
        yield


@contextmanager
def _explained(model: ModelName, pretrained: bool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackboneError(
            f"the weights of {model.text} would have to be downloaded, and that failed ({_first_line(error)}); on a "
            f"machine without network give a file as {model.architecture}@FILE."
        ) from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        what = "has no pretrained weights that load here" if pretrained else "cannot be built"
        raise BackboneError(f"{model.text} {what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_hub(model: ModelName) -> None:
    """Raise `OSError` at once where the hub cannot be reached; its own client would retry for most of a minute."""
    config = timm.models.get_pretrained_cfg(model.architecture)
    if config is None or not config.hf_hub_id:
        return
    files = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
        return
    head: Callable[..., Any] = get_session().head
    try:
        head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        raise OSError(f"{constants.ENDPOINT} cannot be reached") from error
