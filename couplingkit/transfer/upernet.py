"""Four maps of a backbone in, scores of the classes for each cell of the finest out: UperNet (Xiao et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BackboneError
from ..features.names import RGB
from ..features.speeding import repeated_blocks
from ..streams import Stream
from ..training.objective import Objective
from .pyramid import LevelReader, block_pyramid, usual_levels
from .settings import BackboneUse, SegmentHead

__all__ = ["ConvolutionalHead", "Segmenter", "SegmenterObjective", "UperNetHead", "build_segmenter"]

POOLED = (1, 2, 3, 6)
IGNORED = -1


def _convolved(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    """Return a convolution with batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class UperNetHead(nn.Module):
    """A feature pyramid whose coarsest map knows of the whole picture by pooling.

    Args:
        inputs: channels of the maps, the finest first.
        channels: within the head.
        classes: how many.
        dropout: of what classifies.
    """

    def __init__(self, inputs: Sequence[int], channels: int, classes: int, *, dropout: float = 0.0):
        super().__init__()
        last = inputs[-1]
        self.pooled = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), _convolved(last, channels)) for side in POOLED
        )
        self.joined = _convolved(last + len(POOLED) * channels, channels, 3)
        self.lateral = nn.ModuleList(_convolved(width, channels) for width in inputs[:-1])
        self.smoothed = nn.ModuleList(_convolved(channels, channels, 3) for _ in inputs[:-1])
        self.fused = _convolved(len(inputs) * channels, channels, 3)
        self.dropout, self.classes = nn.Dropout2d(dropout), nn.Conv2d(channels, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return (B, K, h, w) of maps (B, D, h, w), the finest first."""
        coarsest = maps[-1]
        context = [coarsest, *(_resized(pool(coarsest), coarsest.shape[2:]) for pool in self.pooled)]
        levels = [self.joined(torch.cat(context, dim=1))]
        for convolution, own in zip(reversed(self.lateral), reversed(list(maps[:-1])), strict=True):
            levels.insert(0, convolution(own) + _resized(levels[0], own.shape[2:]))
        finest = levels[0].shape[2:]
        smooth = [convolution(level) for convolution, level in zip(self.smoothed, levels[:-1], strict=True)]
        every = [_resized(level, finest) for level in (*smooth, levels[-1])]
        scores: Tensor = self.classes(self.dropout(self.fused(torch.cat(every, dim=1))))
        return scores


class ConvolutionalHead(nn.Module):
    """One convolution and a classifier: what helps a middle map to learn (FCN; Long et al., 2015)."""

    def __init__(self, inputs: int, channels: int, classes: int, *, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            _convolved(inputs, channels, 3), nn.Dropout2d(dropout), nn.Conv2d(channels, classes, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, K, h, w)."""
        scores: Tensor = self.layers(features)
        return scores


class Segmenter(nn.Module):
    """A backbone with UperNet on it: images (B, 3, H, W) in [0, 1] in, scores (B, K, h, w) out.

    Attributes:
        divisor: what sides of images must be multiples of.
        mean, std: of images, (1, 3, 1, 1).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, reader: LevelReader, head: SegmentHead, classes: int, normalisation: tuple[RGB, RGB]):
        super().__init__()
        self.reader = reader
        blocks = head.neck == "blocks"
        self.sizes: nn.Module = (
            block_pyramid(reader.channels[-1]) if blocks else nn.ModuleList(nn.Identity() for _ in reader.channels)
        )
        self.head = UperNetHead(reader.channels, head.channels, classes, dropout=head.dropout)
        self.beside: nn.Module | None = None
        if head.auxiliary:
            self.beside = ConvolutionalHead(reader.channels[2], head.auxiliary_channels, classes, dropout=head.dropout)
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in normalisation)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.divisor = reader.patch

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the four maps that the heads see."""
        levels = self.reader((images - self.mean) / self.std)
        sizes: Any = self.sizes
        return [part(level) for part, level in zip(sizes, levels, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes."""
        scores: Tensor = self.head(self.maps(images))
        return scores


def build_segmenter(
    network: nn.Module,
    *,
    normalisation: tuple[RGB, RGB],
    classes: int,
    use: BackboneUse,
    head: SegmentHead,
    seed: int,
) -> Segmenter:
    """Return a segmenter on a network; the weights that are new come from `seed`.

    Raises:
        BackboneError: the neck is none for this network.
    """
    is_vit = getattr(network, "blocks", None) is not None and getattr(network, "pos_embed", None) is not None
    if (head.neck == "blocks") != is_vit:
        fits = "blocks" if is_vit else "stages"
        raise BackboneError(f"head.neck {head.neck!r} is not for {type(network).__name__}; take {fits}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Stream(seed).child("weights", "head").torch_seed())
        reader = LevelReader(network, use, usual_levels(network))
        if len(reader.levels) != 4:
            raise BackboneError(f"backbone.levels must be four for a segmenter, but are {list(reader.levels)}.")
        return Segmenter(reader, head, classes, normalisation)


class SegmenterObjective(Objective):
    """A segmenter, as the loop trains it: shown images and the class of each pixel, -1 where it does not count.

    Args:
        segmenter: of `build_segmenter`.
        auxiliary: weight of the head beside it.
        synchronised: whether batch normalisation is over the images of all GPUs.
    """

    def __init__(self, segmenter: Segmenter, *, auxiliary: float, synchronised: bool = False):
        super().__init__()
        self.segmenter, self.auxiliary, self.synchronised_norms = segmenter, auxiliary, synchronised

    def views(self, batch: Any) -> Any:
        """Return the batch as it is."""
        return batch

    def forward(self, views: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Return the losses of images float32 (B, 3, H, W) in [0, 1] with labels int64 (B, H, W)."""
        images, labels = views
        maps = self.segmenter.maps(images)
        losses = {"loss_classes": _cross_entropy(self.segmenter.head(maps), labels)}
        if self.segmenter.beside is not None:
            losses["loss_auxiliary"] = self.auxiliary * _cross_entropy(self.segmenter.beside(maps[2]), labels)
        return losses

    def branches(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"backbone": self.segmenter.reader.network}

    def blocks(self) -> list[nn.Module]:
        """Return the backbone's blocks."""
        return repeated_blocks(self.branches()["backbone"])


def _cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over labelled pixels, 0 where there is none."""
    whole = _resized(scores.float(), labels.shape[1:])
    each = F.cross_entropy(whole, labels, ignore_index=IGNORED, reduction="sum")
    return each / (labels != IGNORED).sum().clamp(min=1)
