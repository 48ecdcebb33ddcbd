"""A grid and a ratio in, which cells are kept out: Region Collaborative Cutout, block-wise and random, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ArgumentError, check_range, near

__all__ = ["STRATEGIES", "block_cutout", "check_strategy", "cutout", "grid_boxes", "random_cutout", "region_cutout"]

# Boxes of RCC: one per cell of a 3 x 3 grid over the view (Qiu et al., ICLR 2024).
SIDE = 3
AREA = (0.12, 0.30)
ASPECT = (0.5, 2.0)
# Blocks of BEiT: aspect, the smallest side as a share of the grid's, and how many are tried.
BLOCK_ASPECT = (0.3, 3.3)
SMALLEST_BLOCK = 1 / 3
BLOCKS_TRIED = 40


def cutout(strategy: str, ratio: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return which cells are kept under a strategy of `STRATEGIES`: bool (B, h, w).

    Args:
        strategy: `rcc`, `blockwise` or `random`.
        ratio: float (B,) in [0, 1), the share to cut of each region (RCC) or of the whole grid; 0 cuts nothing.
        grid: (h, w) cells.
        generator: of the draws, on the device of `ratio`.

    Raises:
        ArgumentError: no such strategy, or a ratio outside [0, 1).
    """
    check_strategy(strategy)
    if len(ratio):
        check_range("ratio", float(ratio.min()), 0)
        check_range("ratio", float(ratio.max()), 0, 0.999)
    return STRATEGIES[strategy](ratio, grid, generator)


def check_strategy(strategy: str) -> None:
    """Raise `ArgumentError` unless there is such a strategy."""
    if strategy not in STRATEGIES:
        raise ArgumentError(
            f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}{near(strategy, STRATEGIES)}."
        )


def grid_boxes(batch: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw RCC's nine boxes per view: int64 (B, 9, 4), half-open cells top, left, bottom, right.

    Each box belongs to one cell of a 3 x 3 grid over the view: its area is uniform in (.12, .30) of the view, its
    aspect log-uniform in (1/2, 2), its centre uniform in the middle half of the grid cell; it is clipped to the view.
    """
    device = generator.device
    height, width = grid
    draws = torch.rand(4, batch, SIDE * SIDE, generator=generator, device=device)
    area = AREA[0] + (AREA[1] - AREA[0]) * draws[0]
    aspect = torch.exp(math.log(ASPECT[0]) + math.log(ASPECT[1] / ASPECT[0]) * draws[1])
    places = torch.arange(SIDE * SIDE, device=device)
    centre_x = (places % SIDE + 0.25 + 0.5 * draws[2]) / SIDE
    centre_y = (places // SIDE + 0.25 + 0.5 * draws[3]) / SIDE
    # The aspect is the picture's: on a view that is no square, w/h in cells is not w/h in shares of the view.
    half_width = torch.sqrt(area * aspect * height / width) / 2
    half_height = torch.sqrt(area / aspect * width / height) / 2
    edges = [
        torch.floor((centre_y - half_height).clamp(0, 1) * height),
        torch.floor((centre_x - half_width).clamp(0, 1) * width),
        torch.ceil((centre_y + half_height).clamp(0, 1) * height),
        torch.ceil((centre_x + half_width).clamp(0, 1) * width),
    ]
    # Every cell that the box touches, so that no box is empty; the centre lies inside the view.
    return torch.stack(edges, dim=-1).to(torch.int64)


def region_cutout(
    ratio: Tensor, grid: tuple[int, int], generator: torch.Generator, *, boxes: Tensor | None = None
) -> Tensor:
    """Cut by Region Collaborative Cutout: no region loses much more than `ratio` of itself.

    The boxes are gone through from the largest to the smallest. One that has lost more than `ratio` gets everything
    back; what then is missing up to `ratio` is cut as one rectangle of the box's own aspect, placed uniformly in it.

    Args:
        ratio: float (B,).
        grid: (h, w) cells.
        generator: of the draws.
        boxes: int64 (B, K, 4), half-open top, left, bottom, right; `grid_boxes` by default, proposals otherwise.

    Returns:
        bool (B, h, w), True where a cell is kept.
    """
    batch, device = len(ratio), ratio.device
    chosen = grid_boxes(batch, grid, generator) if boxes is None else boxes
    sizes = (chosen[..., 2] - chosen[..., 0]) * (chosen[..., 3] - chosen[..., 1])
    order = torch.argsort(sizes, dim=1, descending=True, stable=True)
    keep = torch.ones(batch, *grid, dtype=torch.bool, device=device)
    where = torch.rand(chosen.shape[1], 4, batch, generator=generator, device=device)
    for place in range(chosen.shape[1]):
        box = chosen.gather(1, order[:, place, None, None].expand(-1, 1, 4))[:, 0]
        inside = _rectangles(box, grid)
        cells = inside.sum(dim=(1, 2))
        cut = (inside & ~keep).sum(dim=(1, 2))
        over = cut > ratio * cells
        keep |= inside & over[:, None, None]
        wanted = ratio * cells - torch.where(over, 0, cut)
        keep &= ~_rectangles(_within(box, wanted, where[place]), grid)
    return keep | (ratio <= 0)[:, None, None]


def _within(box: Tensor, wanted: Tensor, draws: Tensor) -> Tensor:
    """Return a rectangle of about `wanted` cells and the box's aspect, at a uniform place in the box: (B, 4).

    Its sides are rounded up from a fraction that is drawn between .2 and .7 (draws 2 and 3; 0 and 1 place it); never
    are they the box's own. On 7 x 7 cells that cuts as much as the authors do, on average .214, .327, .417, .488, .546
    at ratios .2 ... .6, where theirs are .229, .344, .435, .482, .529. Where anything is wanted a cell is cut.
    """
    top, left, bottom, right = box.unbind(dim=1)
    height, width = bottom - top, right - left
    share = torch.sqrt((wanted / (height * width)).clamp(0, 1))
    sides = []
    for side, draw in ((height, draws[2]), (width, draws[3])):
        rounded = torch.minimum(torch.floor(side * share + 0.3 + draw / 2), side - 1).clamp(min=1)
        sides.append(torch.where(wanted > 0, rounded, 0).to(torch.int64))
    rows, columns = sides
    first_row = top + (draws[0] * (height - rows + 1)).to(torch.int64)
    first_column = left + (draws[1] * (width - columns + 1)).to(torch.int64)
    return torch.stack([first_row, first_column, first_row + rows, first_column + columns], dim=1)


def _rectangles(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return bool (B, h, w), True in the half-open boxes (B, 4)."""
    rows = torch.arange(grid[0], device=boxes.device)
    columns = torch.arange(grid[1], device=boxes.device)
    in_rows = (rows >= boxes[:, :1]) & (rows < boxes[:, 2:3])
    in_columns = (columns >= boxes[:, 1:2]) & (columns < boxes[:, 3:4])
    return in_rows[:, :, None] & in_columns[:, None, :]


def block_cutout(ratio: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Cut rectangles until about `ratio` of the grid is gone, wherever they fall (BEiT's block-wise masking).

    Args and result as in `cutout`. A rectangle has an aspect log-uniform in (.3, 3.3) and an area uniform between the
    smallest block and what is still missing; one that would cut more than is missing is drawn again, 40 times at most.
    """
    batch, device = len(ratio), ratio.device
    height, width = grid
    missing = torch.floor(ratio * height * width)
    smallest = float(max(1, int(min(grid) * SMALLEST_BLOCK) ** 2))
    keep = torch.ones(batch, *grid, dtype=torch.bool, device=device)
    draws = torch.rand(BLOCKS_TRIED, 4, batch, generator=generator, device=device)
    for area_draw, aspect_draw, row_draw, column_draw in draws:
        area = smallest + (missing - smallest).clamp(min=0) * area_draw
        aspect = torch.exp(math.log(BLOCK_ASPECT[0]) + math.log(BLOCK_ASPECT[1] / BLOCK_ASPECT[0]) * aspect_draw)
        rows = torch.round(torch.sqrt(area / aspect)).clamp(1, height)
        columns = torch.round(torch.sqrt(area * aspect)).clamp(1, width)
        top = torch.floor(row_draw * (height - rows + 1))
        left = torch.floor(column_draw * (width - columns + 1))
        block = _rectangles(torch.stack([top, left, top + rows, left + columns], dim=1).to(torch.int64), grid)
        new = (block & keep).sum(dim=(1, 2))
        fits = (new > 0) & (new <= missing)
        keep &= ~(block & fits[:, None, None])
        missing = missing - torch.where(fits, new, 0)
    return keep


def random_cutout(ratio: Tensor, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Cut single cells at random, exactly the floor of `ratio` of the grid; args and result as in `cutout`."""
    cells = grid[0] * grid[1]
    noise = torch.rand(len(ratio), cells, generator=generator, device=ratio.device)
    ranks = noise.argsort(dim=1).argsort(dim=1)
    return (ranks >= torch.floor(ratio * cells)[:, None]).view(-1, *grid)


STRATEGIES: dict[str, Callable[[Tensor, tuple[int, int], torch.Generator], Tensor]] = {
    "rcc": region_cutout,
    "blockwise": block_cutout,
    "random": random_cutout,
}
