"""The name of a convolutional network of timm's in, the network to train out, whose last map is all that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ...errors import BackboneError, near
from .base import seeded
from .timm_shapes import known_architectures

__all__ = ["convnet_to_train", "last_map", "last_stride_px", "stage_channels", "stage_maps", "stages_of"]

STAGES = 4


def convnet_to_train(architecture: str, *, seed: int, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network with random weights whose features are a map, like a ResNet.

    A ResNet's blocks begin with their whole output, as torchvision builds them and the originals train them (timm's
    begin with none of it, and look no further than the first layers in the first steps). Maps lie channels last in
    memory, which is how convolutions are fast.

    Args:
        architecture: of timm's; a ResNet's weights have torchvision's names.
        seed: of the weights.
        settings: of the architecture, as in `ARCH,KEY=VALUE`.

    Raises:
        BackboneError: no such architecture, or its features are no map (B, D, h, w).
    """
    if not timm.is_model(architecture):
        raise BackboneError(f"timm has no architecture {architecture!r}{near(architecture, known_architectures())}.")
    options: dict[str, Any] = {"zero_init_last": False} if _is_resnet(architecture) else {}
    options |= dict(settings or {})
    with seeded(seed, architecture):
        try:
            network: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **options)
            with torch.no_grad():
                shape = network.eval().forward_features(torch.zeros(1, 3, 64, 64)).shape
        except (TypeError, RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"{architecture} cannot be trained here ({error}); choose a ResNet of timm's."
            ) from error
    if len(shape) != 4 or shape[1] != network.num_features:
        raise BackboneError(
            f"{architecture} gives features of shape {tuple(shape)}, no map; choose a ResNet of timm's."
        )
    built: nn.Module = network.train().to(memory_format=torch.channels_last)
    return built


def _is_resnet(architecture: str) -> bool:
    return bool(timm.model_entrypoint(architecture).__module__ == "timm.models.resnet")


def last_map(network: Any, images: Tensor) -> Tensor:
    """Return the last map of normalised images (B, 3, H, W): (B, D, h, w)."""
    found: Tensor = network.forward_features(images.contiguous(memory_format=torch.channels_last))
    return found


def stage_maps(network: Any, images: Tensor) -> list[Tensor]:
    """Return the maps of the four stages for normalised images (B, 3, H, W), finest first."""
    shown = images.contiguous(memory_format=torch.channels_last)
    found: list[Tensor] = network.forward_intermediates(shown, intermediates_only=True)
    return found[-STAGES:]


def stage_channels(network: Any) -> list[int]:
    """Return the channels of the four stages."""
    return [int(stage["num_chs"]) for stage in network.feature_info[-STAGES:]]


def last_stride_px(network: Any) -> int:
    """Return px per cell of the last map."""
    return int(network.feature_info[-1]["reduction"])


def stages_of(network: nn.Module) -> list[nn.Module]:
    """Return the stages themselves."""
    return [module for name, module in network.named_children() if name.startswith(("layer", "stages", "blocks"))]
