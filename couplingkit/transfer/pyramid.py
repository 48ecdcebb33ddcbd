"""Maps of a backbone in, maps of several sizes out: necks that a detector or a segmenter stands on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from ..errors import ArgumentError, BackboneError
from ..features.sources.timm_training import drop_paths, level_maps, take_any_size
from .settings import BackboneUse, DetectHead

__all__ = ["LevelReader", "PyramidBackbone", "block_pyramid", "pyramid_backbone", "simple_pyramid", "usual_levels"]

PROBE_CELLS = 8


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of maps (B, D, h, w)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of mean 0 and variance 1 in each cell, scaled and shifted."""
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LevelReader(nn.Module):
    """A pretrained network, read at some of its levels: normalised images (B, 3, H, W) in, maps out.

    Attributes:
        network: of timm's; it is changed so that it takes images of any size.
        levels: blocks or stages that are read.
        channels, strides: of their maps.

    Args:
        network: the network.
        use: what becomes of it.
        levels: that the head reads where `use` names none; negative ones count from the last.

    Raises:
        BackboneError: it cannot be read so.
    """

    def __init__(self, network: nn.Module, use: BackboneUse, levels: Sequence[int]):
        super().__init__()
        take_any_size(network)
        drop_paths(network, 0.0 if use.frozen else use.drop_path)
        self.network, self.use = network.requires_grad_(not use.frozen), use
        # Where a network has no final norm to apply, timm refuses or passes over the wish.
        self._norm = use.norm and len(getattr(network, "blocks", ())) > 0
        count = _count(network)
        self.levels = tuple(use.levels) or tuple(level % count for level in levels)
        if max(self.levels) >= count:
            raise ArgumentError(f"backbone.levels must be below {count}, the levels there are, but are {self.levels}.")
        side = PROBE_CELLS * _patch(network)
        with torch.no_grad():
            maps = self._maps(torch.zeros(1, 3, side, side))
        self.channels = tuple(part.shape[1] for part in maps)
        self.strides = tuple(side // part.shape[-1] for part in maps)
        self.patch = _patch(network)

    def _maps(self, images: Tensor) -> list[Tensor]:
        return level_maps(self.network, images, self.levels, norm=self._norm)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one map a level; without gradient where the network is frozen."""
        if self.use.frozen:
            with torch.no_grad():
                return self._maps(images)
        return self._maps(images)

    def train(self, mode: bool = True) -> LevelReader:
        """Change the mode of all but what is to stay as it is."""
        super().train(mode)
        if self.use.frozen:
            self.network.eval()
        elif self.use.statistics == "held":
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def _patch(network: Any) -> int:
    """Return what sides of images must be multiples of: the patch of a ViT, 32 px of a CNN."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    has_positions = getattr(network, "pos_embed", None) is not None
    return int(patch[0]) if patch is not None and has_positions else 32


def _count(network: Any) -> int:
    blocks = getattr(network, "blocks", None)
    if blocks is not None and getattr(network, "pos_embed", None) is not None:
        return len(blocks)
    info = getattr(network, "feature_info", None)
    if not info:
        raise BackboneError(f"{type(network).__name__} does not say which levels it has, so it cannot be fine-tuned.")
    return len(info)


def usual_levels(network: Any, count: int = 4) -> tuple[int, ...]:
    """Return four levels: the last stages of a CNN; of a ViT of 12 blocks 3, 5, 7 and 11, of others alike.

    >>> usual_levels(nn.Module())
    (-4, -3, -2, -1)
    """
    blocks = getattr(network, "blocks", None)
    if blocks is None or getattr(network, "pos_embed", None) is None:
        return tuple(range(-count, 0))
    depth = len(blocks)
    if depth < 6:
        return tuple(torch.linspace(0, depth - 1, count).round().long().tolist())
    return (depth * 4 // 12 - 1, depth * 6 // 12 - 1, depth * 8 // 12 - 1, depth - 1)


def _double(channels: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, out, 2, stride=2)


def simple_pyramid(channels: int, scales: Sequence[float], out: int) -> nn.ModuleList:
    """Return a module a scale that makes a map of `out` channels of a ViT's last map (Li et al., 2022, section 3)."""
    parts = nn.ModuleList()
    for scale in scales:
        layers: list[nn.Module] = []
        width = channels
        if scale == 4:
            layers = [_double(channels, channels // 2), ChannelNorm(channels // 2), nn.GELU()]
            layers.append(_double(channels // 2, channels // 4))
            width = channels // 4
        elif scale == 2:
            layers, width = [_double(channels, channels // 2)], channels // 2
        elif scale == 0.5:
            layers = [nn.MaxPool2d(2)]
        layers += [nn.Conv2d(width, out, 1, bias=False), ChannelNorm(out)]
        layers += [nn.Conv2d(out, out, 3, padding=1, bias=False), ChannelNorm(out)]
        parts.append(nn.Sequential(*layers))
    return parts


def block_pyramid(channels: int) -> nn.ModuleList:
    """Return what brings the maps of four blocks to 4, 2, 1 and 1/2 of their size (El-Nouby et al., 2021)."""
    four = nn.Sequential(_double(channels, channels), nn.BatchNorm2d(channels), nn.GELU(), _double(channels, channels))
    return nn.ModuleList([four, _double(channels, channels), nn.Identity(), nn.MaxPool2d(2)])


class PyramidBackbone(nn.Module):
    """A backbone with its neck, as torchvision's detectors take it.

    Attributes:
        out_channels: of each map.
        strides: px per cell of each map, the coarsest by pooling.
        divisor: what sides of images must be multiples of.

    Args:
        reader: the backbone.
        head: of the recipe.
        precision: in which the maps are computed, float32 or bfloat16. They are float32 in any case, and so is what
            follows: anchors and boxes take the type of the maps, and bfloat16 knows no pixel above 256.
    """

    def __init__(self, reader: LevelReader, head: DetectHead, precision: str = "float32"):
        super().__init__()
        self.precision = precision
        self.reader, self.kind = reader, head.neck
        self.out_channels = head.channels
        strides = list(reader.strides)
        if head.neck == "c4":
            self.out_channels = reader.channels[0]
        elif head.neck == "fpn":
            norm = nn.BatchNorm2d if head.neck_norm else None
            self.neck: nn.Module = FeaturePyramidNetwork(
                list(reader.channels), head.channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm
            )
        else:
            strides = [_whole(reader.strides[-1] / scale) for scale in head.scales]
            if head.neck == "simple":
                self.sizes = simple_pyramid(reader.channels[-1], head.scales, head.channels)
                self.pool = LastLevelMaxPool()
            else:
                self.sizes = block_pyramid(reader.channels[-1])
                self.neck = FeaturePyramidNetwork(list(reader.channels), head.channels, extra_blocks=LastLevelMaxPool())
        self.strides = tuple(strides) if head.neck == "c4" else (*strides, 2 * strides[-1])
        coarsest = strides[-1]
        # Of the photos that are padded to one size; 32 px as torchvision has it, where that will do.
        needed = math.lcm(coarsest, reader.patch)
        self.divisor = 32 if 32 % needed == 0 else needed

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return maps by their numbers, the finest first."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            found = self._maps(images)
        return OrderedDict((name, one.float()) for name, one in found.items())

    def _maps(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.reader(images)
        if self.kind == "c4":
            return OrderedDict([("0", maps[0])])
        if self.kind == "simple":
            levels = [part(maps[-1]) for part in self.sizes]
            names = [str(place) for place in range(len(levels))]
            levels, names = self.pool(levels, levels, names)
            return OrderedDict(zip(names, levels, strict=True))
        if self.kind == "blocks":
            maps = [part(one) for part, one in zip(self.sizes, maps, strict=True)]
        named = OrderedDict((str(place), one) for place, one in enumerate(maps))
        found: OrderedDict[str, Tensor] = self.neck(named)
        return found


def _whole(stride: float) -> int:
    if stride != int(stride):
        raise ArgumentError(f"head.scales must give whole strides, but one is {stride:g} px; leave the finest away.")
    return int(stride)


def pyramid_backbone(
    network: nn.Module, use: BackboneUse, head: DetectHead, precision: str = "float32"
) -> PyramidBackbone:
    """Return a backbone with the neck of a recipe.

    Raises:
        BackboneError: the neck is none for this network.
    """
    is_vit = getattr(network, "blocks", None) is not None and getattr(network, "pos_embed", None) is not None
    if (head.neck in ("simple", "blocks")) != is_vit:
        fits = "simple or blocks" if is_vit else "fpn or c4"
        raise BackboneError(f"head.neck {head.neck!r} is not for {type(network).__name__}; take {fits}.")
    levels = {"c4": (-2,), "fpn": (-4, -3, -2, -1), "simple": (-1,), "blocks": usual_levels(network)}[head.neck]
    return PyramidBackbone(LevelReader(network, use, levels), head, precision)
