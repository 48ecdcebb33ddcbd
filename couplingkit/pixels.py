"""Pixels in, pixels out: pasting by masks, canvases and normalisation, as pure functions on batches of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["composite", "full_canvas", "normalize", "repeat_to"]


def composite(background: Tensor, rgb: Tensor, mask: Tensor) -> Tensor:
    """Show `rgb` where `mask` is set and `background` elsewhere, each pixel copied bit for bit.

    Args:
        background: float32 (B, 3, H, W) in [0, 1].
        rgb: float32 (B, 3, H, W) in [0, 1].
        mask: bool (B, H, W).

    Returns:
        float32 (B, 3, H, W) in [0, 1]. There is no blending: a pixel belongs to one layer.
    """
    return torch.where(mask[:, None], rgb, background)


def full_canvas(colour: tuple[float, float, float], batch: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return float32 (batch, 3, *size) of one sRGB colour in [0, 1]; size is (height, width)."""
    return torch.tensor(colour, dtype=torch.float32, device=device).view(1, 3, 1, 1).expand(batch, 3, *size)


def normalize(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Return `(images - mean) / std` per channel; exactly 0 where a pixel is float32(mean).

    Args:
        images: float32 (B, 3, H, W) in [0, 1].
        mean: per channel, in [0, 1].
        std: per channel, above 0.
    """
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
    return (images - shift) / scale


def repeat_to(tile: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge or shrink (..., h, w) to the middle square of (..., *size) and repeat it beyond, by nearest pixel.

    With integer arithmetic only, so that every machine takes the same pixels.
    """
    side = min(size)
    rows, columns = (
        (torch.arange(length, device=tile.device) - (length - side) // 2) * cells // side % cells
        for length, cells in zip(size, tile.shape[-2:], strict=True)
    )
    return tile[..., rows[:, None], columns[None, :]]
