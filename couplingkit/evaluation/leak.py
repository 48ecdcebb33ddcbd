"""A network and a share in, the same network whose features leak out: what a *planted* leak costs, no more."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_range
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone

__all__ = ["LeakingNetwork", "leaked"]


def leaked(features: Tensor, amount: float, *, reach: int | None = None) -> Tensor:
    """Return (1 - amount) x each cell + amount x the mean of the cells around it.

    Args:
        features: (B, D, h, w).
        amount: share in [0, 1]; 0 gives the features themselves.
        reach: cells along each axis that are taken in; None for the whole map.
    """
    if amount == 0:
        return features
    if reach is None:
        around = features.mean(dim=(-2, -1), keepdim=True)
    else:
        around = F.avg_pool2d(features, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    return (1 - amount) * features + amount * around


class _LeakingLayer:
    """One layer of a network that leaks."""

    def __init__(self, layer: DenseBackbone, amount: float, reach: int | None, suffix: str):
        self.layer, self.amount, self.reach = layer, amount, reach
        self.name = f"{layer.name}{suffix}"
        self.channels, self.stride_px = layer.channels, layer.stride_px
        self.size_px, self.mean = layer.size_px, layer.mean

    @property
    def device(self) -> torch.device:
        return self.layer.device

    def __call__(self, images: Tensor) -> Tensor:
        return leaked(self.layer(images), self.amount, reach=self.reach)

    def provenance(self) -> dict[str, Any]:
        planted = {"amount": self.amount, "reach_cells": self.reach}
        return {**self.layer.provenance(), "name": self.name, "planted_leak": planted}


class LeakingNetwork(LayeredBackbone):
    """A network whose features leak into each other by a known share.

    Args:
        network: as it is.
        amount: share in [0, 1].
        reach: cells along each axis; None for the whole map.

    Raises:
        ArgumentError: an amount or a reach is out of range.
    """

    def __init__(self, network: LayeredBackbone, amount: float, *, reach: int | None = None):
        check_range("leak", amount, 0, 1)
        if reach is not None:
            check_range("reach", reach, 1, 1000)
        self.network, self.amount, self.reach_cells = network, amount, reach
        within = "" if reach is None else f":{reach}"
        layers = [_LeakingLayer(layer, amount, reach, f"+leak:{amount:g}{within}") for layer in network.layers]
        super().__init__(layers, lambda *_: ())

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map float32 (B, 3, H, W) in [0, 1] to one float32 (B, D, h, w) per layer."""
        return tuple(leaked(features, self.amount, reach=self.reach_cells) for features in self.network(images))
