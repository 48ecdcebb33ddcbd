"""Parameters in, what moves them out: weight decay on matrices, slower steps for earlier layers where asked for."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import Lars
from torch.nn.modules.batchnorm import _BatchNorm

from ..features.sources.timm_training import parameter_depths
from .batch import Progress
from .objective import Objective
from .settings import Optimizer
from .teacher import cosine, warmed_up

__all__ = ["build_optimizer", "drop_gradients", "hold_statistics", "schedule"]


def build_optimizer(objective: Objective, settings: Optimizer, *, fused: bool = False) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe.

    Its groups say of their parameters whether they have weight decay (matrices do, biases and what else has one
    dimension do not), `scale`, the factor of their learning rate, and whether they are a backbone's.

    Args:
        objective: parameters that need no gradient are left out.
        settings: of the recipe; learning rate and weight decay are set anew at each step.
        fused: whether a step of AdamW is one kernel; for a GPU.
    """
    scales = _backbone_scales(objective, settings.layer_decay)
    grouped: dict[tuple[bool, float, bool], list[torch.nn.Parameter]] = {}
    for parameter in objective.parameters():
        if parameter.requires_grad:
            within = id(parameter) in scales
            # Heads move at the full rate.
            key = (parameter.ndim > 1, scales.get(id(parameter), 1.0), within)
            grouped.setdefault(key, []).append(parameter)
    order = sorted(grouped, key=lambda key: (not key[0], key[1], key[2]))
    groups: list[dict[str, Any]] = [
        {"params": grouped[key], "decayed": key[0], "scale": key[1], "backbone": key[2]} for key in order
    ]
    start: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, betas=settings.betas, fused=fused or None, **start)
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, **start)
    lars: torch.optim.Optimizer = Lars(groups, momentum=settings.momentum, **start)
    return lars


def _backbone_scales(objective: Objective, decay: float) -> dict[int, float]:
    """Return the factor of the learning rate of each parameter of a backbone, by its identity."""
    scales: dict[int, float] = {}
    for backbone in objective.branches().values():
        learnt = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
        if decay == 1:
            scales |= {id(p): 1.0 for p in learnt.values()}
            continue
        depths = parameter_depths(backbone)
        # One more than the last layer: a head's, which has the whole rate (Bao et al., 2022).
        head = max(depths.values()) + 1
        scales |= {id(p): decay ** (head - depths[name]) for name, p in learnt.items()}
    return scales


def schedule(optimizer: Any, where: Progress, settings: Optimizer, *, head_steps: int = 0) -> tuple[float, float]:
    """Set learning rates and weight decay of a step; return them as they are of a head.

    Args:
        optimizer: of `build_optimizer`.
        where: the step.
        settings: of the recipe.
        head_steps: in the first of which backbones are left as they are; their warm-up comes behind.
    """
    decay = cosine(settings.weight_decay, settings.final_weight_decay, where.share)
    lr = _rate(where, settings, 0)
    of_backbones = _rate(where, settings, head_steps) if where.step >= head_steps else 0.0
    for group in optimizer.param_groups:
        group["lr"] = (of_backbones if group["backbone"] else lr) * group["scale"]
        group["weight_decay"] = decay if group["decayed"] else 0.0
    return lr, decay


def _rate(where: Progress, settings: Optimizer, begin: int) -> float:
    """Return the learning rate of what begins to learn with step `begin`."""
    steps, step = where.steps - begin, where.step - begin
    warmup = settings.warmup_steps or round(settings.warmup_epochs * where.steps_per_epoch)
    warmup = min(warmup, steps // 2)
    if settings.schedule == "cosine":
        start = settings.warmup_start * settings.lr
        return warmed_up(start, settings.lr, settings.final_lr, step=step, warmup=warmup, steps=steps)
    share = step / steps
    if settings.schedule == "steps":
        rate = settings.lr * 0.1 ** sum(share >= milestone for milestone in settings.milestones)
    else:
        rate = settings.final_lr + (settings.lr - settings.final_lr) * (1 - share)
    if step < warmup:
        rate *= settings.warmup_start + (1 - settings.warmup_start) * step / warmup
    return rate


def hold_statistics(objective: Objective, *, held: bool) -> None:
    """Leave the running statistics of backbones as they are, or let them follow the batches again."""
    for backbone in objective.branches().values():
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                module.train(not held)


def drop_gradients(optimizer: Any) -> None:
    """Leave the weights of backbones as they are in this step."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["backbone"] else ():
            parameter.grad = None
