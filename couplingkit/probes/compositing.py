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
    """The sprites of a batch of images, and which image shows which.

    Attributes:
        placed: S of them, with their places.
        pixels: likewise; uint8 (h, w, 4).
        into: of each sprite the images that show it.
        images: how many there are.
        size: height and width of the canvas, px.
    """

    placed: Sequence[PlacedSprite]
    pixels: Sequence[Pixels]
    into: Sequence[Sequence[int]]
    images: int
    size: tuple[int, int]

    def distance(self, a: int, b: int, direction: str) -> float:
        """Return the distance of two sprites, px; `direction` says where the second one stands."""
        boxes = self.placed[a].box, self.placed[b].box
        masks = self.pixels[a][..., 3] != 0, self.pixels[b][..., 3] != 0
        corners = ((boxes[0].top, boxes[0].left), (boxes[1].top, boxes[1].left))
        return mask_distance(*masks, corners=corners, direction=direction)


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
    drawn: DrawnSprites, background: Tensor, levels: Levels, *, easel: Easel | None = None
) -> tuple[Tensor, Tensor]:
    """Return images (K, 3, H, W), float32 and channels last in memory, and the masks of sprites, bool (S, H, W).

    Args:
        drawn: the sprites.
        background: float32 (1, 3, 1, 1) of one colour, or (n, 3, H, W), where image k has row k % n of it; made by
            `levels`. Its device is the images' device.
        levels: what becomes of the sprites' bytes.
        easel: memory for images on the CPU; of their own by default.
    """
    if background.device.type == "cpu":
        return _on_cpu(drawn, background, levels, easel or Easel())
    return scatter(drawn, background, levels)


def _fill(images: Tensor, background: Tensor) -> None:
    """Fill images (K, H, W, 3) with what lies behind the objects."""
    if background.shape[-2:] == (1, 1):
        # Row by row, for copies of three numbers at a time are slow.
        images.view(-1, 3 * images.shape[2])[:] = background.flatten().repeat(images.shape[2])
    else:
        images.view(-1, len(background), *images.shape[1:])[:] = background.movedim(1, -1)


def _on_cpu(drawn: DrawnSprites, background: Tensor, levels: Levels, easel: Easel) -> tuple[Tensor, Tensor]:
    # Channels last in memory, as sprites are, and as convolutions like it.
    images = easel.images((drawn.images, *drawn.size, 3))
    masks = np.zeros((len(drawn.placed), *drawn.size), dtype=bool)
    _fill(images, background)
    colour = background.flatten().numpy() if background.shape[-2:] == (1, 1) else None
    paste_windows(drawn, images.numpy(), masks, levels.of_sprite, colour)
    return images.movedim(-1, 1), torch.from_numpy(masks)


def paste_windows(
    drawn: DrawnSprites,
    images: NDArray[Any],
    masks: NDArray[np.bool_],
    level: Callable[[Pixels], NDArray[Any]],
    colour: NDArray[Any] | None,
) -> None:
    """Write sprites into images (K, H, W, 3) and masks (S, H, W), and nothing around them.

    Args:
        drawn: the sprites.
        images: with the canvas in them.
        masks: all False.
        level: what becomes of bytes (h, w, 3).
        colour: of the whole canvas; None where it has several. Boxes never overlap, so that a window of a canvas of one
            colour can be copied whole, which is faster.
    """
    for item, rgba, into, mask in zip(drawn.placed, drawn.pixels, drawn.into, masks, strict=True):
        box, visible = item.box, rgba[..., 3] != 0
        window = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
        mask[window] = visible
        values = level(rgba[..., :3])
        if colour is not None:
            values[~visible] = colour
        for image in into:
            if colour is not None:
                images[image][window] = values
            else:
                np.copyto(images[image][window], values, where=visible[..., None])


def scatter(drawn: DrawnSprites, background: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """Return what `compose` does, on the background's device.

    One buffer of sprites and two small tables cross to the device; nothing there waits, and no loop is over sprites.
    """
    device, count, (height, width) = background.device, len(drawn.placed), drawn.size
    packed = [part.to(device, non_blocking=True) for part in _packed(drawn, pin=device.type == "cuda")]
    pixels, boxes, shown = packed[0], packed[1].to(torch.int64), packed[2].to(torch.int64)
    left, top, wide, high = boxes.unbind(dim=1)
    area, plane = wide * high, height * width
    start = area.cumsum(0) - area  # of each sprite in `pixels`
    of_sprite = torch.repeat_interleave(torch.arange(count, device=device), area, output_size=len(pixels))  # (P,)
    inside = torch.arange(len(pixels), device=device) - start[of_sprite]
    down = torch.div(inside, wide[of_sprite], rounding_mode="floor")
    across = inside - down * wide[of_sprite]
    place = (down + top[of_sprite]) * width + across + left[of_sprite]  # (P,), of the canvas
    visible = pixels[:, 3] != 0
    values = levels.of_bytes(pixels[:, :3], channels=1)  # (P, 3)
    # What is not visible goes behind the last mask and image, where nobody looks: how much it is need not be known.
    masks = torch.zeros(count * plane + 1, dtype=torch.bool, device=device)
    masks.scatter_(0, torch.where(visible, of_sprite * plane + place, count * plane), True)

    images = torch.empty(drawn.images * plane * 3 + 1, dtype=torch.float32, device=device)
    _fill(images[:-1].view(drawn.images, height, width, 3), background)
    # Each sprite once per image that shows it: (sprite, image) per row of `shown`.
    sprite, image = shown.unbind(dim=1)
    total = sum(len(into) * rgba.shape[0] * rgba.shape[1] for into, rgba in zip(drawn.into, drawn.pixels, strict=True))
    copies = area[sprite]
    of_copy = torch.repeat_interleave(torch.arange(len(shown), device=device), copies, output_size=total)  # (Q,)
    within = torch.arange(total, device=device) - (copies.cumsum(0) - copies)[of_copy]
    source = start[sprite[of_copy]] + within  # (Q,), which pixel
    first = (image[of_copy] * plane + place[source]) * 3
    index = torch.where(visible[source, None], first[:, None] + torch.arange(3, device=device), len(images) - 1)
    images.scatter_(0, index.flatten(), values[source].flatten())
    return (
        images[:-1].view(drawn.images, height, width, 3).movedim(-1, 1),
        masks[:-1].view(count, height, width),
    )


def _packed(drawn: DrawnSprites, *, pin: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixels uint8 (P, 4), boxes int32 (S, 4), and int32 (Q, 2): which sprite is in which image."""
    areas = sum(rgba.shape[0] * rgba.shape[1] for rgba in drawn.pixels)
    buffer = torch.empty((areas, 4), dtype=torch.uint8, pin_memory=pin)
    np.concatenate([rgba.reshape(-1, 4) for rgba in drawn.pixels], out=buffer.numpy())
    boxes = [(item.box.left, item.box.top, item.box.width, item.box.height) for item in drawn.placed]
    shown = [(sprite, image) for sprite, into in enumerate(drawn.into) for image in into]
    tables = [torch.tensor(table, dtype=torch.int32) for table in (boxes, shown)]
    places, copies = (table.pin_memory() if pin else table for table in tables)
    return buffer, places, copies
