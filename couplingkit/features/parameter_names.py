"""The parameter names of ResNets, ViTs and Swins as projects write them in, the plain names that timm has out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["FAMILY_MARKERS", "plain_names"]

# A name that ends so shows that a network of the family begins where it does; two each, so that a file that lacks one
# is told which, and not that it holds no network.
FAMILY_MARKERS = {
    "swin": ("layers.0.blocks.0.attn.qkv.weight", "layers.0.blocks.1.attn.qkv.weight"),
    "vit": (
        *("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
        *("blocks.0.0.attn.qkv.weight", "blocks.0.1.attn.qkv.weight"),
    ),
    "resnet": ("layer1.0.conv1.weight", "layer2.0.conv1.weight"),
    "detectron2": ("res2.0.conv1.weight", "res3.0.conv1.weight"),
}
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
        family: resnet, detectron2 (a ResNet under other names), vit or swin.
    """
    if family == "detectron2":
        tensors, family = _from_detectron2(tensors), "resnet"
    elif family == "vit":
        tensors = _vit(tensors)
    elif family == "swin":
        tensors = _swin(tensors)
    pattern = re.compile("|".join(_GRAMMAR[family]))
    return dict(tensors), [name for name in tensors if not pattern.fullmatch(name)]


def _from_detectron2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in tensors.items():
        plain = re.sub(r"^stem\.", "", name)
        plain = re.sub(r"^res(\d+)\.", lambda match: f"layer{int(match[1]) - 1}.", plain)
        plain = re.sub(r"shortcut\.norm\.", "downsample.1.", plain)
        plain = re.sub(r"shortcut\.weight$", "downsample.0.weight", plain)
        plain = re.sub(r"conv(\d)\.norm\.", r"bn\1.", plain)
        renamed[plain] = value
    return renamed


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
