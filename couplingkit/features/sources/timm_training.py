"""The name of a ViT of timm's in, the network to train out; its patches, and what becomes of them, in two steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.layers import DropPath, Format, build_sincos2d_pos_embed
from timm.models import group_parameters
from torch import Tensor, nn

from ...errors import BackboneError, near
from .base import seeded
from .timm_shapes import known_architectures

__all__ = [
    "class_attention",
    "drop_paths",
    "embed_cells",
    "fix_positions",
    "level_maps",
    "parameter_depths",
    "run_tokens",
    "take_any_size",
    "token_features",
    "token_levels",
    "vit_to_train",
]


def vit_to_train(
    architecture: str, *, seed: int, settings: Mapping[str, Any] | None = None, drop_path: float = 0.0
) -> nn.Module:
    """Build a ViT with random weights that takes any view size its patch divides.

    Args:
        architecture: a `vit_*` of timm's with a class token.
        seed: of the weights.
        settings: of the architecture, as in `ARCH,KEY=VALUE`.
        drop_path: rate of stochastic depth.

    Raises:
        BackboneError: no such architecture, or none with a class token and patches.
    """
    if not timm.is_model(architecture):
        raise BackboneError(f"timm has no architecture {architecture!r}{near(architecture, known_architectures())}.")
    # dynamic_img_size lets one network take crops of several sizes; the weights are those of the plain architecture.
    extra: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": drop_path}
    with seeded(seed, architecture):
        try:
            network: nn.Module = timm.create_model(architecture, pretrained=False, **extra, **dict(settings or {}))
        except (TypeError, RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{architecture} cannot be trained here ({error}); choose a vit_* of timm's."
            ) from error
    whole = all(hasattr(network, name) for name in ("patch_embed", "_pos_embed", "norm_pre", "blocks", "norm"))
    if not whole or getattr(network, "cls_token", None) is None:
        raise BackboneError(f"{architecture} is no ViT with a class token; choose a vit_* of timm's.")
    return network


def parameter_depths(network: Any) -> dict[str, int]:
    """Return in which layer each parameter of a network of timm's lies, 0 the first; a final norm is of the last."""
    if not hasattr(network, "group_matcher"):
        raise BackboneError(
            f"{type(network).__name__} does not say which layers it has (timm's networks do), so they cannot learn at "
            "rates of their own; leave `layer_decay` at 1."
        )
    found: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return found


def fix_positions(network: Any) -> None:
    """Give a ViT with a class token the fixed positions of Vaswani et al. (2017) in two dimensions; they do not learn.

    Raises:
        BackboneError: its width does not divide by four, or it has no positions of its cells.
    """
    held = getattr(network, "pos_embed", None)
    rows, columns = network.patch_embed.grid_size
    if held is None or held.shape[1] != 1 + rows * columns or held.shape[2] % 4:
        raise BackboneError(
            f"{type(network).__name__} cannot have fixed positions: each of its {rows} x {columns} cells "
            "and its class token must have one, of a width that divides by 4."
        )
    positions = build_sincos2d_pos_embed([rows, columns], dim=held.shape[2], interleave_sin_cos=False)
    with torch.no_grad():
        held.zero_()[0, 1:] = positions.to(held)
    held.requires_grad_(False)


def embed_cells(network: Any, images: Tensor) -> Tensor:
    """Return the embedded patches of normalised images (B, 3, H, W): (B, h, w, D), before positions are added."""
    cells: Tensor = network.patch_embed(images)
    return cells


def token_features(network: Any, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Run embedded patches (B, h, w, D) through the rest of a ViT.

    Returns:
        The class token's feature (B, D), and those of the cells (B, h, w, D), after the final norm.
    """
    tokens = network.norm_pre(network._pos_embed(cells))
    for block in network.blocks:
        tokens = block(tokens)
    tokens = network.norm(tokens)
    batch, rows, columns, _ = cells.shape
    return tokens[:, 0], tokens[:, network.num_prefix_tokens :].reshape(batch, rows, columns, -1)


def token_levels(network: Any, images: Tensor) -> list[Tensor]:
    """Return the embedded tokens of normalised images, then what each block of a ViT gives: (B, 1 + h x w, D) each.

    The class token is the first of each.

    Raises:
        BackboneError: it has other prefix tokens than a class token.
    """
    if network.num_prefix_tokens != 1 or getattr(network, "cls_token", None) is None:
        raise BackboneError(
            f"{type(network).__name__} has {network.num_prefix_tokens} prefix tokens, not a class token."
        )
    levels = [network.norm_pre(network._pos_embed(network.patch_embed(images)))]
    for block in network.blocks:
        levels.append(block(levels[-1]))
    return levels


def run_tokens(network: Any, cells: Tensor, chosen: Tensor | None = None) -> list[Tensor]:
    """Run embedded patches through the blocks of a ViT, all of them or some.

    Args:
        network: the ViT.
        cells: embedded patches (B, h, w, D).
        chosen: int64 (B, n), row-major cells; the others are left out, which saves their cost.

    Returns:
        What each block gives, class token first: (B, 1 + n, D).
    """
    tokens = network._pos_embed(cells)
    if chosen is not None:
        places = torch.cat([torch.zeros_like(chosen[:, :1]), chosen + 1], dim=1)
        tokens = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
    levels = [network.norm_pre(tokens)]
    for block in network.blocks:
        levels.append(block(levels[-1]))
    return levels[1:]


def class_attention(network: Any, before_last: Tensor) -> Tensor:
    """Return how much the class token looks at each cell in a ViT's last block, a mean over heads: (B, h x w).

    Args:
        network: the ViT.
        before_last: what the last block but one gives, (B, 1 + h x w, D).

    Raises:
        BackboneError: its attention has no common projection of queries and keys.
    """
    block = network.blocks[-1]
    attention = block.attn
    if not hasattr(attention, "qkv") or not hasattr(attention, "num_heads"):
        raise BackboneError(f"{type(network).__name__} hides its attention; choose a plain vit_*.")
    batch, count, _ = before_last.shape
    projected = attention.qkv(block.norm1(before_last)).reshape(batch, count, 3, attention.num_heads, -1)
    query, key, _ = projected.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query)[:, :, :1], attention.k_norm(key)
    shares = (query @ key.transpose(-2, -1) * attention.scale).softmax(dim=-1)
    found: Tensor = shares[:, :, 0, 1:].mean(dim=1)
    return found


def level_maps(network: Any, images: Tensor, levels: Sequence[int], *, norm: bool = False) -> list[Tensor]:
    """Return the maps (B, D, h, w) of some blocks or stages of a network of timm's, with their gradients.

    Args:
        network: of timm's.
        images: normalised, (B, 3, H, W).
        levels: from the first to the last.
        norm: whether a final norm is applied to each.

    Raises:
        BackboneError: it has no maps of its levels.
    """
    if not hasattr(network, "forward_intermediates"):
        raise BackboneError(
            f"{type(network).__name__} gives no maps of its levels; networks of timm's, or files that are read as one, "
            "can be fine-tuned."
        )
    maps: list[Tensor] = network.forward_intermediates(
        images, indices=list(levels), norm=norm, output_fmt="NCHW", intermediates_only=True, stop_early=True
    )
    return maps


def take_any_size(network: Any) -> None:
    """Let a ViT take images of any size that its patch divides, in place; its positions are resampled to each.

    Networks without positions are left as they are.
    """
    if getattr(network, "pos_embed", None) is None or getattr(network, "patch_embed", None) is None:
        return
    if not hasattr(network, "dynamic_img_size"):
        raise BackboneError(
            f"{type(network).__name__} takes images of one size only; networks without positions, and timm's vit_*, "
            "can be fine-tuned on photos of several sizes."
        )
    # What timm does when it builds with dynamic_img_size; no weight is another.
    network.dynamic_img_size = True
    network.patch_embed.strict_img_size = False
    network.patch_embed.flatten = False
    network.patch_embed.output_fmt = Format.NHWC


def drop_paths(network: Any, rate: float) -> None:
    """Give a ViT's blocks stochastic depth, in place: from 0 in the first to `rate` in the last."""
    blocks = list(getattr(network, "blocks", ()))
    if rate and not (blocks and all(hasattr(block, "drop_path1") for block in blocks)):
        raise BackboneError(f"{type(network).__name__} has no blocks that can be left out; set `drop_path` to 0.")
    for place, block in enumerate(blocks if rate else ()):
        own = rate * place / max(len(blocks) - 1, 1)
        for name in ("drop_path1", "drop_path2"):
            if hasattr(block, name):
                setattr(block, name, DropPath(own) if own else nn.Identity())
