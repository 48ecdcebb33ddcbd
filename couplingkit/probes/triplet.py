"""Cutouts and their places in, the images of probes out; every pixel is the canvas or one object, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.cutouts import ObjectCutout
from ..pixels import composite
from ..streams import Stream
from .placement import Box
from .spec import UNITS

__all__ = ["Layer", "Probe", "hide_tiles", "object_layer", "probe_images", "tiles_at"]

TILE = 16


@dataclass(frozen=True)
class Probe:
    """One probe, or a batch of probes with a leading axis.

    Attributes:
        alone: A on the canvas; float32 (..., 3, H, W) in [0, 1].
        together: the same A, and B beside it.
        partner: B on the canvas, at the place it has in `together`.
        control: the same A, and C in B's place; None without a control.
        mask_a: what is visible of A; bool (..., H, W).
        mask_b: of B; disjoint from A's.
        mask_c: of C; disjoint from A's; None without a control.
        distance_px: between the nearest pixels of A and B, px of the canvas; float64 (...), 0 where they touch.

    Invariants: `together` equals `alone` off `mask_b` and `partner` on it, bit for bit; likewise `control` and C.
    """

    alone: Tensor
    together: Tensor
    partner: Tensor
    control: Tensor | None
    mask_a: Tensor
    mask_b: Tensor
    mask_c: Tensor | None
    distance_px: Tensor


@dataclass(frozen=True)
class Layer:
    """One object per probe, at its place on an empty canvas.

    Attributes:
        rgb: uint8 (B, 3, H, W), 0 off the object.
        mask: bool (B, H, W).
    """

    rgb: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> Layer:
        """Return the layer on `device`."""
        return Layer(self.rgb.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))


def object_layer(placed: list[tuple[ObjectCutout, Box]], size: tuple[int, int]) -> Layer:
    """Return cutouts, resized to their boxes before, as one layer of a batch of canvases of (height, width) px."""
    rgb = np.zeros((len(placed), *size, 3), dtype=np.uint8)
    mask = np.zeros((len(placed), *size), dtype=bool)
    for row, (cutout, box) in enumerate(placed):
        window = np.s_[row, box.top : box.top + box.height, box.left : box.left + box.width]
        rgb[window] = cutout.rgb * cutout.mask[..., None]
        mask[window] = cutout.mask
    return Layer(torch.from_numpy(rgb).permute(0, 3, 1, 2), torch.from_numpy(mask))


def probe_images(background: Tensor, a: Layer, b: Layer, c: Layer | None, *, distance_px: Tensor) -> Probe:
    """Paste the layers onto `background`, (B, 3, H, W), all on one device; `distance_px` (B,) is that of A and B.

    The background is float32 in [0, 1], or uint8 for probes in bytes; the float pixels are the bytes / 255, exactly.
    """
    in_bytes = background.dtype == torch.uint8
    rgb_a, rgb_b = (layer.rgb if in_bytes else _unit(layer.rgb) for layer in (a, b))
    alone = composite(background, rgb_a, a.mask)
    control = None
    if c is not None:
        control = composite(alone, c.rgb if in_bytes else _unit(c.rgb), c.mask)
    return Probe(
        alone=alone,
        together=composite(alone, rgb_b, b.mask),
        partner=composite(background, rgb_b, b.mask),
        control=control,
        mask_a=a.mask,
        mask_b=b.mask,
        mask_c=None if c is None else c.mask,
        distance_px=distance_px,
    )


def _unit(rgb: Tensor) -> Tensor:
    # A division of integers by 255 is rounded the same way by every IEEE machine; a product with 1/255 is not exact.
    return rgb.to(torch.float32) / 255


def hide_tiles(mask: NDArray[np.bool_], visible: float, stream: Stream) -> NDArray[np.bool_]:
    """Return which tiles of an object stay, bool (rows, columns), so that about `visible` of its area is left.

    Tiles are 16 x 16 units from the corner of the object's box; they go in an order drawn from `stream`, until the
    area left is nearest to `visible`. The order does not depend on `visible`: what is hidden at 0.8 is hidden at 0.6.

    Args:
        mask: bool (h, w), the object at 224 px of canvas, so that 1 px = 1 unit.
        visible: share in (0, 1]; 1 hides nothing.
        stream: the probe's.
    """
    rows, columns = -(-mask.shape[0] // TILE), -(-mask.shape[1] // TILE)
    padded = np.zeros((rows * TILE, columns * TILE), dtype=np.int64)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    areas = padded.reshape(rows, TILE, columns, TILE).sum(axis=(1, 3)).ravel()
    order = np.argsort([stream.child("tile", tile).below(2**62) for tile in range(areas.size)], kind="stable")
    if not areas.any():
        return np.ones((rows, columns), dtype=bool)
    left = 1 - np.concatenate([[0], np.cumsum(areas[order])]) / areas.sum()
    # The last tile stays: an object of which nothing is visible is no object.
    hidden = int(np.argmin(np.abs(left[:-1] - visible) + (left[:-1] <= 0)))
    keep = np.ones(areas.size, dtype=bool)
    keep[order[:hidden]] = False
    return keep.reshape(rows, columns)


def tiles_at(keep: NDArray[np.bool_], height: int, width: int, side: int) -> NDArray[np.bool_]:
    """Return the tiles of `hide_tiles` as a mask bool (height, width), px of a canvas of `side` px."""
    row = np.minimum(np.arange(height) * UNITS // (side * TILE), keep.shape[0] - 1)
    column = np.minimum(np.arange(width) * UNITS // (side * TILE), keep.shape[1] - 1)
    grown: NDArray[np.bool_] = keep[row[:, None], column[None, :]]
    return grown
