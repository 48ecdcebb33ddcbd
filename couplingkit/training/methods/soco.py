"""SoCo (Wei et al., NeurIPS 2021): the same object, in three views of an image, has the same feature."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ArgumentError, check_range
from ...features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ...features.sources.timm_convnets import convnet_to_train, last_stride_px, stage_channels, stage_maps, stages_of
from ...pixels import normalize
from ..box_cells import box_shares, cells_of_boxes
from ..method import Batch, Cutout, DenseMethod, Masking, Progress, Views, cells_of_view, check_normalisation
from ..region_features import RegionHead, perceptron
from ..teacher import cosine, ema_update, mean_statistics
from .moco import without_cells

__all__ = ["SoCo", "SoCoSettings", "agreement"]

# (view of the prediction, view of the target)
VIEWS = 3
TERMS = ((0, 1), (1, 0), (0, 2), (2, 0))
# A box counts in a view where this much of its sides is left, px; in a composite, where this share of it is kept.
SMALLEST_PX = 8
SMALLEST_CELL_PX = 4
KEPT_SHARE = 0.3


@dataclass(frozen=True)
class SoCoSettings:
    """The settings of SoCo; the defaults are the authors'.

    Attributes:
        architecture: of timm's, with four stages: `resnet50`.
        options: of the architecture.
        proposals: boxes per image and step.
        pyramid: channels of the feature pyramid.
        region: width of a region's feature.
        hidden, dimensions: widths of projector and predictor.
        momentum: of the teacher at the start; 1 at the end, by a cosine.
        jitter: of a box's centre and sides in the first view, as a share of them; half of the boxes are left.
        masking: of the second and third view; their cells are filled with the mean colour.
        mean, std: of the normalisation, sRGB in [0, 1]; written into the weights' file.
    """

    architecture: str = "resnet50"
    options: Mapping[str, Any] = field(default_factory=dict)
    proposals: int = 4
    pyramid: int = 256
    region: int = 1024
    hidden: int = 4096
    dimensions: int = 256
    momentum: float = 0.99
    jitter: float = 0.1
    masking: Masking = field(default_factory=lambda: Masking("rcc", 0.2, 0.6, spared=1.0))
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("pyramid", "region", "hidden", "dimensions"):
            check_range(name, getattr(self, name), 1)
        # A single composite with a single box could not be normalised.
        check_range("proposals", self.proposals, 2)
        check_range("momentum", self.momentum, 0, 1)
        check_range("jitter", self.jitter, 0, 0.5)
        check_normalisation(self.mean, self.std)


def agreement(prediction: Tensor, target: Tensor) -> Tensor:
    """Return -2 x cosine of the last axis, float32: -2 for equal directions (Grill et al., 2020, without its 2)."""
    return -2 * F.cosine_similarity(prediction.float(), target.float(), dim=-1)


class Branch(nn.Module):
    """A network with four stages, its feature pyramid, and what becomes of a region: its projection."""

    def __init__(self, settings: SoCoSettings, *, seed: int):
        super().__init__()
        backbone: Any = convnet_to_train(settings.architecture, seed=seed, settings=settings.options)
        self.backbone = backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.regions = RegionHead(stage_channels(backbone), settings.pyramid, settings.region)
            self.projector = perceptron(settings.region, settings.hidden, settings.dimensions)
        self.mean, self.std = settings.mean, settings.std

    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Return the projections of boxes (B, K, 4) of images (B, 3, H, W) in [0, 1]: (B, K, D)."""
        maps = stage_maps(self.backbone, normalize(images, self.mean, self.std))
        features = self.regions(maps, boxes, (images.shape[-2], images.shape[-1]))
        projected: Tensor = self.projector(features)
        return projected.view(*boxes.shape[:2], -1)


class SoCo(DenseMethod):
    """L = sum over four pairs of views of -2 cos(prediction of a box, the teacher's projection of it in the other).

    Args:
        settings: of the method.
        seed: of the weights.
    """

    # The online network.
    evaluated = "student"
    norm_trained = True
    synchronised_norms = True

    def __init__(self, settings: SoCoSettings, *, seed: int):
        super().__init__()
        self.settings = settings
        self.student = Branch(settings, seed=seed)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self._observed: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.predictor = perceptron(settings.dimensions, settings.hidden, settings.dimensions)

    def views(self, batch: Batch) -> Views:
        """Move the boxes of the first view a little, and cut the other two with care for their boxes."""
        if len(batch.crops) != VIEWS or len(batch.boxes) != VIEWS:
            raise ArgumentError(f"views must be three with boxes, but are {len(batch.crops)}.")
        grids = [self._grid(crop) for crop in batch.crops]
        regions = tuple(
            cells_of_boxes(boxes, grid, (crop.shape[-2], crop.shape[-1]))
            for boxes, grid, crop in zip(batch.boxes, grids, batch.crops, strict=True)
        )
        whole = torch.ones(len(batch), *grids[0], dtype=torch.bool, device=batch.crops[0].device)
        cut = [self.settings.masking.draw(batch, grids[view], "view", view, regions=regions[view]) for view in (1, 2)]
        memo = {"boxes": (self._jittered(batch), *batch.boxes[1:])}
        return Views(batch, (whole, *cut), composed=(1, 2), memo=memo, regions=regions)

    def observed(self) -> dict[str, Tensor]:
        """Return the teacher's projections of boxes."""
        return self._observed

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return those of the second and third view, which care for their boxes."""
        grids = self.composed_grids(crops)
        return [Cutout(("view", view), self.settings.masking, view, grid, True) for view, grid in grids.items()]

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """Return those of the second and third view."""
        return {} if len(crops) != VIEWS else {view: self._grid(crops[view]) for view in (1, 2)}

    def _grid(self, crop: Tensor) -> tuple[int, int]:
        """Return the cells that a view is cut in: of the last map's stride, or the largest part of it that fits."""
        stride = math.gcd(last_stride_px(self.student.backbone), *crop.shape[-2:])
        return cells_of_view(crop, max(stride, SMALLEST_CELL_PX))

    def _jittered(self, batch: Batch) -> Tensor:
        """Return the first view's boxes, half of them moved and resized by up to `jitter` of their sides."""
        boxes, generator = batch.boxes[0], batch.generator("jitter")
        own = slice(batch.first, batch.first + len(batch))
        draws = torch.rand(batch.total, boxes.shape[1], 5, generator=generator)[own].to(boxes.device, non_blocking=True)
        sides = boxes[..., 2:] - boxes[..., :2]
        centre = (boxes[..., 2:] + boxes[..., :2]) / 2
        moved = (2 * draws[..., :4] - 1) * self.settings.jitter
        centre, sides = centre + moved[..., :2] * sides, sides * (1 + moved[..., 2:])
        height, width = batch.crops[0].shape[-2:]
        limits = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
        corners = torch.cat([centre - sides / 2, centre + sides / 2], dim=-1).clamp(min=0)
        return torch.where(draws[..., 4:] < 0.5, torch.minimum(corners, limits), boxes)

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `objects`: the sum of the four terms, each a mean over the boxes (of this process) that both show."""
        boxes = views.memo["boxes"]
        predictions = [
            self.predictor_of(without_cells(crop, keep, self.settings.mean), boxes[view])
            for view, (crop, keep) in enumerate(zip(views.batch.crops, views.keep, strict=True))
        ]
        terms = []
        for q, k in TERMS:
            shown = _large_enough(boxes[q]) & _large_enough(boxes[k])
            each = agreement(predictions[q], self._projections(views, k)) * shown
            terms.append(each.sum() / shown.sum().clamp(min=1))
        return {"objects": torch.stack(terms).sum()}

    def predictor_of(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Return the student's predictions of boxes (B, K, 4), (B, K, D)."""
        projected = self.student(images, boxes)
        predicted: Tensor = self.predictor(projected.flatten(0, 1))
        return predicted.view_as(projected)

    @torch.no_grad()
    def _projections(self, views: Views, view: int) -> Tensor:
        """Return the teacher's projections of the boxes of a clean view, computed once: (B, K, D)."""
        key = f"teacher {view}"
        if key not in views.memo:
            views.memo[key] = self.teacher(views.batch.crops[view], views.memo["boxes"][view])
            self._observed = {"features": views.memo[key].flatten(0, 1)}
        found: Tensor = views.memo[key]
        return found

    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the predictions of boxes of composites, (m, D); all of them share the statistics of the norms."""
        return self.predictor_of(images, views.memo["boxes"][view][rows])[where]

    def counted(self, keep: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return which boxes have at least .3 of themselves kept, bool (n, K)."""
        boxes, crop = views.memo["boxes"][view][rows], views.batch.crops[view]
        share = box_shares(keep, boxes, (crop.shape[-2], crop.shape[-1]))
        return (share >= KEPT_SHARE) & _large_enough(boxes)

    @torch.no_grad()
    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """Return the teacher's projections of the boxes in the clean view, (m, D)."""
        return self._projections(views, view)[rows][where]

    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each box."""
        return agreement(prediction, target)

    def after_step(self, progress: Progress) -> None:
        """Move the teacher towards the student."""
        mean_statistics(self.student)
        ema_update(self.teacher, self.student, cosine(self.settings.momentum, 1.0, progress.share))

    def branches(self) -> dict[str, nn.Module]:
        """Return student and teacher."""
        return {"student": self.student.backbone, "teacher": self.teacher.backbone}

    def blocks(self) -> list[nn.Module]:
        """Return what is worth compiling."""
        return [stage for branch in (self.student, self.teacher) for stage in stages_of(branch.backbone)]


def _large_enough(boxes: Tensor) -> Tensor:
    """Return which boxes (..., 4) have something left in their view."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= SMALLEST_PX).all(dim=-1)
