"""DenseCL (Wang et al., CVPR 2021): MoCo, and the same between the cells of two crops that look most alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import check_range
from ..method import DenseMethod, Progress, Views, full_precision, mean_of_places
from ..teacher import gathered
from .moco import KEY, QUERY, VIEWS, MoCo, MoCoSettings, Queue, info_nce

__all__ = ["DenseCL", "DenseCLSettings", "correspondence"]


@dataclass(frozen=True)
class DenseCLSettings(MoCoSettings):
    """The settings of DenseCL; `dense_share` of the loss is between cells, the rest between images."""

    dense_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("dense_share", self.dense_share, 0, 1)


@torch.no_grad()
def correspondence(query: Tensor, key: Tensor) -> Tensor:
    """Return for each cell of a query's map the most similar cell of the key's (cosine): int64 (B, n), row-major.

    Args:
        query: the backbone's features (B, h, w, C).
        key: the other crop's (B, h', w', C).
    """
    one, other = (F.normalize(cells.float().flatten(1, 2), dim=-1) for cells in (query, key))
    with full_precision(query):
        return torch.einsum("bic,bjc->bij", one, other).argmax(dim=-1)


class DenseCL(MoCo, DenseMethod):
    """L = (1 - share) x MoCo's + share x InfoNCE(query's cell, the key's cell that is most like it; a dense queue).

    The dense queue takes one vector per image: the mean of its cells' projections, of unit length.
    """

    dense = True
    settings: DenseCLSettings

    def __init__(self, settings: DenseCLSettings, *, seed: int):
        super().__init__(settings, seed=seed)
        self.dense_queue = Queue(settings.queue, settings.dimensions, seed=seed + 1)
        self._fresh_dense: list[Tensor] = []

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """Return the key's."""
        return {} if len(crops) != VIEWS else {KEY: self.grid(crops[KEY])}

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `image` and `dense`, weighted."""
        cells, share = self.queries(views), self.settings.dense_share
        return {
            "image": (1 - share) * self.image_loss(views, cells),
            "dense": share * self._of_cells(views, cells).mean(),
        }

    def _of_cells(self, views: Views, cells: Tensor) -> Tensor:
        """Return the dense loss of each image over the query's cells that were not cut, (B,)."""
        matched = correspondence(cells, self.keys(views)[1])
        keys = self._dense_keys(views)
        self._fresh_dense.append(F.normalize(keys.mean(dim=(1, 2)), dim=-1))
        unit = F.normalize(keys, dim=-1).flatten(1, 2)
        targets = unit.gather(1, matched[..., None].expand(-1, -1, unit.shape[-1])).reshape(*cells.shape[:3], -1)
        where = views.keep[QUERY]
        queries = F.normalize(self.student.cell_vectors(cells[where]), dim=-1)
        return mean_of_places(self.disagreement(queries, targets[where]), where)

    @torch.no_grad()
    def _dense_keys(self, views: Views) -> Tensor:
        """Return the teacher's projections of the key's cells, computed once: (B, h, w, D), not of unit length."""
        if "dense keys" not in views.memo:
            views.memo["dense keys"] = self.teacher.cell_vectors(self.keys(views)[1])
        found: Tensor = views.memo["dense keys"]
        return found

    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the student's unit vectors of cells of composites, (m, D).

        A convolution cannot tell donors from the image, so the donors' pixels get what gradient there is.
        """
        return F.normalize(self.student.cell_vectors(self.student.cells(images)[where]), dim=-1)

    @torch.no_grad()
    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """Return the keys of the clean key's view at the same places, unit vectors (m, D)."""
        assert view == KEY
        return F.normalize(self._dense_keys(views)[rows][where], dim=-1)

    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return InfoNCE of each cell against the dense queue."""
        return info_nce(prediction, target, self.dense_queue.keys, self.settings.temperature)

    def after_step(self, progress: Progress) -> None:
        """As MoCo, and the dense keys into their queue."""
        super().after_step(progress)
        for keys in self._fresh_dense:
            self.dense_queue.push(gathered(keys))
        self._fresh_dense = []
