"""Feature maps in, a few bytes per cell out, with the error this makes in a cosine: what the explorer page embeds."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedFeatures", "pack", "pack_exactly"]

Array = NDArray[np.float64]
# Half of what the page promises (0.01): other points than those tried may be a little worse.
TOLERANCE = 0.005
TRIED_CELLS = 1024
TRIED_POINTS = 512


@dataclass(frozen=True)
class PackedFeatures:
    """The features of one photo, direction and length apart.

    Attributes:
        codes: (h * w, K), uint8 or uint16, or float32 where nothing is lost; a row's coordinates are
            `offset + scale * code`, in a basis that keeps angles.
        offset, scale: float32 (K,).
        lengths: float32 (h * w,), of the features, which weigh them between cells; 0 where a feature has no direction.
        grid: (h, w).
        error: the largest difference of a cosine found between these and the features themselves.
    """

    codes: NDArray
    offset: NDArray[np.float32]
    scale: NDArray[np.float32]
    lengths: NDArray[np.float32]
    grid: tuple[int, int]
    error: float

    def directions(self) -> Array:
        """Return unit vectors (h * w, K), as the page computes them."""
        return _unit(self.offset.astype(np.float64) + self.scale.astype(np.float64) * self.codes)

    def document(self) -> dict[str, Any]:
        """Return the same as JSON values, arrays in base64, little-endian."""
        arrays = {"codes": self.codes, "offset": self.offset, "scale": self.scale, "lengths": self.lengths}
        encoded = {
            name: base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
            for name, array in arrays.items()
        }
        return {**encoded, "type": str(self.codes.dtype), "grid": list(self.grid), "channels": self.codes.shape[1]}


def pack(features: NDArray[np.float32]) -> PackedFeatures:
    """Reduce features (D, h, w) by principal components and quantise them, as far as cosines stay within 0.005.

    The first axis is the mean direction of all cells, the others are the principal components of what is left, so that
    each coordinate spends its 256 (or, if that is too coarse, 65,536) steps on differences between cells.
    """
    directions, lengths, grid = _split(features)
    coordinates = _principal(directions)
    for bits in (8, 16):
        low, high = 1, coordinates.shape[1]
        found = _quantised(coordinates, high, bits, lengths, grid, directions)
        if found.error > TOLERANCE and bits == 8:
            continue
        # The error falls with the number of components, so the smallest one that is good enough is found by halving.
        while low < high:
            middle = (low + high) // 2
            tried = _quantised(coordinates, middle, bits, lengths, grid, directions)
            if tried.error <= TOLERANCE:
                high, found = middle, tried
            else:
                low = middle + 1
        break
    return found


def pack_exactly(features: NDArray[np.float32]) -> PackedFeatures:
    """Keep every channel of features (D, h, w) as float32."""
    directions, lengths, grid = _split(features)
    codes = directions.astype(np.float32)
    width = codes.shape[1]
    exact = PackedFeatures(codes, np.zeros(width, np.float32), np.ones(width, np.float32), lengths, grid, 0.0)
    return PackedFeatures(**{**vars(exact), "error": _error(exact, directions)})


def _split(features: NDArray[np.float32]) -> tuple[Array, NDArray[np.float32], tuple[int, int]]:
    rows = features.reshape(features.shape[0], -1).T.astype(np.float64)
    return _unit(rows), np.linalg.norm(rows, axis=1).astype(np.float32), (features.shape[1], features.shape[2])


def _unit(rows: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: Array = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def _principal(directions: Array) -> Array:
    """Return coordinates (n, K) with the same inner products: along the mean direction, then along the components."""
    mean = directions.mean(axis=0)
    length = np.linalg.norm(mean)
    axis = mean / length if length > 0 else mean
    along = directions @ axis
    rest = directions - along[:, None] * axis
    left, sizes, _ = np.linalg.svd(rest, full_matrices=False)
    kept = sizes > sizes[0] * 1e-7 if sizes[0] > 0 else np.zeros(len(sizes), dtype=bool)
    return np.column_stack([along, (left * sizes)[:, kept]])


def _quantised(
    coordinates: Array, count: int, bits: int, lengths: NDArray[np.float32], grid: tuple[int, int], directions: Array
) -> PackedFeatures:
    kept = coordinates[:, :count]
    low, high = kept.min(axis=0), kept.max(axis=0)
    steps = 2**bits - 1
    scale = np.where(high > low, (high - low) / steps, 1.0)
    codes = np.round((kept - low) / scale).astype(np.uint8 if bits == 8 else np.uint16)
    packed = PackedFeatures(codes, low.astype(np.float32), scale.astype(np.float32), lengths, grid, 0.0)
    return PackedFeatures(**{**vars(packed), "error": _error(packed, directions)})


def _error(packed: PackedFeatures, directions: Array) -> float:
    """Return the largest difference of a cosine, at cells and at points between four of them."""
    decoded = packed.directions()
    defined = np.flatnonzero(packed.lengths > 0)
    if not len(defined):
        return 0.0
    # Of many cells, evenly chosen ones are the queries; their maps are compared whole.
    tried = defined[np.linspace(0, len(defined) - 1, min(TRIED_CELLS, len(defined))).astype(int)]
    between = _between(packed.grid, packed.lengths)
    worst = 0.0
    for weights in (np.eye(1), between):
        if weights is between:
            queries = [_unit(weights @ rows) for rows in (directions, decoded)]
        else:
            queries = [rows[tried] for rows in (directions, decoded)]
        exact, shown = (query @ rows[defined].T for query, rows in zip(queries, (directions, decoded), strict=True))
        worst = max(worst, float(np.abs(exact - shown).max()))
    return worst


def _between(grid: tuple[int, int], lengths: NDArray[np.float32]) -> Array:
    """Return bilinear weights (P, h * w) of points between four cells, spread evenly and never on a cell."""
    rows, columns = grid
    count = np.arange(TRIED_POINTS)
    y, x = (count * 0.7548776662 % 1) * (rows - 1), (count * 0.5698402910 % 1) * (columns - 1)
    weights = np.zeros((TRIED_POINTS, rows * columns))
    top, left = np.minimum(y.astype(int), max(rows - 2, 0)), np.minimum(x.astype(int), max(columns - 2, 0))
    for down in (0, 1):
        for across in (0, 1):
            share = (1 - np.abs(y - top - down)) * (1 - np.abs(x - left - across))
            place = np.minimum(top + down, rows - 1) * columns + np.minimum(left + across, columns - 1)
            np.add.at(weights, (count, place), np.maximum(share, 0))
    return weights * lengths
