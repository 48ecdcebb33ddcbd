"""The name of a timm architecture in, its network without weights out: its names, shapes, sizes and maps."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from ...errors import BackboneError, first_line
from ..backbone import RUN_ERRORS
from ..names import ModelName
from .base import build_errors, seeded
from .downloads import check_hub

__all__ = [
    "VERSION",
    "Size",
    "all_maps",
    "blank_network",
    "build_at_random",
    "check_pretrained",
    "family",
    "known_architectures",
    "maps_of",
    "native_size",
    "own_conversion",
    "ways_to",
]

VERSION = timm.__version__
Size = tuple[int, int]
# Stands for what `forward_features` gives, among the indices of intermediates.
OWN = -1


def known_architectures() -> list[str]:
    """Return the names of timm's architectures, sorted."""
    return sorted(timm.list_models())


def family(architecture: str) -> str:
    """Return the module of timm that registers an architecture."""
    return str(timm.models.model_entrypoint(architecture).__module__.rpartition(".")[2])


def own_conversion(architecture: str) -> Callable[..., dict[str, Any]] | None:
    """Return what timm itself turns the names of a family's releases into its own with; None where it has no such."""
    if not timm.is_model(architecture):
        return None
    home = importlib.import_module(timm.models.model_entrypoint(architecture).__module__)
    found: Callable[..., dict[str, Any]] | None = getattr(home, "checkpoint_filter_fn", None)
    return found


def build_at_random(model: ModelName) -> nn.Module:
    """Build a network with the random weights that timm gives it, for its shapes."""
    with seeded(0, model.architecture), build_errors(model, pretrained=False):
        network: nn.Module = timm.create_model(model.architecture, **{"num_classes": 0, **model.options})
    return network.eval()


def blank_network(model: ModelName, settings: Mapping[str, Any]) -> nn.Module:
    """Return the network without memory for its weights, to look at names, shapes and sizes."""
    hub = model.architecture.startswith("hf-hub:")
    with build_errors(model, pretrained=hub):
        if hub:
            check_pretrained(model)
        with torch.device("meta"):
            network: nn.Module = timm.create_model(
                model.architecture, pretrained=False, **{"num_classes": 0, **settings}
            )
    return network.eval()


def native_size(network: nn.Module) -> Size:
    """Return height and width of the images that a network was built for, px."""
    height, width = resolve_model_data_config(network)["input_size"][-2:]
    grid = getattr(getattr(network, "patch_embed", None), "img_size", None)
    # What the network was built for counts, and not what its name is usually built for.
    return (int(grid[0]), int(grid[1])) if grid is not None else (int(height), int(width))


def ways_to(
    model: ModelName, settings: Mapping[str, Any], *, native: Size, size: Size
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield how the family takes images of `size`, by its shapes, with the settings for it.

    Raises:
        BackboneError: in no way.
    """
    if size == native:
        yield "native", {}
        return
    reasons: list[str] = []
    ways: tuple[tuple[str, dict[str, Any]], ...] = (("plain call", {}), ("img_size", {"img_size": size}))
    for way, extra in ways:
        try:
            network = blank_network(model, {**settings, **extra})
            maps_of(network, torch.zeros(1, 3, *size, device="meta"), None, False)
        except (BackboneError, *RUN_ERRORS) as error:
            reasons.append(f"{way}: {first_line(error)}")
        else:
            yield way, extra
    if len(reasons) == len(ways):
        raise BackboneError(
            f"{model.text} cannot take images of {size[0]} x {size[1]} px ({'; '.join(reasons)}); leave `image_size` "
            "away, or choose a multiple of its stride."
        )


def maps_of(network: Any, images: Tensor, indices: Sequence[int] | None, norm: bool) -> list[Tensor]:
    """Run a timm network to some of its layers and return NCHW maps, prefix tokens gone.

    Args:
        network: in evaluation mode.
        images: normalised, (B, 3, H, W).
        indices: of its intermediates; `OWN` is what its `forward_features` gives. None reads the last intermediate.
        norm: whether the final norm is applied to intermediates.
    """
    wanted = None if indices is None else sorted({index for index in indices if index != OWN})
    found: dict[int, Tensor] = {}
    with torch.inference_mode():
        if indices is not None and OWN in indices:
            found[OWN] = network.forward_features(images)
        if wanted is None or wanted:
            maps = network.forward_intermediates(
                images,
                indices=1 if wanted is None else wanted,
                norm=norm,
                output_fmt="NCHW",
                intermediates_only=True,
                stop_early=True,
            )
            if wanted is None:
                return list(maps[-1:])
            # They come in the network's order.
            found |= dict(zip(wanted, maps, strict=True))
    return [found[index] for index in indices or ()]


def all_maps(network: Any, images: Tensor) -> tuple[list[Tensor], bool]:
    """Return the map of every layer, and whether the last one is the network's own and no intermediate.

    Where `forward_features` goes on behind the last block (MobileNetV2's last 1x1 convolution, an activation), what it
    gives is a layer of its own, and what timm itself takes for the network's features.
    """
    with torch.inference_mode():
        maps = list(network.forward_intermediates(images, indices=None, output_fmt="NCHW", intermediates_only=True))
        try:
            own = network.forward_features(images)
        except RUN_ERRORS:
            # Some ask a tensor for its values on the way, which on shapes alone there are none of.
            own = None
    goes_on = (
        isinstance(own, Tensor)
        and own.ndim == 4
        and own.shape[-2:] == maps[-1].shape[-2:]
        and (own.shape[1] != maps[-1].shape[1] or isinstance(getattr(network, "final_act", None), nn.Module))
    )
    return ([*maps, own], True) if goes_on else (maps, False)


def check_pretrained(model: ModelName) -> None:
    """Raise `OSError` at once where a model would have to be downloaded and cannot."""
    if model.architecture.startswith("hf-hub:"):
        check_hub(model.architecture.removeprefix("hf-hub:"), ["config.json"])
        return
    config = timm.models.get_pretrained_cfg(model.architecture)
    if config is not None and config.hf_hub_id:
        check_hub(config.hf_hub_id, ["model.safetensors", "pytorch_model.bin"])
