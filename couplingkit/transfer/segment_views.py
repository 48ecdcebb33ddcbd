"""Photos with a class for each pixel in, what a segmenter is shown in training out: crops of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as colours

from ..data.semantic import IGNORED, LabelledPhotos, Labels, Pixels
from ..streams import Stream
from ..training.sampling import Key, next_whole
from .settings import SegmentPhotos

__all__ = ["LabelledCrops", "resized_photo", "shorter_side"]

CROP_TRIES = 10
# By how much colours are changed at most, as PASCAL's segmenters have it: shares, and turns of the hue.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32 / 255, 0.5, 0.5, 18 / 360


def shorter_side(size: tuple[int, int], side: float) -> tuple[int, int]:
    """Return height and width whose shorter one is `side`, of the same aspect; 0 leaves them.

    >>> shorter_side((100, 200), 50), shorter_side((100, 200), 0)
    ((50, 100), (100, 200))
    """
    if not side:
        return size
    factor = side / min(size)
    height, width = (max(1, round(length * factor)) for length in size)
    return height, width


def resized_photo(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a photo float32 (3, H, W) at another size."""
    if tuple(image.shape[1:]) == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


@dataclass(frozen=True)
class LabelledCrops(Dataset[dict[str, Any]]):
    """Crops by (epoch, number, step): scaled, cut out, mirrored or not, with other colours.

    Attributes:
        photos: the photos.
        settings: of the recipe.
        seed: of the run.
    """

    photos: LabelledPhotos
    settings: SegmentPhotos
    seed: int

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        epoch, number, _ = key
        (pixels, labels), _, broken = next_whole(len(self.photos), number, self._read)
        generator = Stream(self.seed).child("views", epoch, number).generator()
        low, high = self.settings.scale
        side = (self.settings.side or min(labels.shape)) * float(generator.uniform(low, high))
        size = shorter_side((labels.shape[0], labels.shape[1]), side)
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).to(torch.float32) / 255
        classes = torch.from_numpy(labels.astype(np.int64))[None, None].to(torch.float32)
        whole = resized_photo(image, size)
        known = F.interpolate(classes, size=size, mode="nearest-exact")[0, 0].to(torch.int64)
        image, target = _crop(whole, known, self.settings, generator)
        if generator.random() < self.settings.flip:
            image, target = image.flip(-1), target.flip(-1)
        if self.settings.colours:
            image = _recoloured(image, generator)
        return {"image": (image * 255).round().to(torch.uint8), "target": target, "side": 0, "broken": broken}

    def _read(self, place: int) -> tuple[Pixels, Labels]:
        return self.photos.read(self.photos.ids[place])


def _crop(
    image: Tensor, labels: Tensor, settings: SegmentPhotos, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return a square of a photo, again where one class fills it; what lies outside has no class."""
    side = settings.crop
    below, right = (max(0, side - length) for length in labels.shape)
    image = F.pad(image, (0, right, 0, below), value=0.5)
    labels = F.pad(labels, (0, right, 0, below), value=IGNORED)
    top = left = 0
    for _ in range(CROP_TRIES):
        top, left = (int(generator.integers(length - side + 1)) for length in labels.shape)
        known = labels[top : top + side, left : left + side]
        counts = torch.bincount(known[known != IGNORED].flatten())
        if (counts > 0).sum() > 1 and counts.max() < settings.most_of_a_class * counts.sum():
            break
    own = (slice(top, top + side), slice(left, left + side))
    return image[:, own[0], own[1]], labels[own]


def _recoloured(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Return a crop with other colours: each change half the time, contrast before or after the others."""
    late = bool(generator.integers(2))
    contrast = _drawn(generator, CONTRAST)
    shift = float(generator.uniform(-BRIGHTNESS, BRIGHTNESS)) * bool(generator.integers(2))
    image = (image + shift).clamp(0, 1)
    image = image if late else colours.adjust_contrast(image, contrast)
    image = colours.adjust_saturation(image, _drawn(generator, SATURATION))
    turn = float(generator.uniform(-HUE, HUE)) * bool(generator.integers(2))
    image = colours.adjust_hue(image, turn) if turn else image
    return colours.adjust_contrast(image, contrast) if late else image


def _drawn(generator: np.random.Generator, most: float) -> float:
    """Return a factor around 1, and 1 itself half the time."""
    factor = float(generator.uniform(1 - most, 1 + most))
    return factor if generator.integers(2) else 1.0
