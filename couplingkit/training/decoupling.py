"""X in, X-D out: any method, with composites whose kept cells must say what the teacher says of the clean view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import check_range
from .method import Batch, Cutout, DenseMethod, Masking, Method, Progress, Views, mean_of_places, pixels_of_cells

__all__ = ["Decoupled", "chosen_rows", "composites"]


def chosen_rows(first: int, count: int, share: float) -> Tensor:
    """Return which images of a batch become composites, evenly spread over the batch of all processes.

    Args:
        first: place of the first image in the batch of all processes.
        count: images here.
        share: of the images, in [0, 1].

    >>> chosen_rows(0, 8, 0.25).tolist(), chosen_rows(8, 4, 0.25).tolist()
    ([3, 7], [3])
    """
    places = torch.arange(first, first + count, dtype=torch.float64)
    return (_chosen_before(places + 1, share) > _chosen_before(places, share)).nonzero()[:, 0]


def _chosen_before(places: Tensor, share: float) -> Tensor:
    """Return how many images before each place are composites."""
    # Rounded, so that a share like 0.1 chooses one in ten in spite of its binary fraction.
    return torch.floor(places.to(torch.float64) * share + 1e-9)


def composites(batch: Batch, view: int, rows: Tensor, keep: Tensor) -> Tensor:
    """Return composites, float32 (n, 3, H, W) in [0, 1]: the kept cells of some images on donors.

    The donor of an image is its neighbour in the batch (which is shuffled) in another view of the same size, never the
    image itself. The student's colours are drawn apart from the teacher's.

    Args:
        batch: of at least two images.
        view: which crop.
        rows: int64 (n,), the images.
        keep: bool (n, h, w), the cells that show the image itself.
    """
    crop = batch.recoloured[view]
    others = [v for v, other in enumerate(batch.recoloured) if v != view and other.shape == crop.shape]
    donor_view = batch.recoloured[others[0]] if others else crop
    partner = rows ^ 1
    # The last one of an odd batch has no partner behind it; nobody else has the one before it at that distance.
    partner = torch.where(partner < len(batch), partner, rows - 1)
    pixels = pixels_of_cells(keep, (crop.shape[-2], crop.shape[-1]))
    return torch.where(pixels, crop[rows], donor_view[partner])


class Decoupled(DenseMethod):
    """X-D (Qiu et al., ICLR 2024): L = L_X + weight x disagreement on the kept cells of composites.

    It has no parameters of its own, and knows of X only what a `DenseMethod` is; what it does not change it passes on.

    Args:
        inner: X.
        masking: of the composites.
        weight: of the term; 0 leaves X as it is, bit for bit.
        share: of the images of each view that become composites.
    """

    def __init__(self, inner: DenseMethod, *, masking: Masking, weight: float = 0.3, share: float = 0.25):
        super().__init__()
        check_range("weight", weight, 0)
        check_range("share", share, 0, 1)
        self.inner = inner
        self.masking = masking
        self.weight = weight
        self.share = share

    @property
    def evaluated(self) -> str:
        """As X."""
        return self.inner.evaluated

    @property
    def norm_trained(self) -> bool:
        """As X."""
        return self.inner.norm_trained

    def observed(self) -> dict[str, Tensor]:
        """As X."""
        return self.inner.observed()

    def core(self) -> Method:
        """Return X."""
        return self.inner.core()

    def views(self, batch: Batch) -> Views:
        """Return the views of X."""
        return self.inner.views(batch)

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return those of X and of the composites, which care for boxes where those of X do."""
        found = self.inner.cutouts(crops)
        cared = any(cut.regions for cut in found)
        grids = self.inner.composed_grids(crops)
        return found + [Cutout(("composite", view), self.masking, view, grid, cared) for view, grid in grids.items()]

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """As X."""
        return self.inner.composed_grids(crops)

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return the losses of X, and `decoupling`."""
        found = self.inner.losses(views)
        if self.weight == 0:
            return found
        parts = [part for view in views.composed if (part := self._of_view(views, view)) is not None]
        zero = next(iter(found.values())) * 0
        return {**found, "decoupling": self.weight * self._mean(parts, views) if parts else zero}

    def _mean(self, parts: list[Tensor], views: Views) -> Tensor:
        """Return the mean over the composites of the whole batch, as the mean over its equal shares will have it.

        A share of the batch (a process's, or a part of a step) may hold more or fewer of them than another.
        """
        batch = views.batch
        every = len(chosen_rows(0, batch.total, self.share)) * len(views.composed)
        return torch.cat(parts).sum() * (batch.total / len(batch) / every)

    def _of_view(self, views: Views, view: int) -> Tensor | None:
        """Return the loss of each composite of a view, (n,); None where there is none."""
        batch = views.batch
        rows = chosen_rows(batch.first, len(batch), self.share)
        if len(batch) < 2 or not len(rows):
            return None
        # Every other composite shows what the first ones hide. Counted over all processes, as the rows are; and before
        # they leave the CPU, for not every device has the float64 that it takes.
        odd = _chosen_before(rows + batch.first, self.share) % 2 == 1
        rows, odd = (part.to(batch.crops[view].device, non_blocking=True) for part in (rows, odd))
        cells = views.keep[view]
        regions = views.regions[view] if views.regions else None
        grid = (cells.shape[1], cells.shape[2])
        keep = self.masking.draw(batch, grid, "composite", view, regions=regions)[rows]
        keep = torch.where(odd[:, None, None], ~keep, keep)
        where = self.inner.counted(keep, views, view, rows)
        prediction = self.inner.predict(composites(batch, view, rows, keep), keep, where, views, view, rows)
        each = self.inner.disagreement(prediction, self.inner.targets(views, view, rows, where))
        return mean_of_places(each, where)

    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """As X."""
        return self.inner.predict(images, keep, where, views, view, rows)

    def counted(self, keep: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """As X."""
        return self.inner.counted(keep, views, view, rows)

    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """As X."""
        return self.inner.targets(views, view, rows, where)

    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """As X."""
        return self.inner.disagreement(prediction, target)

    def before_step(self, progress: Progress) -> None:
        """As X."""
        self.inner.before_step(progress)

    def after_step(self, progress: Progress) -> None:
        """As X."""
        self.inner.after_step(progress)

    def branches(self) -> dict[str, nn.Module]:
        """As X."""
        return self.inner.branches()

    def blocks(self) -> list[nn.Module]:
        """As X."""
        return self.inner.blocks()
