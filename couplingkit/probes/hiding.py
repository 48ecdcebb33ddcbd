"""An object's mask and a stream in, which of its tiles stay visible out; at any resolution the same ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..streams import Stream
from .spec import UNITS

__all__ = ["hide_tiles", "tiles_at"]

TILE = 16


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
