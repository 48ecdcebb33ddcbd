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
from .batch import Progress
from .callbacks import Watch
from .job import Job, Place
from .objective import Objective
from .optimizers import drop_gradients, hold_statistics, schedule
from .outcome import Outcome, outcome_of
from .settings import Optimizer

__all__ = ["Running", "advance"]

BROKEN_SHARE = 0.01
FEWEST_SEEN = 1000


@dataclass(frozen=True)
class Running:
    """What a run holds on to: `model` and `optimizer` are the objective and its optimizer as the engine wraps them."""

    engine: Accelerator
    job: Job
    out: Path
    objective: Objective
    model: nn.Module
    optimizer: Any
    watch: Watch
    place: Place
    broken: set[int] = field(default_factory=set)


def advance(running: Running, sample: dict[str, Any], where: Progress, done: int, *, asked: bool) -> Outcome:
    """Make a step of what was read; return what is to be known of it, for which nothing waits here."""
    running.broken.update(sample["broken"])
    _check_broken(running.broken, (where.step - done + 1) * running.place.count)
    parts = running.job.parts(sample, running.place, where.step)
    return _step(running, parts, where, asked=asked)


def _step(running: Running, parts: Sequence[Any], where: Progress, *, asked: bool) -> Outcome:
    """Make one step; losses are means over all processes, the rest is of this one, but for the gradient's norm."""
    engine, model, objective, job = running.engine, running.model, running.objective, running.job
    head_steps = job.head_steps
    lr, decay = schedule(running.optimizer, where, job.optimizer, head_steps=head_steps)
    objective.before_step(where)
    running.optimizer.zero_grad()
    if head_steps:
        hold_statistics(objective, held=where.step < head_steps)
    stream = Stream(job.run.seed).child("step", where.step)
    sums: dict[str, Tensor] = {}
    for index, batch in enumerate(parts):
        # What is left to the global generator (stochastic depth) depends on step, process and part alone.
        torch.manual_seed(stream.child("global", engine.process_index, index).torch_seed())
        with nullcontext() if index + 1 == len(parts) else engine.no_sync(model):
            with engine.autocast():
                losses: dict[str, Tensor] = model(objective.views(batch))
                total = torch.stack(list(losses.values())).sum()
            engine.backward(total / len(parts))
        for name, value in (*losses.items(), ("total", total)):
            sums[name] = sums.get(name, 0) + value.detach().float() / len(parts)
    if where.step < head_steps:
        drop_gradients(running.optimizer)
    norm = clip_gradients(model, job.optimizer)
    running.optimizer.step()
    objective.after_step(where)
    observed = {"grad_norm": norm, **objective.observed()}
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
