"""A fine-tuned detector and a photo in, its detections in px of the photo out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.segmentation import encode_mask
from ..evaluation.detection_scores import Detections

__all__ = ["as_image", "detect"]

MASK = 0.5


def as_image(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return uint8 (H, W, 3) as float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).to(torch.float32) / 255


@torch.no_grad()
def detect(detector: nn.Module, pixels: NDArray[np.uint8], *, precision: str = "float32") -> Detections:
    """Return what a detector of torchvision's says of one photo.

    Args:
        detector: in evaluation mode.
        pixels: uint8 (H, W, 3).
        precision: float32 or bfloat16.
    """
    device = next(detector.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        (found,) = detector([as_image(pixels, device)])
    corners = found["boxes"].double().cpu().numpy()
    boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Detections(
        found["labels"].cpu().numpy().astype(np.int64) - 1,
        found["scores"].double().cpu().numpy(),
        boxes.reshape(-1, 4),
        _rles(found["masks"]) if "masks" in found else None,
    )


def _rles(masks: torch.Tensor) -> tuple[dict[str, Any], ...]:
    """Return the compressed masks of shares (n, 1, H, W)."""
    return tuple(encode_mask(mask[0].cpu().numpy()) for mask in (masks > MASK))
