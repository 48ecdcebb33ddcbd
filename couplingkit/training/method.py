"""What a dense self-supervised method is to the trainer: views in, named losses out, and a teacher that follows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..features.names import RGB
from ..words import rgb_numbers
from .batch import Batch, Progress, Views, cells_of_view, in_place, pixels_of_cells
from .masking import Cutout, Masking
from .objective import Objective

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


def full_precision(like: Tensor) -> torch.autocast:
    """Return a context in which products are made in the tensors' own type, whatever autocast says around it."""
    return torch.autocast(like.device.type, enabled=False)


def check_normalisation(mean: RGB, std: RGB) -> None:
    """Raise `ArgumentError` unless both are three numbers in the range of colours."""
    rgb_numbers(mean, "mean", 0.0, 1.0)
    rgb_numbers(std, "std", 1e-3, 10.0)


class Method(Objective):
    """A self-supervised objective: the module that a run trains, whichever method it is.

    Its parameters are those of the student (and of its heads) and of the teacher, which is what does not learn: a
    moving average of the student, or another network.
    """

    # Whether crops that only the student sees are of any use to it.
    takes_local_views = False

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
