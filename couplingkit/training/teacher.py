"""Schedules, and the moving average that a teacher is of its student."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = [
    "cosine",
    "ema_update",
    "gathered",
    "mean_over_processes",
    "mean_statistics",
    "process_count",
    "process_index",
    "warmed_up",
]


def cosine(start: float, end: float, share: float) -> float:
    """Return a cosine schedule's value after a share of the run.

    >>> cosine(1.0, 0.0, 0.0), cosine(1.0, 0.0, 0.5), cosine(1.0, 0.0, 1.0)
    (1.0, 0.5, 0.0)
    """
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def warmed_up(start: float, peak: float, end: float, *, step: int, warmup: int, steps: int) -> float:
    """Return a value that rises linearly from `start` to `peak` in `warmup` steps and falls as a cosine to `end`.

    >>> [warmed_up(0.0, 1.0, 0.0, step=step, warmup=2, steps=4) for step in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return start + (peak - start) * step / warmup
    return cosine(peak, end, (step - warmup) / max(steps - warmup, 1))


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move a teacher's parameters to `momentum` x their own + (1 - momentum) x the student's; buffers are copied."""
    ours: list[Tensor] = list(teacher.parameters())
    theirs: list[Tensor] = list(student.parameters())
    torch._foreach_mul_(ours, momentum)
    torch._foreach_add_(ours, theirs, alpha=1 - momentum)
    for own, other in zip(teacher.buffers(), student.buffers(), strict=True):
        own.copy_(other)


def process_count() -> int:
    """Return how many processes train together."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if together else 1


def process_index() -> int:
    """Return which of them this one is."""
    return torch.distributed.get_rank() if process_count() > 1 else 0


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; itself where there is one."""
    if process_count() == 1:
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / process_count()


@torch.no_grad()
def gathered(value: Tensor) -> Tensor:
    """Return the rows of all processes, first process first; itself where there is one."""
    if process_count() == 1:
        return value
    own = value.contiguous()
    parts = [torch.empty_like(own) for _ in range(process_count())]
    torch.distributed.all_gather(parts, own)
    return torch.cat(parts)


@torch.no_grad()
def mean_statistics(network: nn.Module) -> None:
    """Average the running statistics of batch normalisation over all processes, so that each holds the same network."""
    running = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    if running and process_count() > 1:
        means = mean_over_processes(torch.cat([buffer.flatten() for buffer in running]))
        for buffer, mean in zip(running, torch.split(means, [len(buffer) for buffer in running]), strict=True):
            buffer.copy_(mean)
