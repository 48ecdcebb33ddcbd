"""Features in, their products with prototypes out: the head that DINO and iBOT put on a token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..method import full_precision

__all__ = ["Head"]


class Head(nn.Module):
    """Three layers, a unit vector, its products with prototypes: features (..., D) to logits (..., prototypes)."""

    def __init__(self, channels: int, *, hidden: int, bottleneck: int, prototypes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        # A layer without bias, its rows as direction and length (weight normalisation): directions begin as torch's do,
        # short enough for AdamW's steps to turn them, and lengths at 1.
        bound = bottleneck**-0.5
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck).uniform_(-bound, bound))
        self.lengths = nn.Parameter(torch.ones(prototypes, 1))
        self.held = False

    def project(self, features: Tensor) -> Tensor:
        """Return the unit vectors of features (..., D): float32 (..., bottleneck)."""
        return F.normalize(self.layers(features).float(), dim=-1)

    def logits(self, unit: Tensor) -> Tensor:
        """Return the products of vectors (..., bottleneck) with the prototypes, linear in them, float32."""
        prototypes: Tensor = self.prototypes.detach() if self.held else self.prototypes
        lengths: Tensor = self.lengths.detach() if self.held else self.lengths
        with full_precision(unit):
            return F.linear(unit, lengths.float() * F.normalize(prototypes.float(), dim=-1))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, float32; the prototypes get no gradient while they are held."""
        return self.logits(self.project(features))
