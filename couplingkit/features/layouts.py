"""The ways in which projects save their networks, as a table.

Each `Layout` is a row: where the network lies, which branch is the one to measure, and what its images were normalised
with. The rows are tried in order; the first whose network is there decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["HEADS", "HEADS_ASSUMED", "LAYOUTS", "TOPS", "Layout", "Place"]

Place = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """One way in which weights are saved.

    Attributes:
        system: who saves like this.
        branches: name -> places (outer key, prefix); the first branch is the one to measure. A leading `module.`, which
            distributed training adds, counts as absent.
        families: of networks it may hold; () any.
        marks: one of these must be the beginning of a name beside the network, or a top-level key; () needs none.
        headed: whether the network has a classifier of its own; None either.
        needs: names that the network must have.
        leave_out: beginnings of names that are no part of the network.
        spare: whether modules that the network does not know may lie beside it.
        norm_trained: whether the network's final norm was trained.
        heads: width -> number of attention heads, where it is not that of timm's ViT of the size.
        caution: what a reader must know of a file that is read so.
        imagenet: whether images were normalised with ImageNet's mean and std; None where files do not tell.
    """

    system: str
    branches: Mapping[str, tuple[Place, ...]]
    families: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    headed: bool | None = None
    needs: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    spare: bool = False
    norm_trained: bool = True
    imagenet: bool | None = True
    heads: Mapping[int, int] = field(default_factory=dict)
    caution: str = ""


HEADS = ("fc.", "head.", "mask_token", "masked_embed", "decoder_")
TOPS: tuple[Place, ...] = (("", ""), ("state_dict", ""), ("model", ""))


def _pair(first: str, one: Place, second: str, other: Place) -> dict[str, tuple[Place, ...]]:
    return {first: (one,), second: (other,)}


HEADS_ASSUMED = "as many heads as timm's ViT of the size has are assumed, which no weight shows"
_DINO = {
    "teacher": (("teacher", "backbone."),),
    "student": (("student", "backbone."),),
}
_SSL = (
    "a ViT without a classifier is taken for a self-supervised one (ImageNet's mean and std, as many heads as timm's "
    "ViT of the size has): supervised ones may need 0.5, and some projects' small ViTs have other heads"
)
_SATELLITE = (
    "normalised with ImageNet's mean and std, as DINOv3's web images were; its satellite images (sat493m) need "
    "mean 0.430,0.411,0.296 and std 0.213,0.156,0.143"
)
_ENCODERS = _pair("query", ("state_dict", "encoder_q."), "key", ("state_dict", "encoder_k."))
LAYOUTS = (
    Layout(
        "MaskAlign",
        _pair("student", ("model", ""), "teacher", ("model", "dino_model.")),
        ("vit",),
        marks=("distill_heads.", "distill_weights", "clip_model.", "dino_model."),
        leave_out=("distill_heads.", "distill_weights", "clip_model.", "dino_model."),
        norm_trained=False,
    ),
    Layout(
        "PLRC",
        _pair("query", ("state_dict", "encoder_q.enc."), "key", ("state_dict", "encoder_k.enc.")),
        ("resnet",),
        leave_out=("fcs.", "fcs_2."),
        spare=True,
    ),
    Layout("ReSim", _ENCODERS, ("resnet",), marks=("encoder_q.fpn_",), spare=True),
    Layout("MoCo", _ENCODERS, ("resnet",), spare=True),
    Layout(
        "MoCo v3",
        _pair("query", ("state_dict", "base_encoder."), "key", ("state_dict", "momentum_encoder.")),
        ("resnet", "vit"),
        heads={384: 12},
        spare=True,
    ),
    Layout(
        "DenseCL, training file",
        {
            "query": (("state_dict", "backbone."), ("state_dict", "encoder_q.0.")),
            "key": (("state_dict", "encoder_k.0."),),
        },
        ("resnet",),
        marks=("encoder_q.0.", "encoder_k.0."),
    ),
    Layout("I-JEPA", _pair("target", ("target_encoder", ""), "context", ("encoder", "")), ("vit",)),
    Layout("SimSiam", {"": (("state_dict", "encoder."),)}, ("resnet",), marks=("predictor.",), spare=True),
    Layout("Barlow Twins and VICReg", {"": (("model", "backbone."),)}, ("resnet",), marks=("projector.",)),
    Layout("SoCo and PixPro", _pair("online", ("model", "encoder."), "momentum", ("model", "encoder_k.")), ("resnet",)),
    Layout("DINOv2, training file", _DINO, ("vit",), marks=("dino_head.", "ibot_head.", "backbone.blocks.0.0.")),
    Layout(
        "DINOv3, training file",
        {"teacher": (("teacher", "backbone."), ("model_ema", "backbone."))},
        ("dinov3",),
        caution=_SATELLITE,
    ),
    Layout("DINOv3", {"teacher": (("", ""),)}, ("dinov3",), caution=_SATELLITE),
    Layout("iBOT", _DINO, ("vit", "swin"), marks=("backbone.masked_embed",)),
    Layout("DINO", _DINO),
    Layout(
        "detectron2",
        {"query": (("model", ""),)},
        ("detectron2",),
        spare=True,
        caution="taken for a converted self-supervised network (RGB, ImageNet's mean and std, stride in the 3 x 3 "
        "convolution); files of detectron2's own zoo are BGR with other statistics, and would be misread",
    ),
    Layout(
        "DINOv2",
        {"teacher": (("", ""),)},
        ("vit",),
        marks=("mask_token", "register_tokens"),
        headed=False,
        needs=("cls_token", "blocks.0.ls1.gamma"),
    ),
    Layout(
        "flat ViT, as DINO's backbone files",
        {"teacher": TOPS[:1]},
        ("vit",),
        headed=False,
        needs=("cls_token",),
        caution=_SSL,
    ),
    Layout(
        "flat ViT under model, as MAE's files",
        {"": TOPS[2:]},
        ("vit",),
        headed=False,
        needs=("cls_token",),
        caution=_SSL,
    ),
    Layout(
        "flat ViT under state_dict, as iBOT's extracted files",
        {"teacher": TOPS[1:2]},
        ("vit",),
        headed=False,
        needs=("cls_token",),
        caution=_SSL,
    ),
    Layout("flat Swin, as iBOT's extracted files", {"teacher": TOPS}, ("swin",), headed=False),
    Layout("DenseCL, release", {"query": TOPS[1:2]}, ("resnet",), marks=("author",), headed=False),
    Layout(
        "VISSL",
        {"": (("classy_state_dict.base_model.model.trunk", "_feature_blocks."),)},
        ("resnet",),
    ),
    # SwAV and its like: heads and prototypes lie beside the trunk.
    Layout("flat ResNet", {"": TOPS}, ("resnet",), headed=False, spare=True),
    Layout("classifier", {"": TOPS}, ("resnet", "swin"), headed=True),
    Layout("classifier", {"": TOPS}, headed=True, imagenet=None),
    Layout("plain names", {"": TOPS}, imagenet=None),
)
