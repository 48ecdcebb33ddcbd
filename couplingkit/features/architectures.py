"""The shapes of a backbone's weights in, the architecture they belong to out, in timm's names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import BackboneError

__all__ = ["Architecture", "position_grid", "recognise"]

# (blocks of the four stages, whether they are bottlenecks)
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# (width, depth) -> size; the number of heads cannot be seen in the weights and is that of the size's ViT everywhere.
VITS = {
    (192, 12): ("tiny", 16),
    (384, 12): ("small", 16),
    (768, 12): ("base", 16),
    (1024, 24): ("large", 16),
    (1280, 32): ("huge", 14),
    (1536, 40): ("giant", 14),
    (1408, 40): ("giant", 16),
}
# Widths, blocks and whether their MLPs are gated, of DINOv3's ViTs.
DINOV3 = {
    (192, 12, False): "tiny",
    (384, 12, False): "small",
    (384, 12, True): "small_plus",
    (768, 12, False): "base",
    (1024, 24, False): "large",
    (1280, 32, True): "huge_plus",
    (4096, 40, True): "7b",
}
SWINS: dict[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
    (192, (2, 2, 18, 2)): "large",
}
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """A network of timm's: its name, and the settings in which it differs from what the name stands for."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def recognise(weights: Weights, family: str, *, source: str, normed: bool = True) -> Architecture:
    """Return the architecture of a network's weights.

    Args:
        weights: plain name -> tensor.
        family: resnet, vit, dinov3 or swin.
        source: where they come from, for the error.
        normed: whether a ViT must have a final norm; networks whose head has the norm have none on their map.

    Raises:
        BackboneError: a weight that decides is missing or of an odd shape, or no known network has such shapes.
    """
    if family == "vit":
        return _vit(weights, source, normed)
    return {"resnet": _resnet, "dinov3": _dinov3, "swin": _swin}[family](weights, source)


def position_grid(weights: Weights) -> int | None:
    """Return the side of the grid of cells that a ViT's position embedding has, if it is a square one."""
    embedding = weights.get("pos_embed")
    if embedding is None or embedding.ndim != 3:
        return None
    registers = weights.get("reg_token")
    with_position = 1 + (registers.shape[1] if registers is not None and registers.ndim == 3 else 0)
    for prefix in (1, 0, with_position):
        side = math.isqrt(max(embedding.shape[1] - prefix, 0))
        if side > 0 and side * side == embedding.shape[1] - prefix:
            return side
    return None


def _unknown(source: str, what: str) -> BackboneError:
    return BackboneError(
        f"the architecture of {source} is not known here: {what}; name it, as ARCH@FILE, where timm has it, or read it "
        "by its project's own code, as hub:CLONE:ENTRY@FILE."
    )


def _shape(weights: Weights, name: str, ndim: int, source: str) -> tuple[int, ...]:
    if name not in weights:
        raise BackboneError(f"{source} lacks {name}, without which no network can be built.")
    shape = tuple(weights[name].shape)
    if len(shape) != ndim:
        raise BackboneError(f"{source} has {name} of shape {shape}, and {ndim} axes were expected.")
    return shape


def _count(weights: Weights, pattern: str) -> int:
    found = [int(match[1]) for name in weights if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _resnet(weights: Weights, source: str) -> Architecture:
    stem = _shape(weights, "conv1.weight", 4, source)
    stages = tuple(_count(weights, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    bottleneck = any(name.endswith("conv3.weight") for name in weights)
    name = RESNETS.get((stages, bottleneck))
    kind = "bottleneck" if bottleneck else "basic"
    if name is None:
        raise _unknown(source, f"a ResNet with {stages} {kind} blocks")
    if stem != (64, 3, 7, 7):
        raise _unknown(source, f"a ResNet whose conv1.weight is {stem}")
    # A wide or grouped network has the same counts; its weights do not fit, and the fit says where.
    return Architecture(name)


def _vit(weights: Weights, source: str, normed: bool) -> Architecture:
    width, channels, patch, across = _shape(weights, "patch_embed.proj.weight", 4, source)
    depth = _count(weights, r"blocks\.(\d+)\.")
    size, usual_patch = VITS.get((width, depth), ("", 0))
    if not size or channels != 3 or patch != across:
        shape = tuple(weights["patch_embed.proj.weight"].shape)
        raise _unknown(source, f"a ViT of {depth} blocks whose patch_embed.proj.weight is {shape}")
    tokens = _shape(weights, "pos_embed", 3, source)[1]
    grid = position_grid(weights)
    if grid is None:
        raise _unknown(source, f"a ViT whose pos_embed has {tokens} tokens, which are no square grid and a class token")
    has_class = "cls_token" in weights
    if not has_class and tokens != grid * grid:
        _shape(weights, "cls_token", 3, source)
    options: dict[str, Any] = {"img_size": grid * patch}
    if not has_class:
        options |= {"class_token": False, "global_pool": "avg", "fc_norm": False}
    if not normed and not {"norm.weight", "norm.bias"} & weights.keys():
        options["final_norm"] = False
    scaled = "blocks.0.ls1.gamma" in weights
    registers = _shape(weights, "reg_token", 3, source)[1] if "reg_token" in weights else 0
    if scaled and patch == 14 and registers in (0, 4):
        return Architecture(f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2", options)
    if (width, patch) == (1408, 16):
        return Architecture("vit_giant_patch16_gap_224", {"num_classes": 0, **options})
    if size == "giant":
        raise _unknown(source, "a ViT of giant size that is no DINOv2")
    if patch != usual_patch:
        options["patch_size"] = patch
    if scaled:
        options["init_values"] = 1e-5
    if registers:
        options["reg_tokens"] = registers
    if has_class and tokens == grid * grid:
        options["no_embed_class"] = True
    if "blocks.0.attn.qkv.bias" not in weights and "blocks.1.attn.qkv.bias" not in weights:
        options["qkv_bias"] = False
    return Architecture(f"vit_{size}_patch{usual_patch}_224", options)


def _dinov3(weights: Weights, source: str) -> Architecture:
    width, channels, patch, across = _shape(weights, "patch_embed.proj.weight", 4, source)
    depth = _count(weights, r"blocks\.(\d+)\.")
    gated = "blocks.0.mlp.w1.weight" in weights
    size = DINOV3.get((width, depth, gated))
    if size is None or (channels, patch, across) != (3, 16, 16):
        raise _unknown(source, f"a DINOv3 of {depth} blocks of width {width}")
    biases = [value for name, value in weights.items() if name.endswith("attn.qkv.bias")]
    # The distilled models keep their biases at 0, and timm's network of the plain name has none.
    biased = "_qkvb" if any(bool(torch.nan_to_num(bias).any()) for bias in biases) else ""
    return Architecture(f"vit_{size}_patch16_dinov3{biased}")


def _swin(weights: Weights, source: str) -> Architecture:
    width, _, patch, _ = _shape(weights, "patch_embed.proj.weight", 4, source)
    depths = tuple(_count(weights, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4))
    size = SWINS.get((width, depths))
    if size is None or patch != 4:
        shape = tuple(weights["patch_embed.proj.weight"].shape)
        raise _unknown(source, f"a Swin of {depths} blocks whose patch_embed.proj.weight is {shape}")
    table = "layers.0.blocks.0.attn.relative_position_bias_table"
    window = (math.isqrt(_shape(weights, table, 2, source)[0]) + 1) // 2
    return Architecture(f"swin_{size}_patch4_window7_224", {} if window == 7 else {"window_size": window})
