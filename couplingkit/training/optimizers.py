"""Parameters in, what moves them out: weight decay on matrices, none on biases and what has one dimension."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import Lars
from torch import nn

from .recipe import Optimizer

__all__ = ["build_optimizer"]


def build_optimizer(method: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe; the second of its two groups has no weight decay.

    Args:
        method: parameters that need no gradient are left out.
        settings: of the recipe; learning rate and weight decay are set anew at each step.
    """
    free = [p for p in method.parameters() if p.requires_grad and p.ndim <= 1]
    decayed = [p for p in method.parameters() if p.requires_grad and p.ndim > 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    start: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, betas=settings.betas, **start)
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **start)
    lars: torch.optim.Optimizer = Lars(groups, momentum=settings.momentum, **start)
    return lars
