"""The parameter names of ResNets, ViTs and Swins as projects write them in, the plain names that timm has out.

Every project's way of naming is a *dialect* of one of the families; `DIALECTS` has them, with what each renames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = ["DIALECTS", "FAMILY_MARKERS", "SPARE", "Dialect", "family_of", "plain_names"]


@dataclass(frozen=True)
class Dialect:
    """Other names for a family's weights.

    Attributes:
        family: resnet, vit, swin; or one that timm's own conversion reads, which is not renamed here.
        renames: (pattern, replacement) of regular expressions, one after another on each name.
    """

    family: str
    renames: tuple[tuple[str, str], ...] = ()


# A name that ends so shows that a network of the family begins where it does; two each, so that a file that lacks one
# is told which, and not that it holds no network.
FAMILY_MARKERS = {
    # Told by more than its blocks, and so it comes first.
    "dinov3": ("storage_tokens",),
    "swin": ("layers.0.blocks.0.attn.qkv.weight", "layers.0.blocks.1.attn.qkv.weight"),
    "vit": (
        *("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
        *("blocks.0.0.attn.qkv.weight", "blocks.0.1.attn.qkv.weight"),
    ),
    "resnet": ("layer1.0.conv1.weight", "layer2.0.conv1.weight"),
    "detectron2": ("res2.0.conv1.weight", "res3.0.conv1.weight"),
    "sequential": ("4.0.conv1.weight", "5.0.conv1.weight"),
    "mmpretrain": ("layers.0.attn.qkv.weight", "layers.1.attn.qkv.weight"),
}
DIALECTS = {
    "detectron2": Dialect(
        "resnet",
        (
            (r"^stem\.", ""),
            *((rf"^res{stage + 1}\.", f"layer{stage}.") for stage in (1, 2, 3, 4)),
            (r"shortcut\.norm\.", "downsample.1."),
            (r"shortcut\.weight$", "downsample.0.weight"),
            (r"conv(\d)\.norm\.", r"bn\1."),
        ),
    ),
    # nn.Sequential(*resnet.children()), as lightly's examples and many others cut a ResNet's head off.
    "sequential": Dialect(
        "resnet",
        ((r"^0\.", "conv1."), (r"^1\.", "bn1."), *((rf"^{stage + 3}\.", f"layer{stage}.") for stage in (1, 2, 3, 4))),
    ),
    # mmpretrain, and mmselfsup before it.
    "mmpretrain": Dialect(
        "vit",
        (
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^layers\.(\d+)\.", r"blocks.\1."),
            (r"^(ln1|norm1)\.", "norm."),
            (r"\.ln([12])\.", r".norm\1."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"\.attn\.gamma1\.weight$", ".ls1.gamma"),
            (r"\.ffn\.gamma2\.weight$", ".ls2.gamma"),
        ),
    ),
    "dinov3": Dialect("dinov3"),
}
# The first words of what stands beside a trunk and gives no feature: heads, decoders, queues.
_HEAD_WORDS = (
    "head", "heads", "fc", "classifier", "projector", "projectors", "projection", "projections", "predictor",
    "prediction", "prototype", "prototypes", "decoder", "neck", "queue", "logit_scale", "criterion", "loss",
)  # fmt: skip
SPARE = re.compile(rf"(\w+_)?({'|'.join(_HEAD_WORDS)})(_\w+|\d+)?(\..*)?|mask_token|masked_embed")
_AFFINE = r"(weight|bias)"
_BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_GRAMMAR = {
    "resnet": (
        r"conv1\.weight",
        rf"bn1\.{_BN}",
        rf"layer[1-4]\.\d+\.(conv[123]\.weight|bn[123]\.{_BN}|downsample\.0\.weight|downsample\.1\.{_BN})",
    ),
    "vit": (
        r"(cls_token|pos_embed|reg_token)",
        rf"patch_embed\.proj\.{_AFFINE}",
        rf"blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{_AFFINE}",
        r"blocks\.\d+\.ls[12]\.gamma",
        rf"norm\.{_AFFINE}",
    ),
    "swin": (
        rf"patch_embed\.(proj|norm)\.{_AFFINE}",
        rf"layers\.\d+\.blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{_AFFINE}",
        r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table",
        rf"layers\.\d+\.downsample\.(reduction\.weight|norm\.{_AFFINE})",
        rf"norm\.{_AFFINE}",
    ),
}


def plain_names(tensors: Mapping[str, Tensor], family: str) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights under plain names, and the names among them that the family does not have.

    Args:
        tensors: of one network, prefix gone.
        family: resnet, vit, swin, or one of the `DIALECTS`.
    """
    if family in DIALECTS:
        dialect = DIALECTS[family]
        if dialect.family not in _GRAMMAR:
            return dict(tensors), []
        tensors, family = {_renamed(name, dialect): value for name, value in tensors.items()}, dialect.family
    if family == "vit":
        tensors = _vit(tensors)
    elif family == "swin":
        tensors = _swin(tensors)
    pattern = re.compile("|".join(_GRAMMAR[family]))
    return dict(tensors), [name for name in tensors if not pattern.fullmatch(name)]


def family_of(dialect: str) -> str:
    """Return the family that a dialect, or a family, stands for.

    >>> family_of("detectron2"), family_of("vit")
    ('resnet', 'vit')
    """
    return DIALECTS[dialect].family if dialect in DIALECTS else dialect


def _renamed(name: str, dialect: Dialect) -> str:
    for pattern, replacement in dialect.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _vit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 saves blocks in chunks, calls SwiGLU's layers w12 and w3, and gives registers no position of their own."""
    renamed = {}
    for name, value in tensors.items():
        plain = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)
        plain = plain.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        renamed[plain] = value
    position = renamed.get("pos_embed")
    if "register_tokens" in renamed and "cls_token" in renamed and position is not None and position.ndim == 3:
        renamed["reg_token"] = renamed.pop("register_tokens")
        renamed["cls_token"] = renamed["cls_token"] + position[:, :1]
        renamed["pos_embed"] = position[:, 1:]
    return renamed


def _swin(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original puts the merging of patches at the end of a stage, timm at the beginning of the next."""
    kept = {
        name: value for name, value in tensors.items() if not name.endswith(("attn_mask", "relative_position_index"))
    }
    if not any(name.startswith("layers.0.downsample.") for name in kept):
        return kept
    return {
        re.sub(r"^layers\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample.", name): value
        for name, value in kept.items()
    }
