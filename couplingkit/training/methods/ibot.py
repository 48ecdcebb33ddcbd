"""iBOT (Zhou et al., ICLR 2022): a ViT that agrees with its moving average on whole views and on cut cells."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ArgumentError, check_range, listed
from ...features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ...features.sources.timm_training import embed_cells, token_features, vit_to_train
from ...pixels import normalize
from ..method import (
    Batch,
    Cutout,
    DenseMethod,
    Masking,
    Progress,
    Views,
    cells_of_view,
    check_normalisation,
)
from ..teacher import cosine, ema_update, mean_over_processes
from .prototypes import Head

__all__ = ["IBOT", "IBOTSettings", "cross_entropy"]

CENTRE_MOMENTUM = 0.9


@dataclass(frozen=True)
class IBOTSettings:
    """The settings of iBOT; the defaults are the authors'.

    Attributes:
        architecture: of timm's, `vit_*`.
        options: of the architecture.
        hidden, bottleneck, prototypes: widths of the head.
        student_temperature, teacher_temperature, warm_temperature: of the softmaxes; the teacher's rises from warm.
        warm_epochs: in which it rises.
        momentum: of the teacher at the start; 1 at the end, by a cosine.
        drop_path: of the student.
        frozen_epochs: in which the head's last layer is held.
        masking: of the student's views.
        mean, std: of the normalisation, sRGB in [0, 1]; written into the weights' file.
    """

    architecture: str = "vit_small_patch16_224"
    options: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 8192
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    warm_temperature: float = 0.04
    warm_epochs: float = 30
    momentum: float = 0.996
    drop_path: float = 0.1
    frozen_epochs: float = 1
    masking: Masking = field(default_factory=lambda: Masking("blockwise", 0.1, 0.5))
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("hidden", "bottleneck", "prototypes"):
            check_range(name, getattr(self, name), 1)
        check_range("student_temperature", self.student_temperature, 1e-4, 1)
        for name in ("teacher_temperature", "warm_temperature"):
            # A teacher that is less sure than its student has nothing to teach.
            check_range(name, getattr(self, name), 1e-4, self.student_temperature)
        for name in ("warm_epochs", "frozen_epochs"):
            check_range(name, getattr(self, name), 0)
        check_range("momentum", self.momentum, 0, 1)
        check_range("drop_path", self.drop_path, 0, 0.99)
        check_normalisation(self.mean, self.std)


class Branch(nn.Module):
    """A ViT and the head that its class token and its cells share."""

    def __init__(self, settings: IBOTSettings, *, seed: int, drop_path: float):
        super().__init__()
        backbone: Any = vit_to_train(settings.architecture, seed=seed, settings=settings.options, drop_path=drop_path)
        self.backbone = backbone
        channels: int = backbone.num_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = Head(
                channels, hidden=settings.hidden, bottleneck=settings.bottleneck, prototypes=settings.prototypes
            )
        self.mask_token = nn.Parameter(torch.zeros(channels))
        self.mean, self.std = settings.mean, settings.std

    def forward(
        self, images: Tensor, *, keep: Tensor | None = None, detach: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the features of the class token (B, D) and of the cells (B, h, w, D).

        Args:
            images: float32 (B, 3, H, W) in [0, 1].
            keep: bool (B, h, w); other cells are replaced by the mask token.
            detach: bool (B, h, w); cells whose embedding gets no gradient.
        """
        cells = embed_cells(self.backbone, normalize(images, self.mean, self.std))
        if keep is not None:
            cells = torch.where(keep[..., None], cells, self.mask_token.to(cells.dtype))
        if detach is not None:
            cells = torch.where(detach[..., None], cells.detach(), cells)
        return token_features(self.backbone, cells)


def cross_entropy(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return -sum(target x log softmax(logits / temperature)) over the last axis, in float32."""
    return -(target * F.log_softmax(logits.float() / temperature, dim=-1)).sum(dim=-1)


class IBOT(DenseMethod):
    """L = CE(teacher's class token of one view -> student's of the other) + CE(teacher's cell -> student's cut cell).

    Args:
        settings: of the method.
        seed: of the weights.
    """

    evaluated = "teacher"
    norm_trained = True
    takes_local_views = True
    class_centre: Tensor
    cell_centre: Tensor

    def __init__(self, settings: IBOTSettings, *, seed: int):
        super().__init__()
        self.settings = settings
        self.student = Branch(settings, seed=seed, drop_path=settings.drop_path)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("class_centre", torch.zeros(settings.prototypes))
        self.register_buffer("cell_centre", torch.zeros(settings.prototypes))
        self.temperature = settings.warm_temperature
        self._observed: dict[str, Tensor] = {}
        # Of the teacher's logits, for the class and the cells: one pair per part of the step.
        self._means: list[tuple[Tensor, Tensor]] = []

    def train(self, mode: bool = True) -> IBOT:
        """Keep the teacher as it is evaluated: without stochastic depth."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def patch_px(self) -> int:
        """Px per cell."""
        return int(self.student.backbone.patch_embed.patch_size[0])

    def grid(self, crop: Tensor) -> tuple[int, int]:
        """Return the cells (h, w) of a crop."""
        return cells_of_view(crop, self.patch_px)

    def views(self, batch: Batch) -> Views:
        """Cut each view; all cells of a view that is spared are kept."""
        sizes = {(crop.shape[-2], crop.shape[-1]) for crop in batch.crops}
        if len(sizes) > 1:
            raise ArgumentError(
                f"views must be of one size, but are of {listed(sorted(str(size[0]) for size in sizes))} px; smaller "
                "crops, which the teacher does not see, are [[local_views]]."
            )
        for crop in batch.local:
            self.grid(crop)
        keep = [self.settings.masking.draw(batch, self.grid(crop), "view", v) for v, crop in enumerate(batch.crops)]
        return Views(batch, tuple(keep), composed=tuple(range(len(keep))))

    def observed(self) -> dict[str, Tensor]:
        """Return the entropy of the teacher's classes, nats, and its unit vectors of the cells of a view."""
        return self._observed

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return that of each view."""
        grids = self.composed_grids(crops)
        return [Cutout(("view", view), self.settings.masking, view, grid) for view, grid in grids.items()]

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """Return those of all views."""
        return {view: self.grid(crop) for view, crop in enumerate(crops)}

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `class` and `cells`."""
        crops = views.batch.crops
        student = [self.student(crop, keep=keep) for crop, keep in zip(crops, views.keep, strict=True)]
        # Local crops are whole, and nobody asks for their cells (DINO's multi-crop).
        classes = [feature for feature, _ in student] + [self.student(crop)[0] for crop in views.batch.local]
        teacher = [self._teacher_outputs(views, view) for view in range(len(crops))]
        self._means.append(self._teacher_means(teacher))
        between, entropies = [], []
        for q, (unit, _) in enumerate(teacher):
            target = self._softened(unit, self.class_centre)
            entropies.append(torch.special.entr(target).sum(dim=-1).mean())
            for v, feature in enumerate(classes):
                if v != q:
                    between.append(cross_entropy(self.student.head(feature), target, self._sharpness).mean())
        within = [self._of_cut_cells(cells, views, v) for v, (_, cells) in enumerate(student)]
        zero = classes[0].sum() * 0
        cells = teacher[0][1]
        self._observed = {"teacher_entropy": torch.stack(entropies).mean(), "features": cells.flatten(0, 2)}
        return {
            "class": torch.stack(between).mean() if between else zero,
            "cells": torch.stack(within).mean(),
        }

    def _teacher_means(self, outputs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the mean logits of classes and of cells, (prototypes,): those of the mean vectors, by linearity."""
        of_class = torch.stack([unit.mean(dim=0) for unit, _ in outputs]).mean(dim=0)
        of_cells = torch.stack([unit.mean(dim=(0, 1, 2)) for _, unit in outputs]).mean(dim=0)
        means = self.teacher.head.logits(torch.stack([of_class, of_cells]))
        return means[0], means[1]

    def _of_cut_cells(self, cells: Tensor, views: Views, view: int) -> Tensor:
        """Return the loss at the cells that the student did not see: mean per image, then over all images."""
        cut = ~views.keep[view]
        image, row, column = cut.nonzero(as_tuple=True)
        if not len(image):
            return cells.sum() * 0
        target = self._softened(self._teacher_outputs(views, view)[1][image, row, column], self.cell_centre)
        each = cross_entropy(self.student.head(cells[image, row, column]), target, self._sharpness)
        share = 1 / cut.sum(dim=(1, 2)).clamp(min=1).to(each.dtype)
        return (each * share[image]).sum() / len(cut)

    @property
    def _sharpness(self) -> float:
        return self.settings.student_temperature

    @torch.no_grad()
    def _teacher_outputs(self, views: Views, view: int) -> tuple[Tensor, Tensor]:
        """Return the teacher's unit vectors of a clean view, computed once: class (B, D), cells (B, h, w, D).

        Their logits, which are many more numbers, are made where they are asked for.
        """
        key = f"teacher {view}"
        if key not in views.memo:
            feature, cells = self.teacher(views.batch.crops[view])
            views.memo[key] = (self.teacher.head.project(feature), self.teacher.head.project(cells))
        outputs: tuple[Tensor, Tensor] = views.memo[key]
        return outputs

    @torch.no_grad()
    def _softened(self, unit: Tensor, centre: Tensor) -> Tensor:
        return F.softmax((self.teacher.head.logits(unit) - centre) / self.temperature, dim=-1)

    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the student's logits of cells of composites, (m, prototypes)."""
        _, cells = self.student(images, detach=~keep)
        logits: Tensor = self.student.head(cells[where])
        return logits

    @torch.no_grad()
    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """Return the teacher's distribution of cells of some images, (m, prototypes)."""
        return self._softened(self._teacher_outputs(views, view)[1][rows][where], self.cell_centre)

    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each cell."""
        return cross_entropy(prediction, target, self._sharpness)

    def before_step(self, progress: Progress) -> None:
        """Set the teacher's temperature, and hold the last layer in the first epochs."""
        settings = self.settings
        warm = min(progress.epoch / settings.warm_epochs, 1.0) if settings.warm_epochs > 0 else 1.0
        self.temperature = settings.warm_temperature + warm * (settings.teacher_temperature - settings.warm_temperature)
        self.student.head.held = progress.epoch < settings.frozen_epochs

    def after_step(self, progress: Progress) -> None:
        """Move the teacher towards the student and the centres towards the teacher's means."""
        ema_update(self.teacher, self.student, cosine(self.settings.momentum, 1.0, progress.share))
        if self._means:
            for centre, parts in zip(
                (self.class_centre, self.cell_centre), zip(*self._means, strict=True), strict=True
            ):
                mean = mean_over_processes(torch.stack(parts).float().mean(dim=0))
                centre.mul_(CENTRE_MOMENTUM).add_(mean, alpha=1 - CENTRE_MOMENTUM)
        self._means = []

    def branches(self) -> dict[str, nn.Module]:
        """Return student and teacher."""
        return {"student": self.student.backbone, "teacher": self.teacher.backbone}

    def blocks(self) -> list[nn.Module]:
        """Return what the student and the teacher repeat: worth compiling."""
        return [block for branch in (self.student, self.teacher) for block in branch.backbone.blocks]
