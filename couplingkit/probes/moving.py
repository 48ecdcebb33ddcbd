"""Objects on a canvas in, the same objects elsewhere on an empty one out: moved by whole pixels, not drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["move_objects", "moves_within"]

Moves = Sequence[tuple[int, int]]


def move_objects(
    images: Tensor, masks: Tensor, moves: Moves, *, colour: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Return objects at other places of an empty canvas, and their masks there.

    Args:
        images: float32 (B, 3, H, W) in [0, 1] that show the objects.
        masks: bool (B, H, W).
        moves: down and to the right by so many px, one per object; none of it may leave the canvas.
        colour: of the canvas, sRGB in [0, 1].
    """
    canvas = torch.tensor(colour, dtype=images.dtype, device=images.device)[:, None, None]
    placed = [
        (image.roll(move, dims=(-2, -1)), mask.roll(move, dims=(-2, -1)))
        for image, mask, move in zip(images, masks, moves, strict=True)
    ]
    moved = torch.stack([mask for _, mask in placed])  # (B, H, W)
    return torch.where(moved[:, None], torch.stack([image for image, _ in placed]), canvas), moved


def moves_within(mask: Tensor, stride_px: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return by how many px an object can be moved up and down, and left and right, in whole strides.

    Args:
        mask: bool (H, W), with a pixel at least.
        stride_px: px per cell.

    Returns:
        ((least, most) down, (least, most) to the right), multiples of the stride; least is 0 or negative.
    """
    limits = []
    for axis in (1, 0):
        taken = mask.any(dim=axis).nonzero()
        first, last = int(taken[0]), int(taken[-1])
        beyond = mask.shape[1 - axis] - 1 - last
        limits.append((-(first // stride_px) * stride_px, beyond // stride_px * stride_px))
    return limits[0], limits[1]
