"""Pixels in, pixels out: pasting by masks, canvases and normalisation; and where a photo lies in a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Frame", "colour_tensor", "full_canvas", "normalize", "place_photo", "repeat_to"]


@dataclass(frozen=True)
class Frame:
    """Where a photo lies in the image that a network was shown.

    A photo's pixel has its centre at whole coordinates: (0, 0) is the middle of the first one. Input px are continuous
    and start at the edge of the image, so that cell i of stride s lies between i * s and (i + 1) * s.

    Attributes:
        photo: height and width of the photo, px.
        image: height and width of the input, px.
        top, left, height, width: the rectangle of the input that the photo fills, px.

    >>> frame = Frame.fitted((100, 400), (64, 64), fit="pad")
    >>> frame.top, frame.height, frame.width
    (24, 16, 64)
    >>> frame.down(torch.tensor([-0.5, 99.5])).tolist()
    [24.0, 40.0]
    """

    photo: tuple[int, int]
    image: tuple[int, int]
    top: int
    left: int
    height: int
    width: int

    @classmethod
    def fitted(cls, photo: tuple[int, int], image: tuple[int, int], *, fit: str) -> Frame:
        """Return where a photo goes: `stretch` fills the input, `pad` keeps the aspect and stands in its middle."""
        if fit == "stretch":
            return cls(photo, image, 0, 0, *image)
        scale = min(image[0] / photo[0], image[1] / photo[1])
        height, width = (max(1, round(side * scale)) for side in photo)
        return cls(photo, image, (image[0] - height) // 2, (image[1] - width) // 2, height, width)

    def down(self, y: Tensor) -> Tensor:
        """Return input px of rows of the photo."""
        return self.top + (y + 0.5) * self.height / self.photo[0]

    def across(self, x: Tensor) -> Tensor:
        """Return input px of columns of the photo."""
        return self.left + (x + 0.5) * self.width / self.photo[1]


def place_photo(rgb: Tensor, frame: Frame, colour: tuple[float, float, float]) -> Tensor:
    """Return a network's input, float32 (3, H, W) in [0, 1]: a photo at its place, `colour` around it.

    Args:
        rgb: uint8 (frame.height, frame.width, 3).
        frame: the place.
        colour: sRGB in [0, 1].
    """
    image = full_canvas(colour, 1, frame.image, rgb.device)[0].clone()
    bottom, right = frame.top + frame.height, frame.left + frame.width
    image[:, frame.top : bottom, frame.left : right] = rgb.permute(2, 0, 1).to(torch.float32) / 255
    return image


@lru_cache(maxsize=256)
def colour_tensor(numbers: tuple[float, float, float], device: torch.device) -> Tensor:
    """Return three numbers as float32 (3,) on a device, where they stay: they cross to it once, not in each batch."""
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=torch.float32, device=device)


def full_canvas(colour: tuple[float, float, float], batch: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return float32 (batch, 3, *size) of one sRGB colour in [0, 1]; size is (height, width)."""
    return colour_tensor(colour, device).view(1, 3, 1, 1).expand(batch, 3, *size)


def normalize(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Return `(images - mean) / std` per channel; exactly 0 where a pixel is float32(mean).

    Args:
        images: float32 (B, 3, H, W) in [0, 1].
        mean: per channel, in [0, 1].
        std: per channel, above 0.
    """
    shift, scale = (colour_tensor(numbers, images.device).view(1, 3, 1, 1) for numbers in (mean, std))
    shifted = images - shift
    # In place where nobody asks for a gradient: half of the memory's traffic.
    return shifted / scale if shifted.requires_grad else shifted.div_(scale)


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
