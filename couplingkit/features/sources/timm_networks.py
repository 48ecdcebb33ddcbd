"""The name of a timm architecture in, a network with its weights out, read through `forward_intermediates`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from ...errors import BackboneError, near
from ...streams import Stream
from ..architectures import position_grid
from ..backbone import RUN_ERRORS
from ..fitting import check_fit, fit_weights
from ..names import BackboneOptions, ModelName, as_rgb, split_layers
from ..state_dict_matching import MatchedWeights
from .base import OpenedNetwork, ReadLayer, build_errors, layer_index, needs_output_stride, seeded, wanted_norm
from .timm_conversion import named_as_in_timm
from .timm_shapes import (
    OWN,
    VERSION,
    Size,
    all_maps,
    blank_network,
    build_at_random,
    check_pretrained,
    known_architectures,
    maps_of,
    native_size,
    ways_to,
)

__all__ = ["open_network"]

ABROAD = ("hf-hub:", "local-dir:")


def open_network(model: ModelName, options: BackboneOptions, matched: MatchedWeights | None) -> OpenedNetwork:
    """Build a timm network with pretrained weights, those found in a file, or random ones."""
    plain = model.architecture.partition(".")[0]
    if not model.architecture.startswith(ABROAD) and not timm.is_model(plain):
        raise BackboneError(
            f"model {model.text!r}: timm {VERSION} has no architecture {plain!r}{near(plain, known_architectures())}."
        )
    settings = needs_output_stride(options, model.options)
    settings |= _size_of_weights(model, settings, matched)
    blank = blank_network(model, settings)
    if matched is not None:
        matched = named_as_in_timm(model, matched, blank, _heads_of(blank))
    native = native_size(blank)
    size = options.size or native
    network, resampled, way, (count, own) = _at_size(model, options, matched, settings, blank)
    indices = [layer_index(layer, count, model.text) for layer in split_layers(options.layer)]
    places = [OWN if own and index == count - 1 else index for index in indices]
    asked = wanted_norm(options, matched)
    in_effect = _norm_in_effect(network, places, size)
    config = resolve_model_data_config(network)

    def read(net: Any, images: Tensor, which: Sequence[int]) -> list[Tensor]:
        return maps_of(net, images, [places[index] for index in which], asked == "applied" and any(in_effect))

    return OpenedNetwork(
        network=network,
        layers=tuple(
            ReadLayer(f"{index} of 0..{count - 1}", asked if has else "none", _declared_stride(network, place))
            for index, place, has in zip(indices, places, in_effect, strict=True)
        ),
        read=read,
        size_px=size,
        normalisation=(as_rgb(config["mean"]), as_rgb(config["std"])),
        facts={
            "source": f"timm {VERSION}",
            "architecture": model.architecture,
            "options": {key: str(value) for key, value in settings.items()},
            "heads": _heads(network),
            "native_size": list(native),
            "input": way,
            "interpolation": resampled or _interpolation(blank, way),
        },
        matched=matched,
    )


def _at_size(
    model: ModelName,
    options: BackboneOptions,
    matched: MatchedWeights | None,
    settings: dict[str, Any],
    blank: nn.Module,
) -> tuple[nn.Module, str, str, tuple[int, bool]]:
    """Return the network for the size that is shown, what was resampled for it, the way it takes it, and its layers.

    Of the layers: how many there are, and whether the last is the network's own map (see `all_maps`).
    """
    native = native_size(blank)
    size = options.size or native
    refused = BackboneError(f"{model.text} cannot take images of {size[0]} x {size[1]} px.")
    for way, extra in ways_to(model, settings, native=native, size=size):
        network, resampled = _with_weights(model, options, matched, {**settings, **extra}, blank)
        try:
            return network, resampled, way, _count_layers(network, size, model.text)
        except BackboneError as error:
            # Looking up relative positions that are not there fails with real numbers only.
            refused = error
    raise refused


def _heads(network: Any) -> int | None:
    """Return the attention heads per block, which no weight shows, of networks with one number of them."""
    matched = {part.num_heads for part in network.modules() if isinstance(getattr(part, "num_heads", None), int)}
    return matched.pop() if len(matched) == 1 else None


def _size_of_weights(model: ModelName, settings: Mapping[str, Any], matched: MatchedWeights | None) -> dict[str, Any]:
    """Return the input size that a ViT's weights were trained at, where it is not the architecture's own.

    So their position embedding is taken as it is, or resampled once, to the size that is shown.
    """
    grid = position_grid(matched.tensors) if matched else None
    patch = matched.tensors.get("patch_embed.proj.weight") if matched else None
    if grid is None or patch is None or patch.ndim != 4 or "img_size" in settings:
        return {}
    assert matched is not None
    own = blank_network(model, settings).state_dict().get("pos_embed")
    if own is None or own.ndim != 3 or own.shape == matched.tensors["pos_embed"].shape:
        return {}
    return {"img_size": grid * patch.shape[-1]}


def _with_weights(
    model: ModelName,
    options: BackboneOptions,
    matched: MatchedWeights | None,
    settings: dict[str, Any],
    blank: nn.Module,
) -> tuple[nn.Module, str]:
    """Return the network and, in words, which of a file's weights were resampled."""
    if matched is not None:
        return _with_matched(model, matched, settings, blank, norm=wanted_norm(options, matched))
    pretrained = not model.random
    with seeded(options.seed, model.architecture), build_errors(model, pretrained=pretrained):
        if pretrained:
            check_pretrained(model)
            # With its classifier, and so strictly: told to leave that away, timm does not mind other weights missing.
            network: nn.Module = timm.create_model(model.architecture, pretrained=True, **settings)
        else:
            network = timm.create_model(model.architecture, **{"num_classes": 0, **settings})
    return network.eval(), ""


def _heads_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's classifiers."""
    classifier = getattr(network, "default_cfg", {}).get("classifier") or ()
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)


def _with_matched(
    model: ModelName, matched: MatchedWeights, settings: dict[str, Any], blank: nn.Module, *, norm: str
) -> tuple[nn.Module, str]:
    source = f"{model.weights}, read as {model.architecture}"
    heads = _heads_of(blank)
    # A norm that was never trained may be missing, but then it cannot be applied either.
    optional = () if matched.norm_trained or norm == "applied" else ("norm.",)
    given = check_fit(blank.state_dict(), matched.tensors, source=source, heads=heads, optional=optional)
    network = build_at_random(replace(model, options=settings))
    own = network.state_dict()
    odd = [name for name in given if own[name].shape != given[name].shape]
    if not odd:
        # With its classifier, where the architecture's settings ask for one; no feature depends on it.
        fit_weights(network, given, source=source, heads=heads, optional=optional)
        return network.eval(), ""
    # Another size of input: timm knows for each family how what depends on it is resampled.
    overlay = {"state_dict": dict(given), "custom_load": False}
    with seeded(0, model.architecture), build_errors(model, pretrained=False):
        network = timm.create_model(
            model.architecture, pretrained=True, pretrained_cfg_overlay=overlay, **{"num_classes": 0, **settings}
        )
    own = network.state_dict()
    lost = [name for name in given if name not in odd and not torch.equal(own[name], given[name].to(own[name].dtype))]
    if lost:
        raise BackboneError(f"the weights of {source} do not fit at another size: {lost[0]} was not taken.")
    return network.eval(), f"{', '.join(odd)}: by timm, to the size of the input"


def _interpolation(blank: nn.Module, way: str) -> str:
    if way == "native" or "pos_embed" not in blank.state_dict():
        return "none"
    return "pos_embed: by timm, to the size of the input"


def _count_layers(network: Any, size: Size, name: str) -> tuple[int, bool]:
    try:
        maps, own = all_maps(network, torch.zeros(1, 3, *size))
    except RUN_ERRORS as error:
        raise BackboneError(f"{name} gives no map of features for {size[0]} x {size[1]} px: {error}") from error
    return len(maps), own


def _norm_in_effect(network: Any, indices: list[int], size: Size) -> list[bool]:
    """Return for each layer whether asking for the final norm changes its map.

    Some networks refuse the argument, others ignore it; so the maps are compared. What the network itself gives has
    gone through whatever stands at its end.
    """
    noise = Stream(0).child("norm probe").generator().standard_normal((1, 3, *size))
    images = torch.from_numpy(noise).to(torch.float32)
    asked = [index for index in indices if index != OWN]
    if not asked:
        return [False] * len(indices)
    raw = maps_of(network, images, asked, False)
    try:
        normed = maps_of(network, images, asked, True)
    except AssertionError:
        return [False] * len(indices)
    changed = {index: not torch.equal(before, after) for index, before, after in zip(asked, raw, normed, strict=True)}
    return [changed.get(index, False) for index in indices]


def _declared_stride(network: Any, index: int) -> int | None:
    info = getattr(network, "feature_info", None)
    try:
        return int(info[index]["reduction"]) if info else None
    except (IndexError, KeyError, TypeError):
        return None
