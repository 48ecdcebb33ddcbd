"""Feature maps and points in, maps of cosine similarity to the point's feature out, at cells or at pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..pixels import Frame

__all__ = ["Upsampling", "affinity_at_points", "affinity_map", "check_point", "features_at", "upsample"]

Upsampling = Literal["bicubic", "bilinear", "nearest"]
# Keys' cubic convolution, with the coefficient that Pillow uses.
CUBIC = -0.5


def affinity_map(features: Tensor, query: Tensor) -> Tensor:
    """Return the cosine of every cell's feature with a query.

    Args:
        features: (B, D, h, w).
        query: (B, D).

    Returns:
        float64 (B, h, w) in [-1, 1]; NaN where a cell or the query has length 0, since it has no direction then.

    >>> affinity_map(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]), torch.tensor([[3.0, 0.0]])).tolist()
    [[[1.0, 0.0]]]
    """
    cells, wanted = features.to(torch.float64), query.to(torch.float64)
    lengths = cells.norm(dim=1) * wanted.norm(dim=1)[:, None, None]
    cosines: Tensor = torch.einsum("bdhw,bd->bhw", cells, wanted) / lengths
    return cosines.clamp(-1, 1)


def check_point(x: float, y: float, photo: tuple[int, int], name: str) -> None:
    """Raise `ArgumentError` if a point lies outside a photo of (height, width) px; `name` stands in the sentence."""
    height, width = photo
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise ArgumentError(
            f"point {x:g},{y:g} lies outside {name} of {width} x {height} px; x goes from 0 to {width - 1}, "
            f"y from 0 to {height - 1}."
        )


def features_at(features: Tensor, points: Tensor, *, frame: Frame, stride_px: int) -> Tensor:
    """Return the features at points of a photo, bilinear between the centres of cells.

    Args:
        features: (D, h, w).
        points: (N, 2), x and y in px of the photo; (0, 0) is the middle of its first pixel.
        frame: where the photo lies in the network's input.
        stride_px: px of the input per cell.

    Returns:
        float64 (N, D). Beyond the centres of the outermost cells the nearest ones count.

    Raises:
        ArgumentError: a point lies outside the photo.
    """
    for x, y in points.tolist():
        check_point(x, y, frame.photo, "the photo")
    where = points.to(torch.float64)
    rows = _weights(frame.down(where[:, 1]) / stride_px - 0.5, features.shape[1], _linear)
    columns = _weights(frame.across(where[:, 0]) / stride_px - 0.5, features.shape[2], _linear)
    return torch.einsum("nh,dhw,nw->nd", rows, features.to(torch.float64), columns)


def affinity_at_points(features: Tensor, points: Tensor, *, frame: Frame, stride_px: int) -> Tensor:
    """Return the affinity map of each point: float64 (N, h, w); arguments and errors as in `features_at`."""
    queries = features_at(features, points, frame=frame, stride_px=stride_px)
    return affinity_map(features[None].expand(len(queries), -1, -1, -1), queries)


def upsample(
    maps: Tensor, *, frame: Frame, stride_px: int, size: tuple[int, int] | None = None, how: str = "bicubic"
) -> Tensor:
    """Return maps of cells as maps of the photo's pixels.

    Args:
        maps: (N, h, w).
        frame: where the photo lies in the network's input; cells outside it are cut off.
        stride_px: px of the input per cell.
        size: height and width of the result, px; the photo's own by default.
        how: `bicubic` (cubic convolution between the centres of cells, kept in the range of the cells), `bilinear` or
            `nearest`.

    Returns:
        float64 (N, H, W); NaN in cells that are NaN, which do not count for their neighbours.
    """
    if how not in get_args(Upsampling):
        raise ArgumentError(f"how must be one of {', '.join(get_args(Upsampling))}, not {how!r}.")
    positions = []
    for place, side in zip((frame.down, frame.across), (0, 1), strict=True):
        count = frame.photo[side] if size is None else size[side]
        # Pixel centres of the result, as px of the photo.
        centres = (torch.arange(count, dtype=torch.float64) + 0.5) * frame.photo[side] / count - 0.5
        positions.append(place(centres) / stride_px - 0.5)
    defined, kernel = ~maps.isnan(), KERNELS[how]
    values = _resampled(maps.to(torch.float64).nan_to_num(0.0), positions, kernel)
    if not defined.all():
        values = values / _resampled(defined.to(torch.float64), positions, kernel)
        values[_resampled(defined.to(torch.float64), positions, _nearest) < 0.5] = torch.nan
    # Cubic convolution overshoots beside an edge; no pixel is to show what no cell has.
    cells = maps.to(torch.float64).flatten(1)
    low, high = cells.nan_to_num(torch.inf).amin(dim=1), cells.nan_to_num(-torch.inf).amax(dim=1)
    return values.clamp(low[:, None, None], high[:, None, None])


def _resampled(maps: Tensor, positions: list[Tensor], kernel: Callable[[Tensor], Tensor]) -> Tensor:
    rows, columns = (_weights(at, cells, kernel) for at, cells in zip(positions, maps.shape[1:], strict=True))
    return rows @ maps @ columns.T


def _weights(positions: Tensor, cells: int, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (N, cells): how much of each cell is in the value at each position; cells are at 0, 1, 2, ...

    Beyond the edge the outermost cell goes on for ever.
    """
    base = positions.floor()
    weights = torch.zeros(len(positions), cells, dtype=torch.float64)
    for offset in (-1, 0, 1, 2):
        index = (base + offset).clamp(0, cells - 1).to(torch.int64)
        share = kernel(positions - base - offset)
        weights.scatter_add_(1, index[:, None], share[:, None])
    return weights


def _linear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _nearest(distance: Tensor) -> Tensor:
    return ((distance >= -0.5) & (distance < 0.5)).to(distance.dtype)


def _cubic(distance: Tensor) -> Tensor:
    far = distance.abs()
    near_part = ((CUBIC + 2) * far - (CUBIC + 3)) * far**2 + 1
    far_part = ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC
    return torch.where(far < 1, near_part, torch.where(far < 2, far_part, 0.0))


KERNELS: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": _cubic, "bilinear": _linear, "nearest": _nearest}
