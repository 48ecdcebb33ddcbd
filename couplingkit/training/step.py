"""A run and what was read for it in, one step made and what the log says of it out."""

from __future__ import annotations

from collections.abc import Sequence
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
from .colours import ColourDraws, recolour
from .method import Batch, Method, Progress
from .optimizers import drop_gradients, hold_statistics, schedule
from .outcome import Outcome, outcome_of
from .recipe import Recipe
from .settings import Optimizer
from .views import View

__all__ = ["Running", "advance"]

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


def advance(running: Running, sample: dict[str, Any], where: Progress, done: int, *, asked: bool) -> Outcome:
    """Make a step of what was read; return what is to be known of it, for which nothing waits here."""
    running.broken.update(sample["broken"])
    _check_broken(running.broken, (where.step - done + 1) * running.count)
    return _step(running, _parts(sample, running, where.step), where, asked=asked)


def _parts(sample: dict[str, Any], running: Running, step: int) -> list[Batch]:
    """Return the batch of this process, as so many parts as the recipe accumulates gradients over."""
    recipe, boxes, cuts = running.recipe, sample["boxes"], sample["cuts"]
    crops = _shown(sample["crops"], recipe.views, sample.get("colours"))
    recoloured = crops
    if recipe.decoupled:
        again = sample.get("colours again")
        recoloured = _shown(sample["crops" if again else "recoloured"], recipe.views, again)
    local = _shown(sample["local"], recipe.augmentation.local, sample.get("local colours"))
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


def _shown(crops: Sequence[Tensor], views: Sequence[View], colours: Sequence[ColourDraws] | None) -> tuple[Tensor, ...]:
    """Return crops as float32 in [0, 1], with their colours changed where that is still to be done."""
    if colours is None:
        return tuple(crop.to(torch.float32) / 255 for crop in crops)
    of_each = zip(crops, views, colours, strict=True)
    return tuple(recolour(crop, draws, kernel=view.kernel) for crop, view, draws in of_each)


def _step(running: Running, parts: Sequence[Batch], where: Progress, *, asked: bool) -> Outcome:
    """Make one step; losses are means over all processes, the rest is of this one, but for the gradient's norm."""
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
    observed = {"grad_norm": norm, **method.observed()}
    return outcome_of(where, sums, observed, {"lr": lr, "weight_decay": decay}, asked=asked)


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


def _check_broken(broken: set[int], seen: int) -> None:
    if len(broken) > BROKEN_SHARE * max(seen, FEWEST_SEEN):
        raise MeasurementError(
            f"{len(broken)} of the first {seen} images cannot be read, more than {BROKEN_SHARE:.0%}; mend the data."
        )
