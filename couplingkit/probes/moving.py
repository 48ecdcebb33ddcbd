"""Objects on a canvas in, the same objects elsewhere on an empty one out: moved by whole pixels, not drawn anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..pixels import colour_tensor

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
    canvas = colour_tensor(colour, images.device)[:, None, None]
    placed = [
        (image.roll(move, dims=(-2, -1)), mask.roll(move, dims=(-2, -1)))
        for image, mask, move in zip(images, masks, moves, strict=True)
    ]
    moved = torch.stack([mask for _, mask in placed])  # (B, H, W)
    return torch.where(moved[:, None], torch.stack([image for image, _ in placed]), canvas), moved


def moves_within(masks: Tensor, stride_px: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return by how many px objects can be moved up and down, and left and right, in whole strides.

    Args:
        masks: bool (B, H, W), each with a pixel at least.
        stride_px: px per cell.

    Returns:
        Of each ((least, most) down, (least, most) to the right), multiples of the stride; least is 0 or negative.
    """
    ends = []
    for axis in (2, 1):
        taken = masks.any(dim=axis).to(torch.int32)  # (B, H), then (B, W)
        ends += [taken.argmax(dim=1), taken.flip(1).argmax(dim=1)]  # px before the first one, and after the last
    free = torch.stack(ends, dim=1).cpu().tolist()  # one wait for the device
    return [(_limits(above, below, stride_px), _limits(left, right, stride_px)) for above, below, left, right in free]


def _limits(before: int, after: int, stride_px: int) -> tuple[int, int]:
    return -(before // stride_px) * stride_px, after // stride_px * stride_px
