"""The name of a ViT of timm's in, the network to train out; its patches, and what becomes of them, in two steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from ...errors import BackboneError, near
from ..opened import seeded
from .timm_shapes import known_architectures

__all__ = ["embed_cells", "token_features", "vit_to_train"]


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
