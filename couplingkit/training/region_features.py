"""Maps of a network's stages and boxes in, a feature per box out: pyramid, RoIAlign and head of a detector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, roi_align

__all__ = ["RegionHead", "levels_of", "perceptron"]

ALIGNED = 7
CONVOLUTIONS = 4
# A box of this side, px, is read on the third level, whatever the size of its view; each level takes twice the size of
# the one below (Lin et al., 2017, whose levels 2 to 5 are ours from 0).
THIRD_LEVEL_PX, THIRD = 224, 2


def perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Return BYOL's two layers, with batch normalisation between."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


class RegionHead(nn.Module):
    """A feature pyramid, RoIAlign of 7 x 7 on the level of a box's size, four convolutions and a linear layer.

    Batch normalisation follows each convolution of the pyramid and of the head, a ReLU the linear layer, as the authors
    have it.

    Args:
        channels: of each stage, finest first.
        pyramid: channels of the pyramid.
        out: width of a region's feature.
    """

    def __init__(self, channels: list[int], pyramid: int, out: int):
        super().__init__()
        self.names = [str(place) for place in range(len(channels))]
        self.pyramid = FeaturePyramidNetwork(channels, pyramid, norm_layer=nn.BatchNorm2d)
        layers: list[nn.Module] = []
        for _ in range(CONVOLUTIONS):
            layers += [nn.Conv2d(pyramid, pyramid, 3, padding=1, bias=False), nn.BatchNorm2d(pyramid), nn.ReLU(True)]
        self.convolutions = nn.Sequential(*layers)
        self.out = nn.Linear(pyramid * ALIGNED**2, out)

    def forward(self, maps: list[Tensor], boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the features of boxes, (B x K, out).

        Args:
            maps: of the stages, (B, C, h, w) each, finest first.
            boxes: float (B, K, 4), px left, top, right, bottom.
            size: height and width of the view, px.
        """
        levels = self.pyramid(dict(zip(self.names, maps, strict=True)))
        flat, chosen = boxes.float().flatten(0, 1), levels_of(boxes, len(maps)).flatten()
        image = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
        regions = torch.cat([image[:, None].float(), flat], dim=1)
        # RoIAlign wants one type; boxes stay float32.
        first = levels[self.names[0]].float()
        aligned = first.new_zeros(len(flat), first.shape[1], ALIGNED, ALIGNED)
        for index, name in enumerate(self.names):
            level, rows = levels[name].float(), (chosen == index).nonzero()[:, 0]
            # A map that is rounded up has the stride of one that is not. `aligned`: a cell's value is its middle's.
            scale = 2.0 ** round(math.log2(level.shape[-1] / size[1]))
            read = roi_align(level, regions[rows], ALIGNED, spatial_scale=scale, sampling_ratio=2, aligned=True)
            aligned = aligned.index_copy(0, rows, read)
        features: Tensor = self.out(torch.flatten(self.convolutions(aligned), 1))
        return features.relu()


def levels_of(boxes: Tensor, count: int) -> Tensor:
    """Return the level that each box is read on, 0 the finest: int64 (B, K).

    Args:
        boxes: float (B, K, 4), px left, top, right, bottom.
        count: of levels.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1).sqrt()
    level = THIRD + torch.floor(torch.log2((sides / THIRD_LEVEL_PX).clamp(min=1e-6) + 1e-6))
    return level.clamp(0, count - 1).to(torch.int64)
