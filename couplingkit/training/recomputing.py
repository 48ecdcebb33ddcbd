"""Blocks of a network in, the same ones with less memory out: what they computed is computed again for the gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

__all__ = ["recompute_blocks"]


def recompute_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let blocks keep only their inputs for the backward pass (Chen et al., 2016), in place.

    Gradients stay the same: random draws are repeated, and running statistics move once.
    """
    for block in blocks:
        _recompute(block)


def _recompute(block: nn.Module) -> None:
    whole = block.forward

    @wraps(whole)
    def forward(*given: Any, **named: Any) -> Any:
        # A teacher's block has nothing to keep.
        if not torch.is_grad_enabled():
            return whole(*given, **named)
        contexts = partial(_contexts, block)
        return checkpoint(whole, *given, use_reentrant=False, context_fn=contexts, **named)

    block.forward = forward  # type: ignore[method-assign]


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return nullcontext(), _held_statistics(block)


@contextmanager
def _held_statistics(block: nn.Module) -> Iterator[None]:
    """Let batch normalisation leave its running statistics alone while a block is run for the second time."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    moves = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, moves, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
