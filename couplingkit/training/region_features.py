"""Maps of a network's stages and boxes in, a feature per box out: pyramid, RoIAlign and head of a detector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

__all__ = ["RegionHead", "perceptron"]

ALIGNED = 7
CONVOLUTIONS = 4


def perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Return BYOL's two layers, with batch normalisation between."""
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


class RegionHead(nn.Module):
    """A feature pyramid, RoIAlign of 7 x 7 on the level of a box's size, four convolutions and a linear layer.

    Args:
        channels: of each stage, finest first.
        pyramid: channels of the pyramid.
        out: width of a region's feature.
    """

    def __init__(self, channels: list[int], pyramid: int, out: int):
        super().__init__()
        self.names = [str(place) for place in range(len(channels))]
        self.pyramid = FeaturePyramidNetwork(channels, pyramid)
        self.align = MultiScaleRoIAlign(self.names, output_size=ALIGNED, sampling_ratio=2)
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
        # RoIAlign wants one type; boxes stay float32.
        levels = {name: level.float() for name, level in levels.items()}
        aligned = self.align(levels, list(boxes.float()), [size] * len(boxes))
        features: Tensor = self.out(torch.flatten(self.convolutions(aligned), 1))
        return features
