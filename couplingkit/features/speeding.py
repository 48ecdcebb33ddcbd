"""A network that will not learn in, the same one in less time out: weights rounded once, blocks compiled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["compile_blocks", "repeated_blocks", "round_weights"]

# What autocast runs in the lower precision, weights and all. Their subclasses may do more with a weight than multiply
# by it (standardise it, say), which must be done in float32.
ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Each is compiled for a batch and once more for a last, smaller one; torch stops at eight.
MOST_SHAPES = 4


def round_weights(network: nn.Module) -> None:
    """Round to bfloat16, in place, the weights that autocast would round anew in every forward pass.

    Features stay the same bit for bit; weights of norms, positions and scales stay float32, and so does what is worked
    out anew for each pass (weight normalisation).
    """
    for module in network.modules():
        plain = set(module._parameters) <= {"weight", "bias"} and not module._forward_pre_hooks
        if type(module) in ROUNDED and plain:
            module.to(torch.bfloat16)


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the innermost modules of which a network has several of one class in a row: its blocks.

    >>> chain = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Sequential(*(nn.TransformerEncoderLayer(8, 2) for _ in "123")))
    >>> len(repeated_blocks(chain))
    3
    """
    return list(_blocks_of(network))


def _blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    of_class = Counter(type(child) for child in module.children() if _is_composed(child))
    for child in module.children():
        # A stage has blocks of its own.
        inner = list(_blocks_of(child))
        if inner:
            yield from inner
        elif isinstance(module, nn.Sequential | nn.ModuleList) and of_class[type(child)] > 1 and not _is_row(child):
            yield child


def _is_composed(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _is_row(module: nn.Module) -> bool:
    """Return whether a module is but a row of others, like a ResNet's stage."""
    return type(module) in (nn.Sequential, nn.ModuleList)


def compile_blocks(network: nn.Module) -> int:
    """Compile a network's blocks by torch.compile, in place; return how many were: none where they are all different.

    Blocks of one class and shape share what is compiled, so that the first forward pass takes seconds and not minutes.
    torch gives up on a class of too many shapes, as those of a CNN are, which gains little anyway.
    """
    blocks = repeated_blocks(network)
    shapes = {(type(block), tuple(weight.shape for weight in block.parameters())) for block in blocks}
    if len(shapes) > MOST_SHAPES:
        return 0
    for block in blocks:
        block.compile()
    return len(blocks)
