"""The protocol of a backbone, and the adapter that makes any network keep it: pixels in, a grid of vectors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import BackboneError, first_line
from ..html_text import table_html
from ..pixels import normalize
from ..words import rgb_numbers
from .hardware import resolve_precision, whole_float32
from .names import IMAGENET_MEAN, IMAGENET_STD, RGB
from .passes import Passes

__all__ = [
    "RUN_ERRORS",
    "Declaration",
    "DenseBackbone",
    "NetworkBackbone",
    "evaluating",
    "has_tokens",
    "tiles",
]

# What torch and the networks raise on an input that they cannot take.
RUN_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, IndexError)
EVEN_SIDE = 256
PATCH = 14


@runtime_checkable
class DenseBackbone(Protocol):
    """A frozen network, seen as a map from pixels to a grid of vectors.

    Attributes:
        name: what tables call it.
        channels: D of the map.
        stride_px: px per cell.
        size_px: height and width of the images it is shown, px.
        mean: sRGB colour in [0, 1] that its normalisation sends to 0.
    """

    name: str
    channels: int
    stride_px: int
    size_px: tuple[int, int]
    mean: RGB

    @property
    def device(self) -> torch.device:
        """Where the images must be."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Map float32 (B, 3, H, W) in [0, 1] to float32 (B, D, h, w)."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Return what a reader needs to know to read the same features again, as JSON values."""
        ...


@dataclass(frozen=True)
class Declaration:
    """What is known of a network besides what it gives out.

    Attributes:
        stride_px: px per cell; it is checked against the map, and measured where it is not known.
        facts: what else `provenance` is to say, as JSON values.
    """

    stride_px: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Let a network be read as it is evaluated, and put every module back into the mode that it was in.

    Nothing else of it changes: no gradient is made, no running statistic moves, and it stays on its device.
    """
    trained = [module for module in network.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in trained:
            module.training = True


class NetworkBackbone:
    """Any torch network as a `DenseBackbone`: normalises, runs without gradient, and measures what comes out.

    The network stays as it is: on its own device, in its own mode, with its gradients and running statistics.

    Args:
        network: may be one that is being trained; it is read as it is evaluated.
        read: (network, normalised images (B, 3, H, W)) -> features (B, D, h, w).
        name: what tables call it.
        size_px: of its input, px: one side, or (height, width).
        mean: of its normalisation, sRGB in [0, 1].
        std: of its normalisation.
        precision: of the forward pass; the features are float32 in any case.
        declared: what is known of it besides.

    Raises:
        BackboneError: what comes out is no map of feature vectors whose cells tile the input.

    >>> network = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
    >>> backbone = NetworkBackbone(network, lambda net, x: net(x), name="patches", size_px=64)
    >>> backbone.channels, backbone.stride_px, backbone(torch.zeros(2, 3, 64, 96)).shape
    (8, 4, torch.Size([2, 8, 16, 24]))
    """

    def __init__(
        self,
        network: nn.Module,
        read: Callable[[Any, Tensor], Tensor],
        *,
        name: str,
        size_px: int | tuple[int, int] = 224,
        mean: RGB = IMAGENET_MEAN,
        std: RGB = IMAGENET_STD,
        precision: str = "float32",
        declared: Declaration = Declaration(),
    ):
        self.name = name
        self.size_px = (size_px, size_px) if isinstance(size_px, int) else size_px
        self.mean = rgb_numbers(mean, "mean", 0.0, 1.0)
        self.std = rgb_numbers(std, "std", 1e-3, 10.0)
        self.network = network
        self.precision = resolve_precision(precision, self.device)
        self.read = read
        self.passes = Passes()
        self.facts = dict(declared.facts)
        height, width = self.size_px
        try:
            features = self(torch.full((1, 3, height, width), 0.5, device=self.device))
        except RUN_ERRORS as error:
            if self.facts.get("compiled"):
                lacking = ", or install a C++ compiler" if "compiler" in str(error).lower() else ""
                raise BackboneError(
                    f"{name} cannot be read compiled ({first_line(error)}); leave `compile` away{lacking}."
                ) from error
            raise BackboneError(f"{name} cannot read an image of {height} x {width} px: {error}") from error
        self.channels = features.shape[1]
        self.stride_px = self._stride((features.shape[-2], features.shape[-1]), declared.stride_px)

    def __repr__(self) -> str:
        height, width = self.size_px
        return (
            f"<{self.name}: {height} x {width} px, stride {self.stride_px} px, {self.channels} channels, {self.device}>"
        )

    def _repr_html_(self) -> str:
        facts = {key: value for key, value in self.provenance().items() if isinstance(value, str | int | float | list)}
        return table_html(["backbone", ""], [[key, str(value)] for key, value in facts.items()], caption=self.name)

    @property
    def device(self) -> torch.device:
        """Where the network is, which may be moved; images must be there."""
        held = next(chain(self.network.parameters(), self.network.buffers()), None)
        return torch.device("cpu") if held is None else held.device

    def _stride(self, grid: tuple[int, int], declared: int | None) -> int:
        """Return px per cell: the declared one where the map agrees with it, else as measured."""
        if declared and tiles(grid, self.size_px, declared):
            return declared
        measured = self._measured_stride(grid)
        if measured and tiles(grid, self.size_px, measured):
            return measured
        (rows, columns), (height, width) = grid, self.size_px
        raise BackboneError(
            f"{self.name} gives a map of {rows} x {columns} cells for an image of {height} x {width} px, which are no "
            "whole px per cell, the same along both sides; choose an `image_size` that its stride divides, or another "
            "`layer`."
        )

    def _measured_stride(self, grid: tuple[int, int]) -> int | None:
        # 240 px in 8 cells may be a stride of 30, or one of 32 rounded up; at 256 px all usual strides come out even.
        # A network that takes its own size only (a ViT) does not round.
        try:
            rows = self(torch.full((1, 3, EVEN_SIDE, EVEN_SIDE), 0.5, device=self.device)).shape[-2]
        except (BackboneError, *RUN_ERRORS):
            rows, side = grid[0], self.size_px[0]
        else:
            side = EVEN_SIDE
        return side // rows if rows and side % rows == 0 else None

    def run(self, read: Callable[[Any, Tensor], Any], images: Tensor, *, normalized: bool = False) -> Any:
        """Return what `read` gives of the normalised images, in this backbone's precision and without gradient.

        Args:
            read: (network, normalised images) -> what is wanted.
            images: float32 (B, 3, H, W) in [0, 1], or `normalized` already.
        """
        lower = self.precision == "bfloat16"

        def shown(part: Tensor) -> Any:
            return read(self.network, part if normalized else normalize(part, self.mean, self.std))

        with (
            whole_float32(),
            evaluating(self.network),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=lower),
        ):
            return self.passes.run(shown, images, name=self.name)

    def __call__(self, images: Tensor) -> Tensor:
        """Map float32 (B, 3, H, W) in [0, 1] to float32 (B, D, h, w)."""
        return self.checked(self.run(self.read, images))

    def checked(self, features: Any) -> Tensor:
        """Return a map of shape (B, D, h, w) as float32, or raise `BackboneError`."""
        if not isinstance(features, Tensor) or features.ndim != 4:
            what = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise BackboneError(f"{self.name} must give a map of shape (B, D, h, w), but gave {what}.")
        return features.to(torch.float32)

    def provenance(self) -> dict[str, Any]:
        """Return name, map, normalisation, precision, device and the facts given at construction."""
        return {
            "name": self.name,
            "channels": self.channels,
            "stride_px": self.stride_px,
            "image_size": list(self.size_px),
            "mean": list(self.mean),
            "std": list(self.std),
            "precision": self.precision,
            "tf32": False,
            "device": str(self.device),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "tokens": has_tokens(self.network),
            **({} if self.passes.most is None else {"images_per_pass": self.passes.most}),
            **self.facts,
        }


def has_tokens(network: nn.Module) -> bool:
    """Return whether a network is made of tokens that attend to each other, by the heads of its blocks."""
    names = ("num_heads", "num_attention_heads")
    return any(isinstance(getattr(part, name, None), int) for part in network.modules() for name in names)


def tiles(grid: tuple[int, int], size: tuple[int, int], stride: int) -> bool:
    """Return whether a grid of cells is an image's size divided by the stride.

    Rounded, down or up, only for the powers of 2 of convolutions: 240 px in 14 cells are 17.14 px each, and no 17. ViTs
    of patch 14 cut off what is left of their input.
    """
    if stride == PATCH:
        return all(cells and cells == px // stride for cells, px in zip(grid, size, strict=True))
    if stride & (stride - 1):
        return all(cells and cells * stride == px for cells, px in zip(grid, size, strict=True))
    return all(cells and cells in (px // stride, -(-px // stride)) for cells, px in zip(grid, size, strict=True))
