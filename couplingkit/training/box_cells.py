"""Boxes in px in, cells out, and back: what boxes cover of a grid, and how much of them a cutout leaves."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["box_shares", "cells_of_boxes"]


def cells_of_boxes(boxes: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the cells that boxes touch, half-open: int64 (B, K, 4), top, left, bottom, right; 0 of empty boxes.

    Args:
        boxes: float (B, K, 4), px left, top, right, bottom.
        grid: cells (h, w).
        size: height and width of the view, px.
    """
    edges = []
    for low, high, cells, length in ((1, 3, grid[0], size[0]), (0, 2, grid[1], size[1])):
        first = torch.floor(boxes[..., low] / length * cells).clamp(0, cells - 1)
        last = torch.ceil(boxes[..., high] / length * cells).clamp(max=cells)
        edges.append((first, torch.maximum(last, first + 1)))
    (top, bottom), (left, right) = edges
    cells_of = torch.stack([top, left, bottom, right], dim=-1).to(torch.int64)
    shown = (boxes[..., 2:] > boxes[..., :2]).all(dim=-1, keepdim=True)
    return torch.where(shown, cells_of, 0)


def box_shares(keep: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the share of each box that lies in kept cells, exactly: float32 (B, K); 0 for empty boxes.

    Args:
        keep: bool (B, h, w).
        boxes: float (B, K, 4), px left, top, right, bottom.
        size: height and width of the view, px.
    """
    rows = _overlaps(boxes[..., 1], boxes[..., 3], keep.shape[1], size[0])
    columns = _overlaps(boxes[..., 0], boxes[..., 2], keep.shape[2], size[1])
    inside = torch.einsum("bkh,bkw,bhw->bk", rows, columns, keep.to(rows.dtype))
    area = rows.sum(dim=-1) * columns.sum(dim=-1)
    return torch.where(area > 0, inside / area.clamp(min=1e-12), 0.0)


def _overlaps(low: Tensor, high: Tensor, cells: int, length: int) -> Tensor:
    """Return the px of each cell's side that lie between `low` and `high`, (B, K, cells)."""
    starts = torch.arange(cells, device=low.device) * (length / cells)
    shared = torch.minimum(high[..., None], starts + length / cells) - torch.maximum(low[..., None], starts)
    return shared.clamp(min=0)
