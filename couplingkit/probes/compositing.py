"""The sprites of a batch of probes in, its images and masks out: by windows on the CPU, in one scatter on a device.

Both ways copy the same float32 values to the same pixels, so that their images are equal bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..pixels import colour_tensor
from .distances import mask_distance
from .sprites import Pixels, PlacedSprite
from .triplet import SHOWN, Probe

__all__ = ["DrawnSprites", "Easel", "Levels", "compose", "paste_windows", "scatter"]


@dataclass(frozen=True)
class Levels:
    """What becomes of bytes: sRGB in [0, 1], or what a network's normalisation makes of it.

    Attributes:
        mean, std: of the normalisation; None leaves bytes / 255.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def of_bytes(self, values: Tensor, *, channels: int) -> Tensor:
        """Return float32 for uint8; `channels` is the axis of red, green and blue."""
        # A division by 255 is rounded the same way by every IEEE machine; a product with 1/255 is not exact.
        return self.of_shares(values.to(torch.float32) / 255, channels=channels)

    def of_shares(self, values: Tensor, *, channels: int) -> Tensor:
        """Return float32 for sRGB in [0, 1]."""
        if self.mean is None or self.std is None:
            return values
        shape = [3 if axis == channels % values.ndim else 1 for axis in range(values.ndim)]
        shift, scale = (colour_tensor(numbers, values.device).view(shape) for numbers in (self.mean, self.std))
        return (values - shift) / scale

    def of_sprite(self, rgb: Pixels) -> NDArray[np.float32]:
        """Return float32 (h, w, 3) for uint8 (h, w, 3): the same arithmetic without torch's cost of a call."""
        values = np.divide(rgb, np.float32(255), dtype=np.float32)
        if self.mean is not None and self.std is not None:
            rows, width = values.reshape(len(values), -1), values.shape[1]
            rows -= np.tile(np.array(self.mean, dtype=np.float32), width)
            rows /= np.tile(np.array(self.std, dtype=np.float32), width)
        return values


@dataclass(frozen=True)
class DrawnSprites:
    """The sprites of a batch, by probe and role (A, B and perhaps C), with their places.

    Attributes:
        placed: n lists of two or three.
        pixels: likewise; uint8 (h, w, 4).
        size: height and width of the canvas, px.
    """

    placed: Sequence[Sequence[PlacedSprite]]
    pixels: Sequence[Sequence[Pixels]]
    size: tuple[int, int]

    @property
    def roles(self) -> int:
        """2, or 3 with a control."""
        return len(self.placed[0])

    def distances(self, directions: Sequence[str]) -> Tensor:
        """Return the distance of A and B in each probe, float64 (n,), px; `directions` say where B stands."""
        found = []
        for (a, b, *_), (pixels_a, pixels_b, *_), direction in zip(self.placed, self.pixels, directions, strict=True):
            masks = (pixels_a[..., 3] != 0, pixels_b[..., 3] != 0)
            corners = ((a.box.top, a.box.left), (b.box.top, b.box.left))
            found.append(mask_distance(*masks, corners=corners, direction=direction))
        return torch.tensor(found, dtype=torch.float64)


class Easel:
    """Memory for the images of one batch after another: the system gives new memory out page by page, which costs more.

    What was drawn in it before is gone when the next batch is drawn.
    """

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def images(self, shape: tuple[int, ...]) -> Tensor:
        """Return memory for float32 of a shape, with whatever is in it."""
        count = math.prod(shape)
        if self._held is None or self._held.numel() < count:
            # Whatever mode the caller is in: memory that is written to again and again.
            with torch.inference_mode(False):
                self._held = torch.empty(count)
        return self._held[:count].view(shape)


def compose(
    drawn: DrawnSprites, background: Tensor, levels: Levels, *, distance_px: Tensor, easel: Easel | None = None
) -> Probe:
    """Return the probes of a batch.

    Args:
        drawn: their sprites.
        background: float32 (n, 3, H, W) or what broadcasts to it, made by `levels`; its device is the images' device.
        levels: what becomes of the sprites' bytes.
        distance_px: of A and B, (n,).
        easel: memory for images on the CPU; of their own by default.
    """
    if background.device.type == "cpu":
        return _on_cpu(drawn, background, levels, distance_px, easel or Easel())
    images, masks = scatter(drawn, background, levels)
    return Probe(images, masks, distance_px)


def _on_cpu(drawn: DrawnSprites, background: Tensor, levels: Levels, distance_px: Tensor, easel: Easel) -> Probe:
    # Channels last in memory, as sprites are, and as convolutions like it.
    # Channels last in memory, as sprites are, and as convolutions like it.
    images = easel.images((drawn.roles + 1, len(drawn.placed), *drawn.size, 3))
    masks = np.zeros((drawn.roles, len(drawn.placed), *drawn.size), dtype=bool)
    colour = background.flatten() if background.shape[-2:] == (1, 1) else None
    if colour is None:
        images[:] = background.movedim(1, -1)
    else:
        # Row by row, for copies of three numbers at a time are slow.
        images.view(-1, 3 * drawn.size[1])[:] = colour.repeat(drawn.size[1])
    paste_windows(drawn, images.numpy(), masks, levels.of_sprite, None if colour is None else colour.numpy())
    return Probe(images.movedim(-1, 2), torch.from_numpy(masks), distance_px)


def paste_windows(
    drawn: DrawnSprites,
    images: NDArray[Any],
    masks: NDArray[np.bool_],
    level: Callable[[Pixels], NDArray[Any]],
    colour: NDArray[Any] | None,
) -> None:
    """Write sprites into images (3 or 4, n, H, W, 3) and masks (2 or 3, n, H, W), and nothing around them.

    Args:
        drawn: the sprites.
        images: with the canvas in them.
        masks: all False.
        level: what becomes of bytes (h, w, 3).
        colour: of the whole canvas; None where it has several. Boxes never overlap, so that a window of a canvas of one
            colour can be copied whole, which is faster.
    """
    for row, (placed, pixels) in enumerate(zip(drawn.placed, drawn.pixels, strict=True)):
        for role, (item, rgba) in enumerate(zip(placed, pixels, strict=True)):
            box, visible = item.box, rgba[..., 3] != 0
            window = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
            masks[role, row][window] = visible
            values = level(rgba[..., :3])
            if colour is not None:
                values[~visible] = colour
            for image in SHOWN[role]:
                if image >= len(images):
                    continue
                if colour is not None:
                    images[image, row][window] = values
                else:
                    np.copyto(images[image, row][window], values, where=visible[..., None])


def scatter(drawn: DrawnSprites, background: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Return images (3 or 4, n, 3, H, W) and masks (2 or 3, n, H, W) on the background's device.

    One buffer of sprites and one table of boxes cross to the device; nothing there waits, and no loop is over probes.
    """
    device, count, (height, width) = background.device, len(drawn.placed), drawn.size
    pixels, boxes, ends = _packed(drawn, pin=device.type == "cuda")
    pixels, boxes = (part.to(device, non_blocking=True) for part in (pixels, boxes))  # (P, 4), (roles n, 4)
    left, top, wide, high = boxes.to(torch.int64).unbind(dim=1)
    area, plane = wide * high, height * width
    order = torch.arange(len(boxes), device=device)
    of_sprite = torch.repeat_interleave(order, area, output_size=len(pixels))  # (P,)
    inside = torch.arange(len(pixels), device=device) - (area.cumsum(0) - area)[of_sprite]
    down = torch.div(inside, wide[of_sprite], rounding_mode="floor")
    across = inside - down * wide[of_sprite]
    place = (down + top[of_sprite]) * width + across + left[of_sprite]  # (P,), of the canvas
    row, visible = of_sprite % count, pixels[:, 3] != 0
    values = levels.of_bytes(pixels[:, :3], channels=1)  # (P, 3)

    shape = (drawn.roles + 1, count, height, width, 3)  # channels last, as on the CPU
    total = math.prod(shape)
    # What is not visible goes behind the last image, where nobody looks: how many there are need not be known.
    images = torch.empty(total + 1, dtype=torch.float32, device=device)
    images[:-1].view(shape)[:] = background.movedim(1, -1)
    masks = torch.zeros(drawn.roles * count * plane + 1, dtype=torch.bool, device=device)
    masks.scatter_(0, torch.where(visible, of_sprite * plane + place, len(masks) - 1), True)
    channel = torch.arange(3, device=device)
    for role, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
        own = slice(start, end)
        for image in SHOWN[role]:
            if image > drawn.roles:
                continue
            first = ((image * count + row[own]) * plane + place[own]) * 3
            index = torch.where(visible[own, None], first[:, None] + channel, total)  # (p, 3)
            images.scatter_(0, index.flatten(), values[own].flatten())
    return images[:-1].view(shape).movedim(-1, 2), masks[:-1].view(drawn.roles, count, height, width)


def _packed(drawn: DrawnSprites, *, pin: bool) -> tuple[Tensor, Tensor, list[int]]:
    """Return pixels uint8 (P, 4) and boxes int32 (roles n, 4) of a batch, role after role, and where each role ends."""
    placed = [objects[role] for role in range(drawn.roles) for objects in drawn.placed]
    every = [objects[role] for role in range(drawn.roles) for objects in drawn.pixels]
    areas = np.array([rgba.shape[0] * rgba.shape[1] for rgba in every])
    buffer = torch.empty((int(areas.sum()), 4), dtype=torch.uint8, pin_memory=pin)
    np.concatenate([rgba.reshape(-1, 4) for rgba in every], out=buffer.numpy())
    sides = [(item.box.left, item.box.top, item.box.width, item.box.height) for item in placed]
    boxes = torch.tensor(sides, dtype=torch.int32)
    ends = np.cumsum(areas)[len(drawn.placed) - 1 :: len(drawn.placed)]
    return buffer, boxes.pin_memory() if pin else boxes, [int(end) for end in ends]
