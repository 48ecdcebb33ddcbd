"""Masks and feature maps in, one vector per object out; a region without cells gives NaN, never zeros."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ArgumentError
from ..pixels import Frame
from .hardware import whole_float32

__all__ = ["cell_shares", "covered_shares", "masked_mean", "region_weights"]


def region_weights(mask: Tensor, other_mask: Tensor, *, stride_px: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Return the share of each cell that `mask` covers, 0 where the cell holds any pixel of the other object.

    A cell with a pixel of the other object sees it directly, without any leak, so it says nothing of coupling.

    Args:
        mask: bool (B, H, W), the object's.
        other_mask: bool (B, H, W), of whatever else is on the canvas.
        stride_px: px per cell.
        grid: cells (h, w) of the feature map; rounded up from H and W by default.

    Returns:
        float32 (B, h, w) in [0, 1].
    """
    covered = cell_shares(torch.stack([mask, other_mask]), stride_px=stride_px, grid=grid)
    return covered[0] * (covered[1] == 0)


def cell_shares(masks: Tensor, *, stride_px: int, grid: tuple[int, int] | None = None) -> Tensor:
    """Return the share of each cell that masks cover: integer counts over the cell's px, exact on every device.

    Args:
        masks: bool (K, B, H, W).
        stride_px: px per cell.
        grid: cells (h, w) of the feature map; rounded up from H and W by default.

    Returns:
        float32 (K, B, h, w) in [0, 1].
    """
    height, width = masks.shape[-2:]
    rows, columns = grid or (-(-height // stride_px), -(-width // stride_px))
    # Cells that reach past the image are filled up with nothing; pixels past the last cell belong to none.
    pad = (0, columns * stride_px - width, 0, rows * stride_px - height)
    planes = masks.to(torch.float32)
    return F.avg_pool2d(F.pad(planes, pad) if any(pad) else planes, stride_px)


def covered_shares(masks: Tensor, frame: Frame, *, stride_px: int, grid: tuple[int, int]) -> Tensor:
    """Return the share of each cell that masks of a photo cover, exactly, without resizing the masks.

    Args:
        masks: bool (N, H, W), at the photo's own size.
        frame: where the photo lies in the network's input.
        stride_px: px of the input per cell.
        grid: cells (h, w).

    Returns:
        float64 (N, h, w) in [0, 1].
    """
    height, width = masks.shape[-2:]
    rows = _overlaps(frame.down(torch.arange(height + 1, dtype=torch.float64) - 0.5), grid[0], stride_px)
    columns = _overlaps(frame.across(torch.arange(width + 1, dtype=torch.float64) - 0.5), grid[1], stride_px)
    # A cell that is half covered is to have 0.5, not a rounding error less.
    return (rows @ masks.to(torch.float64) @ columns.T).clamp(0, 1).round(decimals=12)


def _overlaps(edges: Tensor, cells: int, stride_px: int) -> Tensor:
    """Return (cells, pixels): the share of each cell's side that lies within each pixel, whose edges are given."""
    starts = torch.arange(cells, dtype=torch.float64)[:, None] * stride_px
    shared = torch.minimum(edges[1:], starts + stride_px) - torch.maximum(edges[:-1], starts)
    return shared.clamp(min=0) / stride_px


def masked_mean(features: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of a feature map over a region.

    Args:
        features: float32 (B, D, h, w).
        weights: float32 (B, h, w), not negative.

    Returns:
        float32 (B, D); NaN where the weights of a map are all 0.
    """
    if features.shape[-2:] != weights.shape[-2:]:
        raise ArgumentError(
            f"weights are on a grid of {tuple(weights.shape[-2:])} cells, but the features on one of "
            f"{tuple(features.shape[-2:])}; they must come from one stride."
        )
    total = weights.sum(dim=(-2, -1))
    # Also where a script lets products round to TF32, or a training run that is looked at.
    with whole_float32():
        summed = torch.einsum("bdhw,bhw->bd", features, weights)
    return summed / total[:, None]
