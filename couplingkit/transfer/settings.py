"""The tables of a fine-tuning recipe that the trainer does not have: what is built on a backbone, and how it sees."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ArgumentError, check_range

__all__ = ["BackboneUse", "DetectHead", "DetectPhotos", "SegmentHead", "SegmentPhotos"]

NECKS = ("fpn", "simple", "blocks", "c4")


@dataclass(frozen=True)
class BackboneUse:
    """What becomes of the pretrained network.

    Attributes:
        frozen: whether its weights and statistics stay as they are.
        levels: blocks or stages that are read; none stands for what the head reads usually.
        norm: whether the final norm of a ViT is applied to what is read.
        drop_path: rate of stochastic depth.
        statistics: whether running statistics of batch normalisation follow the batches: `train`, or `held`.
        synchronised: whether batch normalisation is over the images of all GPUs.
    """

    frozen: bool = False
    levels: tuple[int, ...] = ()
    norm: bool = True
    drop_path: float = 0.0
    statistics: str = "train"
    synchronised: bool = True

    def __post_init__(self) -> None:
        check_range("drop_path", self.drop_path, 0, 0.9)
        if self.statistics not in ("train", "held"):
            raise ArgumentError(f"backbone.statistics must be train or held, not {self.statistics!r}.")
        if list(self.levels) != sorted(set(self.levels)) or any(level < 0 for level in self.levels):
            raise ArgumentError(f"backbone.levels must ascend from 0 or later, but are {list(self.levels)}.")


@dataclass(frozen=True)
class DetectHead:
    """A detector of the R-CNN family.

    Attributes:
        neck: `fpn` over the stages of a CNN (Lin et al., 2017); `simple`, a pyramid of a ViT's last map (Li et al.,
            2022); `blocks`, an FPN over four of its blocks, brought to four sizes (El-Nouby et al., 2021); `c4`, one
            map, and the last stage of a ResNet as the head of the boxes (He et al., 2020, with one more batch norm).
        scales: of a pyramid's maps to those of the network, the finest first.
        channels: of the neck.
        neck_norm: whether the neck `fpn` has batch norm behind its convolutions.
        hidden: width of the fully connected head of the boxes.
        cascade: whether boxes are refined in three stages (Cai & Vasconcelos, 2018).
        masks: whether there is a head for masks.
        anchor: side of an anchor in cells.
        canonical_px: side of a box whose features are taken at stride 16.
        proposals: of a photo that the boxes' head is shown.
        samples: of them that it learns from.
        mask_channels: of the head for masks.
    """

    neck: str = "fpn"
    scales: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5)
    channels: int = 256
    neck_norm: bool = True
    hidden: int = 1024
    cascade: bool = False
    masks: bool = True
    anchor: float = 8.0
    canonical_px: int = 224
    proposals: int = 1000
    samples: int = 512
    mask_channels: int = 256

    def __post_init__(self) -> None:
        if self.neck not in NECKS:
            raise ArgumentError(f"head.neck must be one of {', '.join(NECKS)}, not {self.neck!r}.")
        if self.neck == "c4" and (self.masks or self.cascade):
            raise ArgumentError("head.neck c4 finds boxes in one stage here; set head.masks and head.cascade to false.")
        if not self.scales or any(scale not in (4, 2, 1, 0.5) for scale in self.scales):
            raise ArgumentError(f"head.scales must be some of 4, 2, 1 and 0.5, not {list(self.scales)}.")
        if self.neck == "blocks" and tuple(self.scales) != (4, 2, 1, 0.5):
            raise ArgumentError("head.scales of the neck `blocks` are 4, 2, 1 and 0.5, one for each block.")
        for name in ("channels", "hidden", "proposals", "canonical_px", "samples", "mask_channels"):
            check_range(name, getattr(self, name), 1, 10_000)
        check_range("anchor", self.anchor, 0.5, 64)


@dataclass(frozen=True)
class DetectPhotos:
    """How photos are shown to a detector.

    Attributes:
        sides: lengths of the shorter side in training, px, one of which is drawn for each photo.
        longest: length that the longer side has at most.
        test_side, test_longest: of the shorter and of the longer side when it is scored.
        flip: probability that a photo is mirrored in training.
        grouped: whether a batch has photos that are all upright, or all not.
    """

    sides: tuple[int, ...] = (800,)
    longest: int = 1333
    test_side: int = 800
    test_longest: int = 1333
    flip: float = 0.5
    grouped: bool = True

    def __post_init__(self) -> None:
        if not self.sides:
            raise ArgumentError("photos.sides must be one length or more, but there is none.")
        for name, value in (*(("sides", side) for side in self.sides), ("longest", self.longest)):
            check_range(name, value, 32, 8192)
        for name in ("test_side", "test_longest"):
            check_range(name, getattr(self, name), 32, 8192)
        check_range("flip", self.flip, 0, 1)


@dataclass(frozen=True)
class SegmentHead:
    """UperNet (Xiao et al., 2018) on four maps of a backbone, with a convolutional head beside it while it learns.

    Attributes:
        neck: `blocks` of a ViT brought to four sizes, or `stages` of a CNN as they are.
        channels: of UperNet.
        auxiliary: weight of the loss of the other head, on the third map; 0 for none.
        auxiliary_channels: of it.
        dropout: of what classifies.
    """

    neck: str = "blocks"
    channels: int = 512
    auxiliary: float = 0.4
    auxiliary_channels: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.neck not in ("blocks", "stages"):
            raise ArgumentError(f"head.neck must be blocks or stages, not {self.neck!r}.")
        for name in ("channels", "auxiliary_channels"):
            check_range(name, getattr(self, name), 1, 10_000)
        check_range("auxiliary", self.auxiliary, 0, 10)
        check_range("dropout", self.dropout, 0, 0.9)


@dataclass(frozen=True)
class SegmentPhotos:
    """How photos are shown to a segmenter.

    Attributes:
        side: length of the shorter side that scales are of, px; 0 leaves photos at their own size.
        scale: between which a factor is drawn in training.
        crop: side of the square that is cut out of it.
        most_of_a_class: share of a crop that one class may have; another crop is drawn up to ten times.
        colours: whether brightness, contrast, saturation and hue are drawn (as PASCAL's segmenters have it).
        flip: probability that a photo is mirrored in training.
        window, step: side of the windows that a photo is scored in, and how far each lies from the one before.
    """

    side: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    crop: int = 512
    most_of_a_class: float = 0.75
    colours: bool = True
    flip: float = 0.5
    window: int = 512
    step: int = 341

    def __post_init__(self) -> None:
        check_range("side", self.side, 0, 8192)
        for name in ("crop", "window", "step"):
            check_range(name, getattr(self, name), 16, 8192)
        low, high = self.scale
        check_range("scale", low, 0.05, 20)
        check_range("scale", high, low, 20)
        check_range("flip", self.flip, 0, 1)
        check_range("most_of_a_class", self.most_of_a_class, 0.01, 1)
        if self.step > self.window:
            raise ArgumentError(f"photos.step must be at most photos.window ({self.window}), but is {self.step}.")
