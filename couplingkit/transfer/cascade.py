"""A detector of torchvision's in, one whose boxes are refined in three stages out (Cai & Vasconcelos, 2018)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import box_iou
from torchvision.ops import boxes as box_ops

__all__ = ["CascadeHeads", "with_cascade"]

# What an object must overlap a box by to be its target, and how finely boxes are corrected, stage by stage.
OVERLAPS = (0.5, 0.6, 0.7)
WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
BETA = 1 / 9
# Of the losses of each stage.
SHARES = (1.0, 0.5, 0.25)


class Stage(nn.Module):
    """One stage: what boxes show (N, D, 7, 7) in, scores of the classes (N, K) and one correction (N, 4) out."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.head = TwoMLPHead(inputs, hidden)
        self.scores, self.correction = nn.Linear(hidden, classes), nn.Linear(hidden, 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and corrections."""
        vectors = self.head(pooled)
        return self.scores(vectors), self.correction(vectors)


class CascadeHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's heads, but that each stage starts from the boxes of the one before."""

    stages: nn.ModuleList
    box_coder: Any

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections and losses, as torchvision's heads do."""
        losses: dict[str, Tensor] = {}
        matched: list[Tensor] = []
        labels: list[Tensor] = []
        goals: list[Tensor] = []
        if self.training:
            assert targets is not None
            proposals, matched, labels, _ = self.select_training_samples(proposals, targets)
            goals = [_boxes_of(target, which) for target, which in zip(targets, matched, strict=True)]
        first, kept_matches, kept_labels = proposals, matched, labels
        boxes, shares = proposals, []
        for number, (stage, weights) in enumerate(zip(self.stages, WEIGHTS, strict=True)):
            coder = BoxCoder(weights)
            if number and self.training:
                assert targets is not None
                labels, goals = _targets(boxes, targets, OVERLAPS[number])
            scores, corrections = stage(self.box_roi_pool(features, boxes, image_shapes))
            if self.training:
                losses |= _stage_losses(scores, corrections, coder.encode(goals, boxes), torch.cat(labels), number)
            shares.append(scores.detach() if self.training else scores)
            moved = coder.decode(corrections.detach() if self.training else corrections, boxes)[:, 0]
            counts = [len(own) for own in boxes]
            boxes = [
                box_ops.clip_boxes_to_image(own, shape)
                for own, shape in zip(moved.split(counts), image_shapes, strict=True)
            ]
        found = [] if self.training else self._found(boxes, shares, image_shapes)
        if self.has_mask():
            self._masks(features, found, image_shapes, losses, (first, kept_matches, kept_labels, targets))
        return found, losses

    def _found(
        self, boxes: list[Tensor], shares: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return detections: boxes of the last stage, scores that are means over the stages."""
        probabilities = torch.stack([F.softmax(scores, dim=-1) for scores in shares]).mean(dim=0)
        kinds = probabilities.shape[1]
        coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        before, self.box_coder = self.box_coder, coder
        try:
            # One box for all classes, where torchvision asks for a correction of each.
            every = probabilities.new_zeros(len(probabilities), 4 * kinds)
            found, scores, labels = self.postprocess_detections(
                probabilities.clamp(min=1e-30).log(), every, boxes, image_shapes
            )
        finally:
            self.box_coder = before
        return [
            {"boxes": box, "scores": score, "labels": label}
            for box, score, label in zip(found, scores, labels, strict=True)
        ]

    def _masks(
        self,
        features: dict[str, Tensor],
        found: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        losses: dict[str, Tensor],
        sampled: tuple[list[Tensor], list[Tensor], list[Tensor], Any],
    ) -> None:
        """Add masks to detections, or their loss on the samples of the first stage."""
        proposals, matched, labels, targets = sampled
        if not self.training:
            boxes = [one["boxes"] for one in found]
            logits = self._mask_logits(features, boxes, image_shapes)
            each = maskrcnn_inference(logits, [one["labels"] for one in found])
            for mask, one in zip(each, found, strict=True):
                one["masks"] = mask
            return
        positive = [torch.where(own > 0)[0] for own in labels]
        boxes = [own[which] for own, which in zip(proposals, positive, strict=True)]
        objects = [own[which] for own, which in zip(matched, positive, strict=True)]
        logits = self._mask_logits(features, boxes, image_shapes)
        losses["loss_mask"] = maskrcnn_loss(
            logits, boxes, [one["masks"] for one in targets], [one["labels"] for one in targets], objects
        )

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        logits: Tensor = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, image_shapes)))
        return logits


def _boxes_of(target: dict[str, Tensor], which: Tensor) -> Tensor:
    """Return the objects' boxes that samples are matched with; of a photo without any, nothing is learned of boxes."""
    boxes = target["boxes"]
    return boxes[which] if len(boxes) else boxes.new_zeros(len(which), 4)


def _targets(
    boxes: list[Tensor], targets: list[dict[str, Tensor]], overlap: float
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the labels of boxes, 0 for background, and the boxes that they are to become."""
    matcher = Matcher(overlap, overlap, allow_low_quality_matches=False)
    labels, goals = [], []
    for own, target in zip(boxes, targets, strict=True):
        if not len(target["boxes"]):
            labels.append(torch.zeros(len(own), dtype=torch.int64, device=own.device))
            goals.append(torch.zeros_like(own))
            continue
        matched = matcher(box_iou(target["boxes"], own))
        which = matched.clamp(min=0)
        labels.append(target["labels"][which] * (matched >= 0))
        goals.append(target["boxes"][which])
    return labels, goals


def _stage_losses(
    scores: Tensor, corrections: Tensor, wanted: tuple[Tensor, ...], labels: Tensor, number: int
) -> dict[str, Tensor]:
    positive = torch.where(labels > 0)[0]
    goal = torch.cat(wanted)
    boxes = F.smooth_l1_loss(corrections[positive], goal[positive], beta=BETA, reduction="sum")
    share = SHARES[number]
    return {
        f"loss_classifier_{number}": share * F.cross_entropy(scores, labels),
        f"loss_box_{number}": share * boxes / max(labels.numel(), 1),
    }


def with_cascade(detector: FasterRCNN, *, classes: int, hidden: int) -> FasterRCNN:
    """Put three stages in the place of a detector's one, in place; its neck, proposals and masks stay."""
    plain = detector.roi_heads
    cells = plain.box_roi_pool.output_size[0]
    inputs = detector.backbone.out_channels * cells**2
    plain.__class__ = CascadeHeads
    plain.stages = nn.ModuleList(Stage(inputs, hidden, classes + 1) for _ in WEIGHTS)
    # What the one stage had would only lie there, without a gradient.
    plain.box_head = plain.box_predictor = None
    return detector
