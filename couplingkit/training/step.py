"""A run and what was read for it in, one step made and what the log says of it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import MeasurementError
from ..streams import Stream
from .callbacks import Watch
from .checkpoint import checkpoints_of
from .engine import LogLine, peak_memory_gib
from .method import Batch, Method, Progress
from .optimizers import drop_gradients, hold_statistics, schedule
from .recipe import Recipe
from .settings import Optimizer
from .teacher import mean_over_processes
from .telemetry import EVERY, effective_rank
from .views import to_unit

__all__ = ["Running", "advance", "log_line"]

BROKEN_SHARE = 0.01
FEWEST_SEEN = 1000


@dataclass(frozen=True)
class Running:
    """What a run holds on to: `model` and `optimizer` are the method and its optimizer as the engine wraps them."""

    engine: Accelerator
    recipe: Recipe
    out: Path
    method: Method
    model: nn.Module
    optimizer: Any
    watch: Watch
    first: int
    count: int
    broken: set[int] = field(default_factory=set)
    # What is written of the last step beside its losses.
    counted: dict[str, float] = field(default_factory=dict)


def advance(
    running: Running, sample: dict[str, Any], where: Progress, done: int, *, asked: bool
) -> tuple[dict[str, float], bool]:
    """Make a step of what was read; return the losses, and whether a process was asked to stop."""
    running.broken.update(sample["broken"])
    _check_broken(running.broken, (where.step - done + 1) * running.count)
    losses, counted, stop = _step(running, _parts(sample, running, where.step), where, asked=asked)
    _check_finite(losses, where.step, running.out)
    running.counted.clear()
    running.counted.update(counted)
    return losses, stop


def log_line(running: Running, where: Progress, losses: Mapping[str, float]) -> LogLine:
    """Return what the log says of a step."""
    memory = peak_memory_gib(running.engine.device)
    counted = {"broken": len(running.broken), "epoch": where.epoch, "memory_gib": memory}
    return {"step": where.step, **losses, **running.counted, **counted}


def _parts(sample: dict[str, Any], running: Running, step: int) -> list[Batch]:
    """Return the batch of this process, as so many parts as the recipe accumulates gradients over."""
    recipe, device = running.recipe, running.engine.device
    crops = to_unit(sample["crops"], device)
    recoloured = to_unit(sample["recoloured"], device) if recipe.decoupled else crops
    boxes = tuple(whole.to(device) for whole in sample["boxes"])
    local = to_unit(sample["local"], device)
    cuts = {names: keep.to(device, non_blocking=True) for names, keep in sample["cuts"].items()}
    stream, size = Stream(recipe.run.seed).child("step", step), len(crops[0]) // recipe.run.accumulate

    def batch(begin: int) -> Batch:
        own = slice(begin, begin + size)
        views = [tuple(view[own] for view in views) for views in (crops, recoloured, boxes, local)]
        return Batch(
            crops=views[0],
            recoloured=views[1],
            stream=stream,
            first=running.first + begin,
            total=recipe.run.batch_size,
            boxes=views[2],
            local=views[3],
            cuts={names: keep[own] for names, keep in cuts.items()},
        )

    return [batch(begin) for begin in range(0, size * recipe.run.accumulate, size)]


def _step(
    running: Running, parts: Sequence[Batch], where: Progress, *, asked: bool
) -> tuple[dict[str, float], dict[str, float], bool]:
    """Make one step; return the losses, what else is written, and whether any process was asked to stop.

    Losses are means over all processes; the rest is of this one, but for the gradient's norm, which is that of all.
    """
    engine, model, method, settings = running.engine, running.model, running.method, running.recipe.optimizer
    lr, decay = schedule(running.optimizer, where, settings, head_steps=running.recipe.start.head_steps)
    method.before_step(where)
    running.optimizer.zero_grad()
    head_steps = running.recipe.start.head_steps
    if head_steps:
        hold_statistics(method, held=where.step < head_steps)
    sums: dict[str, Tensor] = {}
    for index, batch in enumerate(parts):
        # What is left to the global generator (stochastic depth) depends on step, process and part alone.
        torch.manual_seed(batch.stream.child("global", engine.process_index, index).torch_seed())
        with nullcontext() if index + 1 == len(parts) else engine.no_sync(model):
            with engine.autocast():
                losses: dict[str, Tensor] = model(method.views(batch))
                total = torch.stack(list(losses.values())).sum()
            engine.backward(total / len(parts))
        for name, value in (*losses.items(), ("total", total)):
            sums[name] = sums.get(name, 0) + value.detach().float() / len(parts)
    if where.step < head_steps:
        drop_gradients(running.optimizer)
    norm = clip_gradients(model, settings)
    running.optimizer.step()
    method.after_step(where)
    # All processes hear of a stop at the same step, or one would wait for the others for ever.
    said = torch.tensor(float(asked), device=engine.device)
    *means, stop = mean_over_processes(torch.stack([*sums.values(), said])).tolist()
    counted = {"lr": lr, "weight_decay": decay, "grad_norm": float(norm), **_observed(method, where)}
    return dict(zip(sums, means, strict=True)), counted, stop > 0


def _observed(method: Method, where: Progress) -> dict[str, float]:
    """Return what a method says of itself, and the rank of its features every few steps."""
    observed = dict(method.observed())
    features = observed.pop("features", None)
    if features is not None and where.step % EVERY == 0:
        observed["feature_rank"] = effective_rank(features)
    return {name: float(value) for name, value in observed.items()}


@torch.no_grad()
def clip_gradients(model: nn.Module, settings: Optimizer) -> Tensor:
    """Clip gradients as a recipe says, in place; return the norm that all of them together had before."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients))
    every: Tensor = norms.norm()
    if settings.clip > 0:
        factors = (settings.clip / ((norms if settings.clip_each else every) + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()) if settings.clip_each else [factors] * len(gradients))
    return every


def _check_finite(losses: dict[str, float], step: int, out: Path) -> None:
    if all(math.isfinite(value) for value in losses.values()):
        return
    found = checkpoints_of(out)
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    raise MeasurementError(f"step {step} lost a number that is not finite ({parts}); {last}.")


def _check_broken(broken: set[int], seen: int) -> None:
    if len(broken) > BROKEN_SHARE * max(seen, FEWEST_SEEN):
        raise MeasurementError(
            f"{len(broken)} of the first {seen} images cannot be read, more than {BROKEN_SHARE:.0%}; mend the data."
        )
