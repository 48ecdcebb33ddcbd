"""MaskAlign (Xue et al., CVPR 2023): a student that sees some tokens says what a frozen teacher makes of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ArgumentError, check_range
from ...features.loading import load_backbone
from ...features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ...features.sources.timm_training import (
    class_attention,
    embed_cells,
    fix_positions,
    run_tokens,
    token_levels,
    vit_to_train,
)
from ...pixels import normalize
from ..method import Batch, Cutout, DenseMethod, Masking, Views, cells_of_view, check_normalisation

__all__ = ["Alignment", "MaskAlign", "MaskAlignSettings", "chosen_cells", "whitened"]

LOSS_SCALE = 2.0
MIXING = 0.01


@dataclass(frozen=True)
class MaskAlignSettings:
    """The settings of MaskAlign; the defaults are the authors'.

    Attributes:
        architecture: of timm's, `vit_*`.
        options: of the architecture.
        teacher: a model as `load_backbone` names it: a ViT of the same depth, with cells of the same size.
        kept: share of the cells that the student sees.
        levels: the last blocks of the teacher that are aligned with.
        drop_path: of the student.
        masking: which cells are kept first; by default they are drawn by the teacher's attention.
        mean, std: of the student's normalisation, sRGB in [0, 1]; the teacher has its own.
    """

    architecture: str = "vit_base_patch16_224"
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher: str = "timm:vit_base_patch16_clip_224.openai"
    kept: float = 0.3
    levels: int = 5
    drop_path: float = 0.1
    masking: Masking | None = None
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        check_range("kept", self.kept, 0.01, 1)
        check_range("levels", self.levels, 1)
        check_range("drop_path", self.drop_path, 0, 0.99)
        check_normalisation(self.mean, self.std)


def whitened(tokens: Tensor) -> Tensor:
    """Return tokens (..., D) with mean 0 and variance 1 each, float32."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


def chosen_cells(first: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` cells of each image, int64 (B, count), ascending: kept ones first, at random among equals.

    Args:
        first: bool (B, h, w), the cells that are to be taken before others.
        count: of cells.
        generator: of the draws, of the CPU.
    """
    noise = torch.rand(first.shape, generator=generator).to(first.device, non_blocking=True)
    return (first + noise).flatten(1).topk(count, dim=1).indices.sort(dim=1).values


class Alignment(nn.Module):
    """What a student's levels are mixed into, and the linear layer of each level that is aligned (dynamic alignment).

    Args:
        depth: blocks of student and teacher.
        levels: the last ones that are aligned.
        channels: of the student.
        target: channels of the teacher.
    """

    def __init__(self, depth: int, levels: int, channels: int, target: int):
        super().__init__()
        # One dimension, so that it has no weight decay.
        self.mixing = nn.Parameter((torch.eye(depth) + MIXING).flatten())
        self.depth = depth
        self.heads = nn.ModuleList(nn.Linear(channels, target) for _ in range(levels))

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """Return (B, n, levels, target) of what each block gives, (B, n, channels) each."""
        mixing = self.mixing.view(self.depth, self.depth)[-len(self.heads) :]
        mixed = torch.einsum("kl,lbnc->kbnc", mixing.to(tokens[0].dtype), torch.stack(tokens))
        return torch.stack([head(level) for head, level in zip(self.heads, mixed, strict=True)], dim=2)


class MaskAlign(DenseMethod):
    """L = 2 x smooth-L1(aligned levels of the student's kept tokens, whitened levels of the teacher's).

    Args:
        settings: of the method.
        seed: of the weights.

    Raises:
        ArgumentError: the teacher is no plain ViT, or of another depth.
    """

    evaluated = "student"
    # Its losses see the blocks' own output.
    norm_trained = False

    def __init__(self, settings: MaskAlignSettings, *, seed: int):
        super().__init__()
        self.settings = settings
        student: Any = vit_to_train(
            settings.architecture, seed=seed, settings=settings.options, drop_path=settings.drop_path
        )
        found = load_backbone(settings.teacher, device="cpu", precision="float32")
        teacher: Any = found.network
        depths = [len(getattr(network, "blocks", ())) for network in (student, teacher)]
        if depths[0] != depths[1] or not hasattr(teacher, "_pos_embed"):
            raise ArgumentError(
                f"method.teacher must be a ViT of {depths[0]} blocks, as deep as {settings.architecture} (levels are "
                f"mixed one by one), but {settings.teacher} has {depths[1]}."
            )
        if settings.levels > depths[0]:
            raise ArgumentError(f"method.levels must be at most the {depths[0]} blocks, but is {settings.levels}.")
        self.student, self.teacher = student, teacher.requires_grad_(False)
        for p in student.norm.parameters():
            p.requires_grad_(False)
        fix_positions(student)
        self._observed: dict[str, Tensor] = {}
        self.normalisation, self.teacher_px = (found.mean, found.std), found.size_px
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.alignment = Alignment(depths[0], settings.levels, student.num_features, teacher.num_features)

    def train(self, mode: bool = True) -> MaskAlign:
        """Keep the teacher as it is evaluated."""
        super().train(mode)
        self.teacher.eval()
        return self

    def views(self, batch: Batch) -> Views:
        """Choose the cells that the student sees: as many of each image."""
        views = Views(batch, (), composed=tuple(range(len(batch.crops))))
        keep = []
        for view, crop in enumerate(batch.crops):
            height, width = self._grid(crop)
            count = max(int(self.settings.kept * height * width), 1)
            keep.append(torch.zeros(len(batch), height * width, dtype=torch.bool, device=crop.device))
            keep[-1].scatter_(1, self._chosen(views, view, (height, width), count), True)
            keep[-1] = keep[-1].view(len(batch), height, width)
        return Views(batch, tuple(keep), views.composed, views.memo)

    def observed(self) -> dict[str, Tensor]:
        """Return the student's last level at the cells that it saw."""
        return self._observed

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return those of the views, unless their cells are drawn by the teacher's attention."""
        masking = self.settings.masking
        grids = self.composed_grids(crops) if masking is not None else {}
        return [Cutout(("view", view), masking, view, grid) for view, grid in grids.items() if masking is not None]

    def composed_grids(self, crops: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """Return those of all views."""
        return {view: self._grid(crop) for view, crop in enumerate(crops)}

    def _grid(self, crop: Tensor) -> tuple[int, int]:
        return cells_of_view(crop, int(self.student.patch_embed.patch_size[0]))

    def _chosen(self, views: Views, view: int, grid: tuple[int, int], count: int) -> Tensor:
        """Return the cells of each image, int64 (B, count); drawn for the images of all processes."""
        batch = views.batch
        generator, own = batch.generator("kept", view), slice(batch.first, batch.first + len(batch))
        if self.settings.masking is not None:
            first = self.settings.masking.draw(batch, grid, "view", view)
            return chosen_cells(batch.in_place(first), count, generator)[own]
        # Without replacement, by attention: the largest of log(share) + Gumbel noise.
        noise = torch.rand(batch.total, grid[0] * grid[1], generator=generator)[own]
        shares = self._teacher_outputs(views, view)[1].clamp(min=1e-9)
        gumbel = -torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-7)))
        score = shares.log() + gumbel.to(shares.device, non_blocking=True)
        return score.topk(count, dim=1).indices.sort(dim=1).values

    @torch.no_grad()
    def _teacher_outputs(self, views: Views, view: int) -> tuple[Tensor, Tensor]:
        """Return what the teacher says of a whole view, computed once.

        Its last levels, whitened, (B, 1 + n, levels, D), and its class token's attention, (B, n).
        """
        key = f"teacher {view}"
        if key not in views.memo:
            crop = views.batch.crops[view]
            if tuple(crop.shape[-2:]) != self.teacher_px:
                raise ArgumentError(
                    f"method.teacher is shown {self.teacher_px[0]} x {self.teacher_px[1]} px, but the view has "
                    f"{crop.shape[-2]} x {crop.shape[-1]}; change [[views]], or name the teacher with img_size=(H,W)."
                )
            levels = token_levels(self.teacher, normalize(crop, *self.normalisation))
            cells = self._grid(crop)
            if levels[0].shape[1] != 1 + cells[0] * cells[1]:
                raise ArgumentError(
                    f"method.teacher makes {levels[0].shape[1] - 1} cells of a view of {crop.shape[-2]} x "
                    f"{crop.shape[-1]} px, but the student {cells[0]} x {cells[1]}; their cells must be of one size."
                )
            attention = class_attention(self.teacher, levels[-2])
            chosen = torch.stack(levels[-self.settings.levels :], dim=2)
            views.memo[key] = (whitened(chosen), attention.float())
        outputs: tuple[Tensor, Tensor] = views.memo[key]
        return outputs

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `tokens`: of the kept cells and the class token."""
        parts = []
        for view, keep in enumerate(views.keep):
            cells = embed_cells(self.student, normalize(views.batch.crops[view], self.settings.mean, self.settings.std))
            chosen = keep.flatten(1).nonzero()[:, 1].view(len(keep), -1)
            aligned = self.alignment(run_tokens(self.student, cells, chosen))
            places = torch.cat([torch.zeros_like(chosen[:, :1]), chosen + 1], dim=1)
            target = self._teacher_outputs(views, view)[0]
            target = target.gather(1, places[..., None, None].expand(-1, -1, *target.shape[2:]))
            parts.append(_distance(aligned, target).mean())
            self._observed = {"features": aligned.detach()[:, 1:, -1].flatten(0, 1)}
        return {"tokens": torch.stack(parts).mean()}

    def predict(self, images: Tensor, keep: Tensor, where: Tensor, views: Views, view: int, rows: Tensor) -> Tensor:
        """Return the aligned levels of cells of composites, which the student sees whole: (m, levels x D)."""
        cells = embed_cells(self.student, normalize(images, self.settings.mean, self.settings.std))
        cells = torch.where(keep[..., None], cells, cells.detach())
        places = where.flatten(1)
        shown = [tokens[:, 1:][places] for tokens in run_tokens(self.student, cells)]
        aligned: Tensor = self.alignment([tokens[None] for tokens in shown])[0]
        return aligned.flatten(1)

    @torch.no_grad()
    def targets(self, views: Views, view: int, rows: Tensor, where: Tensor) -> Tensor:
        """Return the teacher's whitened levels of cells of some images, (m, levels x D)."""
        return self._teacher_outputs(views, view)[0][rows][:, 1:][where.flatten(1)].flatten(1)

    def disagreement(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each cell."""
        return _distance(prediction, target).mean(dim=-1)

    def branches(self) -> dict[str, nn.Module]:
        """Return the student; the teacher is a model already."""
        return {"student": self.student}

    def networks(self) -> list[nn.Module]:
        """Return student and teacher."""
        return [self.student, self.teacher]

    def blocks(self) -> list[nn.Module]:
        """Return what is worth compiling."""
        return [block for network in (self.student, self.teacher) for block in network.blocks]


def _distance(prediction: Tensor, target: Tensor) -> Tensor:
    distance: Tensor = F.smooth_l1_loss(prediction.float(), target, reduction="none")
    scaled: Tensor = LOSS_SCALE * distance
    return scaled
