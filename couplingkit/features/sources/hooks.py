"""A network without an interface for dense features in, what its submodules give out, as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BackboneError, listed, near
from ..names import BackboneOptions, split_layers
from .base import ReadLayer

__all__ = ["as_map", "read_by_hooks"]

MOST_PREFIX_TOKENS = 32
USUAL_STRIDES = (2, 4, 8, 14, 16, 28, 32, 64)
# The last submodule of each family that still has a grid, with the family's final norm where it has one before pooling;
# the second of a pair is the same without the norm.
LAST_PLACES = (
    ("encoder", "encoder.layers"),  # torchvision's ViT
    ("norm", "features"),  # torchvision's Swin
    ("norm", "blocks"),  # ViTs of DINO's and DINOv2's own code
    ("norm", "layers"),  # Swins of the original code
    ("layer4", None),  # ResNet, ResNeXt, Wide ResNet
    ("trunk_output", None),  # RegNet
    ("blocks", None),  # MaxViT
    ("layers", None),  # MNASNet
    ("conv5", None),  # ShuffleNet
    ("inception5b", None),  # GoogLeNet
    ("Mixed_7c", None),  # Inception
    ("features", None),  # ConvNeXt, DenseNet, EfficientNet, MobileNet, SqueezeNet, VGG, AlexNet
)


def read_by_hooks(
    network: nn.Module, options: BackboneOptions, norm: str, name: str
) -> tuple[tuple[ReadLayer, ...], Any]:
    """Return the layers that are asked for and how `OpenedNetwork` reads them.

    Args:
        network: of any family.
        options: `layer` names submodules, or is `last`.
        norm: applied or raw, of the last layer.
        name: of the model, for errors.
    """
    places = [
        last_place(network, norm, name) if layer == "last" else (submodule(network, layer, name), "none")
        for layer in split_layers(options.layer)
    ]

    def read(net: Any, images: Tensor, which: Sequence[int]) -> list[Tensor]:
        return hooked_maps(net, images, [places[one][0] for one in which])

    return tuple(ReadLayer(place, became) for place, became in places), read


def last_place(network: nn.Module, norm: str, name: str) -> tuple[str, str]:
    """Return the submodule whose output is the last map, and what became of the final norm.

    Args:
        network: of any family.
        norm: applied or raw.
        name: of the model, for the error.

    Raises:
        BackboneError: the network is of no family that is known here.
    """
    modules = dict(network.named_modules())
    for place, without_norm in LAST_PLACES:
        if place not in modules or (without_norm is not None and without_norm not in modules):
            continue
        raw = without_norm is not None and norm == "raw"
        chosen = without_norm if raw and without_norm is not None else place
        module = modules[chosen]
        if isinstance(module, nn.ModuleList):
            chosen = f"{chosen}.{len(module) - 1}"
        return chosen, "none" if without_norm is None else norm
    raise BackboneError(f"{name}: its last map is not known; name a submodule with `layer`.")


def submodule(network: nn.Module, layer: str, name: str) -> str:
    """Return `layer` if the network has such a submodule, else raise `BackboneError` with the near ones."""
    modules = dict(network.named_modules())
    if layer in modules and layer:
        return layer
    known = near(layer, modules) or f" (it has {listed(dict(network.named_children()), most=12)})"
    raise BackboneError(f"layer {layer!r} of {name}: no such submodule{known}.")


def hooked_maps(network: nn.Module, images: Tensor, places: Sequence[str]) -> list[Tensor]:
    """Run the network once, catch what the submodules at `places` give, and bring it to (B, D, h, w)."""
    caught: dict[str, Any] = {}
    handles = []
    try:
        for place in places:

            def keep(_module: nn.Module, _inputs: Any, output: Any, place: str = place) -> None:
                caught[place] = output

            handles.append(network.get_submodule(place).register_forward_hook(keep))
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    size = (images.shape[-2], images.shape[-1])
    for place in places:
        if place not in caught:
            raise BackboneError(f"submodule {place} takes no part in the forward pass; name another with `layer`.")
    maps = [as_map(caught[place], size, f"submodule {place}") for place in places]
    for place, features in zip(places, maps, strict=True):
        # Tokens first, or windows in the place of images.
        if features.shape[0] != images.shape[0]:
            raise BackboneError(f"submodule {place} gives no map per image; name another with `layer`.")
    return maps


def as_map(output: Any, size: tuple[int, int], what: str, *, stride: int | None = None) -> Tensor:
    """Bring a submodule's output to (B, D, h, w): channels first or last, or tokens behind class and register tokens.

    Args:
        output: of the submodule; of several, the first.
        size: height and width of the images, px.
        what: for the error.
        stride: px per cell of tokens, where it is known.

    Raises:
        BackboneError: it has no grid of cells with one stride along both sides.
    """
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if isinstance(output, Tensor) and output.ndim == 4:
        first, last = _one_stride(output.shape[-2:], size), _one_stride(output.shape[1:3], size)
        if first and last:
            raise BackboneError(
                f"{what} gives {tuple(output.shape)}, in which channels cannot be told from cells; choose another "
                "`image_size` or `layer`."
            )
        if first or last:
            return output if first else output.permute(0, 3, 1, 2)
    if isinstance(output, Tensor) and output.ndim == 3:
        grid = _token_grid(output.shape[1], size, stride)
        if grid is not None:
            cells = output[:, output.shape[1] - grid[0] * grid[1] :]
            return cells.transpose(1, 2).reshape(output.shape[0], -1, *grid)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise BackboneError(f"{what} gives {shape}, which is no map of features; name another with `layer`.")


def _one_stride(grid: torch.Size, size: tuple[int, int]) -> bool:
    """Return whether the cells tile the image: exactly, or rounded at one of the strides that networks have."""
    rows, columns = grid
    if not rows or not columns:
        return False
    if size[0] % rows == 0 and size[1] % columns == 0 and size[0] // rows == size[1] // columns:
        return True
    return any(
        all(cells in (side // stride, -(-side // stride)) for cells, side in zip(grid, size, strict=True))
        for stride in USUAL_STRIDES
    )


def _token_grid(tokens: int, size: tuple[int, int], known: int | None) -> tuple[int, int] | None:
    """Return the grid of square cells that the tokens are, the rest standing before them; None if two could be."""
    found = []
    for stride in range(1, min(size) + 1) if known is None else (known,):
        if size[0] % stride or size[1] % stride:
            continue
        cells = (size[0] // stride) * (size[1] // stride)
        if cells <= tokens <= cells + MOST_PREFIX_TOKENS:
            found.append((size[0] // stride, size[1] // stride))
    return found[0] if len(found) == 1 else None
