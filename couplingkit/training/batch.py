"""What a step of any method is made of: where the run stands, the images it is shown, what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..streams import Stream

__all__ = ["Batch", "Names", "Progress", "Views", "cells_of_view", "in_place", "pixels_of_cells"]

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
        """Return a generator of this step, the same one in every process.

        It is the CPU's wherever the images are, for devices draw other numbers.
        """
        return torch.Generator().manual_seed(self.stream.child(*names).torch_seed())


def in_place(own: Tensor, first: int, total: int) -> Tensor:
    """Return (total, ...), zeros but for the rows `own` from `first` on.

    What is drawn for all images then depends on an image's place alone.
    """
    every = own.new_zeros(total, *own.shape[1:])
    every[first : first + len(own)] = own
    return every


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
