"""What a dense self-supervised method is to the trainer: views in, named losses out, and a teacher that follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, check_range
from ..features.names import RGB
from ..streams import Stream
from ..words import rgb_numbers
from .cutout import check_strategy, cutout, region_cutout

__all__ = [
    "Batch",
    "Cutout",
    "DenseMethod",
    "Masking",
    "Method",
    "Progress",
    "Views",
    "cells_of_view",
    "check_normalisation",
    "full_precision",
    "in_place",
    "mean_of_places",
    "pixels_of_cells",
]


Names = tuple[str | int, ...]


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: of the step that is made, from 0.
        steps: of the whole run.
        steps_per_epoch: how many steps go once through the data.
    """

    step: int
    steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> float:
        """Epochs that are done, a fraction."""
        return self.step / self.steps_per_epoch

    @property
    def share(self) -> float:
        """Share of the run that is done, in [0, 1)."""
        return self.step / self.steps


@dataclass(frozen=True)
class Batch:
    """Some images, each as several crops, and where their random draws come from.

    Attributes:
        crops: a tensor per view, float32 (B, 3, H, W), sRGB in [0, 1].
        recoloured: the same crops under another draw of the colours, for a student that must not see the teacher's
            pixels; the same as `crops` where nobody asked for it.
        stream: of the step.
        first: place of the first image in the batch of all processes.
        total: images in the batch of all processes.
        boxes: per view float32 (B, K, 4), left, top, right, bottom in its px; none where the method asked for none.
        local: further crops that only the student is shown, as `crops`.
        cuts: cutouts that were drawn ahead, by their names.
    """

    crops: tuple[Tensor, ...]
    recoloured: tuple[Tensor, ...]
    stream: Stream
    first: int
    total: int
    boxes: tuple[Tensor, ...] = ()
    local: tuple[Tensor, ...] = ()
    cuts: Mapping[Names, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.crops[0])

    def in_place(self, own: Tensor) -> Tensor:
        """Return a tensor for the images of all processes that holds this one's rows, (B, ...), in their places."""
        return in_place(own, self.first, self.total)

    def generator(self, *names: str | int) -> torch.Generator:
        """Return a generator of this step, the same one in every process."""
        device = self.crops[0].device
        return torch.Generator(device).manual_seed(self.stream.child(*names).torch_seed())


def in_place(own: Tensor, first: int, total: int) -> Tensor:
    """Return (total, ...), zeros but for the rows `own` from `first` on.

    What is drawn for all images then depends on an image's place alone.
    """
    every = own.new_zeros(total, *own.shape[1:])
    every[first : first + len(own)] = own
    return every


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


@dataclass
class Views:
    """What a method made of a batch.

    Attributes:
        batch: the images.
        keep: per view the cells that the student sees, bool (B, h, w).
        composed: the views that composites are made of, where the method is decoupled.
        regions: per view int64 (B, K, 4), the boxes that a cutout is to take care of: cells top, left, bottom, right;
            none where it draws its own.
        memo: what was computed of these views once and is asked for again, like the teacher's answers.
    """

    batch: Batch
    keep: tuple[Tensor, ...]
    composed: tuple[int, ...]
    memo: dict[str, Any] = field(default_factory=dict)
    regions: tuple[Tensor, ...] = ()


def cells_of_view(crop: Tensor, stride_px: int) -> tuple[int, int]:
    """Return the cells (h, w) of a view (..., H, W), or raise `ArgumentError` where they do not tile it."""
    height, width = crop.shape[-2:]
    if height % stride_px or width % stride_px:
        raise ArgumentError(f"view must be a multiple of {stride_px} px, but is {height} x {width} px.")
    return height // stride_px, width // stride_px


def pixels_of_cells(keep: Tensor, size: tuple[int, int]) -> Tensor:
    """Return bool (B, 1, H, W) of bool cells (B, h, w) that tile the picture."""
    rows, columns = size[0] // keep.shape[-2], size[1] // keep.shape[-1]
    return keep.repeat_interleave(rows, dim=1).repeat_interleave(columns, dim=2)[:, None]


def full_precision(like: Tensor) -> torch.autocast:
    """Return a context in which products are made in the tensors' own type, whatever autocast says around it."""
    return torch.autocast(like.device.type, enabled=False)


def check_normalisation(mean: RGB, std: RGB) -> None:
    """Raise `ArgumentError` unless both are three numbers in the range of colours."""
    rgb_numbers(mean, "mean", 0.0, 1.0)
    rgb_numbers(std, "std", 1e-3, 10.0)


class Method(nn.Module, ABC):
    """A self-supervised objective: the module that a run trains, whichever method it is.

    Its parameters are those of the student (and of its heads) and of the teacher, which is what does not learn: a
    moving average of the student, or another network.
    """

    # Whether crops that only the student sees are of any use to it.
    takes_local_views = False
    # Whether batch normalisation is over the images of all GPUs, as the method's authors have it.
    synchronised_norms = False

    @property
    @abstractmethod
    def evaluated(self) -> str:
        """The branch that is the result."""

    @property
    @abstractmethod
    def norm_trained(self) -> bool:
        """Whether the losses see features behind the backbone's final norm."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Return the losses; what a wrapper that synchronises processes calls."""
        return self.losses(views)

    @abstractmethod
    def views(self, batch: Batch) -> Views:
        """Mask the views."""

    @abstractmethod
    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return named scalars, weighted; a step minimises their sum."""

    def before_step(self, progress: Progress) -> None:
        """Set what the schedules say of this step."""

    def after_step(self, progress: Progress) -> None:
        """Move the teacher; take in what `losses` left since the last step, which came in one part or several."""

    def observed(self) -> dict[str, Tensor]:
        """Return what the log is to say of the last step beside the losses: scalars.

        `features`, vectors (n, D), are not written themselves, but their rank is, now and then.
        """
        return {}

    def networks(self) -> list[nn.Module]:
        """Return the backbones; what else has weights is a head, or learns with it."""
        return list(self.branches().values())

    def core(self) -> Method:
        """Return the method itself, without what wraps it."""
        return self

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return the cutouts that are known before a batch is; the others are drawn when they are asked for.

        Args:
            crops: one per view, of its size; they may be empty.
        """
        return []

    @abstractmethod
    def branches(self) -> dict[str, nn.Module]:
        """Return the backbones that a checkpoint holds as models, under the names of the recipe's architecture."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Return the parts of the networks that are worth compiling."""


def mean_of_places(each: Tensor, where: Tensor) -> Tensor:
    """Return the mean over the places of each image, (n,); 0 of an image without any.

    Args:
        each: float (m,), a value of each place in `where`, in its order.
        where: bool (n, ...).
    """
    spread = each.new_zeros(where.shape).masked_scatter(where, each)
    return spread.flatten(1).sum(dim=1) / where.flatten(1).sum(dim=1).clamp(min=1)


class DenseMethod(Method):
    """A method with a dense output of a student and of a teacher, which is all that `Decoupled` asks for.

    Its places are the cells of a view, or the boxes of a method that has boxes; only those that are asked for are
    worked out, in the order of a boolean index.
    """

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """Return the cells of each view that composites are made of, where they are known before a batch is."""
        return {}

    @abstractmethod
    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the student's output for composites at the places of `where`: (m, K).

        Args:
            images: float32 (n, 3, H, W) in [0, 1].
            keep: bool (n, h, w), cells of the image itself; where the method can tell, the others get no gradient.
            where: bool (n, h, w), or (n, boxes), as of `counted`.
            views: what they were made of.
            view: of which view.
            rows: int64 (n,), of which images.
        """

    def counted(self, keep: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return which places of the output show the image itself: `keep`, unless they are no cells."""
        return keep

    @abstractmethod
    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """Return what the teacher says of some images of a clean view, as `predict`; no gradient, no side effect."""

    @abstractmethod
    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each place, (m,)."""
