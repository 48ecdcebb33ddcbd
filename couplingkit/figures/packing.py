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
# Points between cells at which a query is looked for that comes out worst: so many along each side of a cell.
FINE = 4


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
    reference = _Reference.of(directions, lengths, grid)
    for bits in (8, 16):
        low, high = 1, coordinates.shape[1]
        found = _quantised(coordinates, high, bits, reference)
        if found.error > TOLERANCE:
            continue
        # The error falls with the number of components, so the smallest one that is good enough is found by halving.
        while low < high:
            middle = (low + high) // 2
            tried = _quantised(coordinates, middle, bits, reference)
            if tried.error <= TOLERANCE:
                high, found = middle, tried
            else:
                low = middle + 1
        return found
    # Where features cancel between cells, no rounding of them is fine enough.
    return pack_exactly(features)


def pack_exactly(features: NDArray[np.float32]) -> PackedFeatures:
    """Keep every channel of features (D, h, w) as float32."""
    directions, lengths, grid = _split(features)
    codes = directions.astype(np.float32)
    width = codes.shape[1]
    exact = PackedFeatures(codes, np.zeros(width, np.float32), np.ones(width, np.float32), lengths, grid, 0.0)
    return PackedFeatures(**{**vars(exact), "error": _Reference.of(directions, lengths, grid).error(exact)})


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


def _quantised(coordinates: Array, count: int, bits: int, reference: _Reference) -> PackedFeatures:
    kept = coordinates[:, :count]
    low, high = kept.min(axis=0), kept.max(axis=0)
    steps = 2**bits - 1
    scale = np.where(high > low, (high - low) / steps, 1.0)
    codes = np.round((kept - low) / scale).astype(np.uint8 if bits == 8 else np.uint16)
    offset, scale = low.astype(np.float32), scale.astype(np.float32)
    packed = PackedFeatures(codes, offset, scale, reference.lengths, reference.grid, 0.0)
    return PackedFeatures(**{**vars(packed), "error": reference.error(packed)})


@dataclass(frozen=True)
class _Reference:
    """The features themselves and the queries that packed ones are tried with.

    Attributes:
        directions: unit vectors (h * w, D).
        lengths: (h * w,).
        grid: (h, w).
        weights: (Q, h * w), the share of each cell in each query: cells, points spread evenly between cells, and the
            points at which neighbouring features cancel most, where a small error of them turns the query most.
    """

    directions: Array
    lengths: NDArray[np.float32]
    grid: tuple[int, int]
    weights: Array

    @classmethod
    def of(cls, directions: Array, lengths: NDArray[np.float32], grid: tuple[int, int]) -> _Reference:
        cells = np.arange(len(lengths), dtype=np.float64)
        # Of many cells, evenly chosen ones.
        tried = np.unique(np.linspace(0, len(cells) - 1, min(TRIED_CELLS, len(cells))).astype(int))
        rows = np.arange((grid[0] - 1) * FINE + 1) / FINE
        columns = np.arange((grid[1] - 1) * FINE + 1) / FINE
        y, x = (side.ravel() for side in np.meshgrid(rows, columns, indexing="ij"))
        sums = _interpolated(directions * lengths[:, None], grid, rows, columns)
        whole = _interpolated(lengths[:, None].astype(np.float64), grid, rows, columns)[:, 0]
        left = np.divide(np.linalg.norm(sums, axis=1), whole, out=np.ones(len(y)), where=whole > 0)
        worst = np.argsort(left)[:TRIED_POINTS]
        even = np.linspace(0, len(y) - 1, min(TRIED_POINTS, len(y))).astype(int)
        places = np.unique(np.concatenate([worst, even]))
        between = _bilinear(grid, y[places], x[places]) * lengths
        return cls(directions, lengths, grid, np.concatenate([np.eye(len(cells))[tried], between]))

    def error(self, packed: PackedFeatures) -> float:
        """Return the largest difference of a cosine between packed features and these."""
        defined = self.lengths > 0
        maps = [_unit(self.weights @ rows) @ rows[defined].T for rows in (self.directions, packed.directions())]
        return float(np.abs(maps[0] - maps[1]).max(initial=0))


def _interpolated(values: Array, grid: tuple[int, int], rows: Array, columns: Array) -> Array:
    """Return values (h * w, K) at every pair of a row and a column, in cells: (rows * columns, K)."""
    down = _bilinear((grid[0], 1), rows, np.zeros(len(rows)))
    across = _bilinear((1, grid[1]), np.zeros(len(columns)), columns)
    found: Array = np.einsum("yh,hwk,xw->yxk", down, values.reshape(*grid, -1), across, optimize=True)
    return found.reshape(len(rows) * len(columns), -1)


def _bilinear(grid: tuple[int, int], y: Array, x: Array) -> Array:
    """Return the weight of each cell (P, h * w) at points given in cells."""
    rows, columns = grid
    weights = np.zeros((len(y), rows * columns))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for down in (0, 1):
        for across in (0, 1):
            share = (1 - np.abs(y - top - down)) * (1 - np.abs(x - left - across))
            place = np.minimum(top + down, rows - 1) * columns + np.minimum(left + across, columns - 1)
            np.add.at(weights, (np.arange(len(y)), place), share)
    return weights
