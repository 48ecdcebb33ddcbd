"""A fine-tuned detector or segmenter and a photo in, its detections or classes in px of the photo out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from ..data.segmentation import encode_mask
from ..evaluation.detection_scores import Detections
from .segment_views import resized_photo, shorter_side
from .settings import SegmentPhotos
from .upernet import Segmenter

__all__ = ["as_image", "detect", "segment", "windows"]

MASK = 0.5


def as_image(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Return uint8 (H, W, 3) as float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1).to(torch.float32) / 255


@torch.no_grad()
def detect(detector: nn.Module, pixels: NDArray[np.uint8]) -> Detections:
    """Return what a detector of torchvision's says of one photo.

    Args:
        detector: in evaluation mode.
        pixels: uint8 (H, W, 3).
    """
    (found,) = detector([as_image(pixels, next(detector.parameters()).device)])
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


def windows(length: int, window: int, step: int) -> list[tuple[int, int]]:
    """Return where windows begin and end along a side, the last one at its end; one where the side is no longer.

    >>> windows(1000, 512, 341), windows(300, 512, 341)
    ([(0, 512), (341, 853), (488, 1000)], [(0, 300)])
    """
    if length <= window:
        return [(0, length)]
    begins = [*range(0, length - window, step), length - window]
    return [(begin, begin + window) for begin in dict.fromkeys(begins)]


@torch.no_grad()
def segment(
    segmenter: Segmenter, pixels: NDArray[np.uint8], settings: SegmentPhotos, *, precision: str = "float32"
) -> NDArray[np.int64]:
    """Return the class of each of a photo's own pixels, (H, W): scores are means over windows, then brought to it.

    Args:
        segmenter: in evaluation mode.
        pixels: uint8 (H, W, 3).
        settings: of the recipe.
        precision: float32 or bfloat16.
    """
    device = next(segmenter.parameters()).device
    own = (pixels.shape[0], pixels.shape[1])
    image = resized_photo(as_image(pixels, device), shorter_side(own, settings.side))
    total: torch.Tensor | None = None
    count = image.new_zeros(image.shape[1:])
    for top, bottom in windows(image.shape[1], settings.window, settings.step):
        for left, right in windows(image.shape[2], settings.window, settings.step):
            part = image[:, top:bottom, left:right]
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                scores = segmenter(_padded(part, segmenter)[None]).float()
            scores = _as_large(scores, segmenter, part)
            total = image.new_zeros(scores.shape[0], *image.shape[1:]) if total is None else total
            total[:, top:bottom, left:right] += scores
            count[top:bottom, left:right] += 1
    assert total is not None
    mean = F.interpolate((total / count)[None], size=own, mode="bilinear", align_corners=False)[0]
    return mean.argmax(dim=0).cpu().numpy().astype(np.int64)


def _padded(part: torch.Tensor, segmenter: Segmenter) -> torch.Tensor:
    """Return a window with sides that the network takes; what is added has its mean colour."""
    below, right = (-length % segmenter.divisor for length in part.shape[1:])
    mean = segmenter.mean[0]
    return F.pad(part - mean, (0, right, 0, below)) + mean


def _as_large(scores: torch.Tensor, segmenter: Segmenter, part: torch.Tensor) -> torch.Tensor:
    """Return scores (1, K, h, w) of a padded window at the pixels of the window itself, (K, H, W)."""
    padded = tuple(length + -length % segmenter.divisor for length in part.shape[1:])
    whole = F.interpolate(scores, size=padded, mode="bilinear", align_corners=False)[0]
    return whole[:, : part.shape[1], : part.shape[2]]
