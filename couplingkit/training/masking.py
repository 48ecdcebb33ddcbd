"""A rule in, which cells of a view a student sees out: for the images of all processes, ahead or when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import check_range
from ..streams import Stream
from .batch import Batch, Names
from .cutout import check_strategy, cutout, region_cutout

__all__ = ["Cutout", "Masking"]


@dataclass(frozen=True)
class Masking:
    """How views are cut: the strategy, and how the ratio of each view is drawn.

    Attributes:
        strategy: of `STRATEGIES`.
        low, high: the ratio is uniform between these.
        spared: share of the views that are not cut at all.
    """

    strategy: str
    low: float
    high: float
    spared: float = 0.5

    def __post_init__(self) -> None:
        check_strategy(self.strategy)
        check_range("low", self.low, 0, self.high)
        check_range("high", self.high, self.low, 0.99)
        check_range("spared", self.spared, 0, 1)

    def draw(self, batch: Batch, grid: tuple[int, int], *names: str | int, regions: Tensor | None = None) -> Tensor:
        """Return which cells of each image are kept, bool (B, h, w): as they were drawn ahead, or as `drawn` has them.

        With `regions`, int64 (B, K, 4) of cells, RCC takes care of these boxes instead of its own.
        """
        if names in batch.cuts:
            return batch.cuts[names]
        boxes = None if regions is None else batch.in_place(regions).cpu()
        keep = self.drawn(batch.stream, grid, names, total=batch.total, regions=boxes)
        return keep[batch.first : batch.first + len(batch)].to(batch.crops[0].device)

    def drawn(
        self, stream: Stream, grid: tuple[int, int], names: Names, *, total: int, regions: Tensor | None = None
    ) -> Tensor:
        """Draw for the images of all processes, so that their number changes nothing: bool (total, h, w), on the CPU.

        Args:
            stream: of the step.
            grid: cells of the view.
            names: of the draw.
            total: images in the batch of all processes.
            regions: int64 (total, K, 4), in place of RCC's own boxes.
        """
        generator = torch.Generator().manual_seed(stream.child("cutout", *names).torch_seed())
        uniform = torch.rand(2, total, generator=generator)
        ratio = torch.where(uniform[0] < self.spared, 0.0, self.low + (self.high - self.low) * uniform[1])
        if regions is not None and self.strategy == "rcc":
            return region_cutout(ratio, grid, generator, boxes=regions)
        return cutout(self.strategy, ratio, grid, generator)


@dataclass(frozen=True)
class Cutout:
    """A cutout of a method that can be drawn before the method is shown the views, by whoever reads the images.

    Attributes:
        names: of the draw, as the method asks for it.
        masking: how it is drawn.
        view: of which view.
        grid: cells of the view.
        regions: whether it takes care of the view's boxes.
    """

    names: Names
    masking: Masking
    view: int
    grid: tuple[int, int]
    regions: bool = False
