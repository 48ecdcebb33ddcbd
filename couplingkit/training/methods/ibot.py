"""iBOT (Zhou et al., ICLR 2022): a ViT that agrees with its moving average on whole views and on cut cells."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import check_range
from ...features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ...features.sources.timm_training import embed_cells, token_features, vit_to_train
from ...pixels import normalize
from ..method import Batch, DenseMethod, Masking, Progress, Views, cells_of_view, check_normalisation, full_precision
from ..teacher import cosine, ema_update, mean_over_processes

__all__ = ["IBOT", "Head", "IBOTSettings", "cross_entropy"]

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
        for name in ("student_temperature", "teacher_temperature", "warm_temperature"):
            check_range(name, getattr(self, name), 1e-4)
        check_range("momentum", self.momentum, 0, 1)
        check_range("drop_path", self.drop_path, 0, 0.99)
        check_normalisation(self.mean, self.std)


class Head(nn.Module):
    """Three layers, a unit vector, and its cosines with prototypes: features (..., D) to logits (..., prototypes)."""

    def __init__(self, channels: int, settings: IBOTSettings):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, settings.hidden),
            nn.GELU(),
            nn.Linear(settings.hidden, settings.bottleneck),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        # Its rows are used as unit vectors, which is weight normalisation with a gain of 1.
        self.prototypes = nn.Parameter(torch.randn(settings.prototypes, settings.bottleneck))
        self.held = False

    def forward(self, features: Tensor) -> Tensor:
        """Return cosines with the prototypes, float32; the prototypes get no gradient while they are held."""
        unit = F.normalize(self.layers(features).float(), dim=-1)
        prototypes = self.prototypes.detach() if self.held else self.prototypes
        with full_precision(unit):
            return F.linear(unit, F.normalize(prototypes.float(), dim=-1))


class Branch(nn.Module):
    """A ViT and the head that its class token and its cells share."""

    def __init__(self, settings: IBOTSettings, *, seed: int, drop_path: float):
        super().__init__()
        backbone: Any = vit_to_train(settings.architecture, seed=seed, settings=settings.options, drop_path=drop_path)
        self.backbone = backbone
        channels: int = backbone.num_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = Head(channels, settings)
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
        keep = [self.settings.masking.draw(batch, self.grid(crop), "view", v) for v, crop in enumerate(batch.crops)]
        return Views(batch, tuple(keep), composed=tuple(range(len(keep))))

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `class` and `cells`."""
        crops = views.batch.crops
        student = [self.student(crop, keep=keep) for crop, keep in zip(crops, views.keep, strict=True)]
        teacher = [self._teacher_outputs(views, view) for view in range(len(crops))]
        of_class = torch.stack([logits.mean(dim=0) for logits, _ in teacher]).mean(dim=0)
        of_cells = torch.stack([logits.mean(dim=(0, 1, 2)) for _, logits in teacher]).mean(dim=0)
        self._means.append((of_class, of_cells))
        between, within = [], []
        for q, (class_logits, _) in enumerate(teacher):
            target = self._softened(class_logits, self.class_centre)
            for v, (feature, _) in enumerate(student):
                if v != q:
                    between.append(cross_entropy(self._logits(feature), target, self._sharpness).mean())
        for v, (_, cells) in enumerate(student):
            within.append(self._of_cut_cells(cells, views, v))
        zero = student[0][0].sum() * 0
        return {
            "class": torch.stack(between).mean() if between else zero,
            "cells": torch.stack(within).mean(),
        }

    def _of_cut_cells(self, cells: Tensor, views: Views, view: int) -> Tensor:
        """Return the loss at the cells that the student did not see: mean per image, then over all images."""
        cut = ~views.keep[view]
        image, row, column = cut.nonzero(as_tuple=True)
        if not len(image):
            return cells.sum() * 0
        target = self._softened(self._teacher_outputs(views, view)[1][image, row, column], self.cell_centre)
        each = cross_entropy(self._logits(cells[image, row, column]), target, self._sharpness)
        share = 1 / cut.sum(dim=(1, 2)).clamp(min=1).to(each.dtype)
        return (each * share[image]).sum() / len(cut)

    @property
    def _sharpness(self) -> float:
        return self.settings.student_temperature

    @torch.no_grad()
    def _teacher_outputs(self, views: Views, view: int) -> tuple[Tensor, Tensor]:
        """Return the teacher's logits of a clean view, computed once: class (B, K), cells (B, h, w, K)."""
        key = f"teacher {view}"
        if key not in views.memo:
            feature, cells = self.teacher(views.batch.crops[view])
            views.memo[key] = (self.teacher.head(feature), self.teacher.head(cells))
        outputs: tuple[Tensor, Tensor] = views.memo[key]
        return outputs

    def _softened(self, logits: Tensor, centre: Tensor) -> Tensor:
        return F.softmax((logits.float() - centre) / self.temperature, dim=-1)

    def predict(self, images: Tensor, keep: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the student's logits of each cell of composites, (B, h, w, K)."""
        _, cells = self.student(images, detach=~keep)
        return self._logits(cells)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.student.head(features)
        return logits

    def counted(self, keep: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the kept cells."""
        return keep

    @torch.no_grad()
    def targets(self, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the teacher's distribution of each cell of some images, (n, h, w, K)."""
        return self._softened(self._teacher_outputs(views, view)[1][rows], self.cell_centre)

    def disagreement(self, prediction: Tensor, target: Tensor, where: Tensor) -> Tensor:
        """Return the cross-entropy of each image, the mean over its cells in `where`; 0 where there are none."""
        each = cross_entropy(prediction, target, self._sharpness) * where
        return each.sum(dim=(1, 2)) / where.sum(dim=(1, 2)).clamp(min=1)

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
