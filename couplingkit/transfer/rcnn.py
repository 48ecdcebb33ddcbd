"""A pretrained network and a recipe's head in, a detector of torchvision's out; a batch in, its losses out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from ..errors import BackboneError
from ..features.names import RGB
from ..features.speeding import repeated_blocks
from ..streams import Stream
from ..training.method import full_precision
from ..training.objective import Objective
from .cascade import with_cascade
from .pyramid import PyramidBackbone, pyramid_backbone
from .settings import BackboneUse, DetectHead, DetectPhotos

__all__ = ["DetectorObjective", "build_detector"]

RATIOS = (0.5, 1.0, 2.0)
# Of the one map of C4, as detectron2 has it.
C4_ANCHORS = (32, 64, 128, 256, 512)
MASK_CELLS, BOX_CELLS, C4_CELLS = 14, 7, 14
MASK_LAYERS = 4


class DrawnSides(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's resizing, but that the length of each photo's shorter side in training is drawn by who reads it."""

    given: Sequence[int] = ()
    longest = 1333
    max_size: int

    def torch_choice(self, k: list[int]) -> int:
        """Return the next of the given lengths; the first known one where none is given."""
        if not self.given:
            return k[0]
        first, *self.given = self.given
        return int(first)

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return an image and its objects at the size that they are shown in."""
        longest = self.max_size
        self.max_size = self.longest if self.training else longest
        try:
            found: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        finally:
            self.max_size = longest
        return found


class LastStage(nn.Module):
    """The last stage of a ResNet with one more batch norm: boxes' features (N, D, 14, 14) in, vectors out."""

    def __init__(self, stage: nn.Module, channels: int):
        super().__init__()
        self.stage, self.norm = stage, nn.BatchNorm2d(channels)

    def forward(self, boxes: Tensor) -> Tensor:
        """Return (N, D')."""
        found: Tensor = self.norm(self.stage(boxes)).mean(dim=(2, 3))
        return found


def build_detector(
    network: nn.Module,
    *,
    normalisation: tuple[RGB, RGB],
    classes: int,
    use: BackboneUse,
    head: DetectHead,
    photos: DetectPhotos,
    seed: int,
    precision: str = "float32",
) -> FasterRCNN:
    """Return a detector on a network: torchvision's Faster or Mask R-CNN with the neck and heads of a recipe.

    Args:
        network: of timm's; its weights are the detector's, and learn unless they are frozen.
        normalisation: mean and std of its images.
        classes: of objects, without the background.
        use, head, photos: of the recipe.
        seed: of the weights that are new.
        precision: of the maps; boxes are float32 in any case.

    Raises:
        BackboneError: the neck is none for this network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Stream(seed).child("weights", "head").torch_seed())
        backbone = pyramid_backbone(network, use, head, precision)
        return _built(backbone, normalisation, classes, head, photos)


def _built(
    backbone: PyramidBackbone,
    normalisation: tuple[RGB, RGB],
    classes: int,
    head: DetectHead,
    photos: DetectPhotos,
) -> FasterRCNN:
    strides = backbone.strides
    sides = (C4_ANCHORS,) if head.neck == "c4" else tuple((round(head.anchor * stride),) for stride in strides)
    # Before NMS, in training and after it: of each map of a pyramid, or of the one map that has all.
    before = (12, 6) if head.neck == "c4" else (2, 1)
    options: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator(sides, (RATIOS,) * len(sides)),
        "rpn_pre_nms_top_n_train": before[0] * head.proposals,
        "rpn_pre_nms_top_n_test": before[1] * head.proposals,
        "rpn_post_nms_top_n_train": 2 * head.proposals,
        "rpn_post_nms_top_n_test": head.proposals,
        "box_batch_size_per_image": head.samples,
        "image_mean": list(normalisation[0]),
        "image_std": list(normalisation[1]),
        "min_size": photos.test_side,
        "max_size": photos.test_longest,
        "size_divisible": backbone.divisor,
        "box_roi_pool": _pool(backbone, head, C4_CELLS if head.neck == "c4" else BOX_CELLS),
    }
    if head.neck == "c4":
        stage, width = _last_stage(backbone.reader.network)
        options["box_head"] = LastStage(stage, width)
    else:
        width = head.hidden
        options["box_head"] = TwoMLPHead(backbone.out_channels * BOX_CELLS**2, width)
    options["box_predictor"] = FastRCNNPredictor(width, classes + 1)
    detector: FasterRCNN
    if head.masks:
        options["mask_roi_pool"] = _pool(backbone, head, MASK_CELLS)
        width = head.mask_channels
        options["mask_head"] = MaskRCNNHeads(backbone.out_channels, (width,) * MASK_LAYERS, dilation=1)
        options["mask_predictor"] = MaskRCNNPredictor(width, width, classes + 1)
        detector = MaskRCNN(backbone, **options)
    else:
        detector = FasterRCNN(backbone, **options)
    _draw_sides(detector, photos, backbone.divisor)
    return with_cascade(detector, classes=classes, hidden=head.hidden) if head.cascade else detector


def _draw_sides(detector: FasterRCNN, photos: DetectPhotos, divisor: int) -> None:
    plain = detector.transform
    drawn = DrawnSides(plain.min_size, plain.max_size, plain.image_mean, plain.image_std, size_divisible=divisor)
    drawn.longest = photos.longest
    detector.transform = drawn


def _pool(backbone: PyramidBackbone, head: DetectHead, cells: int) -> MultiScaleRoIAlign:
    """Return RoIAlign over the maps of a pyramid, whose strides are said, and not told from the first photo's size."""
    strides = backbone.strides if head.neck == "c4" else backbone.strides[:-1]
    pool = MultiScaleRoIAlign([str(place) for place in range(len(strides))], cells, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    # Levels are counted from stride 16, which has the boxes of `canonical_px`.
    finest = round(math.log2(strides[0]))
    pool.map_levels = initLevelMapper(finest, finest + len(strides) - 1, canonical_scale=head.canonical_px)
    return pool


def _last_stage(network: Any) -> tuple[nn.Module, int]:
    stage = getattr(network, "layer4", None)
    if stage is None:
        raise BackboneError(f"head.neck 'c4' is for ResNets, and {type(network).__name__} is none; take fpn.")
    return stage, int(network.feature_info[-1]["num_chs"])


class DetectorObjective(Objective):
    """A detector, as the loop trains it: shown images, their objects and the sides that they are to have.

    Args:
        detector: of `build_detector`.
        synchronised: whether batch normalisation is over the images of all GPUs.
    """

    def __init__(self, detector: FasterRCNN, *, synchronised: bool = False):
        super().__init__()
        self.detector, self.synchronised_norms = detector, synchronised

    def views(self, batch: Any) -> Any:
        """Return the batch as it is."""
        return batch

    def forward(self, views: tuple[list[Tensor], list[dict[str, Tensor]], list[int]]) -> dict[str, Tensor]:
        """Return the losses of torchvision's detector; images are float32 (3, H, W) in [0, 1]."""
        images, targets, sides = views
        self.detector.transform.given = list(sides)
        # The backbone itself goes down in precision; boxes must not.
        with full_precision(images[0]):
            losses: dict[str, Tensor] = self.detector(images, targets)
        return losses

    def train(self, mode: bool = True) -> DetectorObjective:
        """Change the mode of all but what is to stay as it is: a stage that is a head, too, is still the network's."""
        super().train(mode)
        self.detector.backbone.reader.train(mode)
        return self

    def branches(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"backbone": self.detector.backbone.reader.network}

    def blocks(self) -> list[nn.Module]:
        """Return the backbone's blocks."""
        return repeated_blocks(self.branches()["backbone"])
