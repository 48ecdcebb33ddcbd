"""The protocol of a backbone, the adapter that makes any network keep it, and "source:model" -> backbone."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, BackboneError, check_range
from ..pixels import normalize
from .controls import CONTROL_STRIDE, parse_control
from .hardware import Precision, resolve_device, resolve_precision

__all__ = [
    "RGB",
    "BackboneOptions",
    "DenseBackbone",
    "ModelName",
    "NetworkBackbone",
    "Norm",
    "load_backbone",
    "parse_model_name",
]

RGB = tuple[float, float, float]
Norm = Literal["applied", "raw"]
# What torch and the networks raise on an input that they cannot take.
RUN_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, IndexError)
EVEN_SIDE = 256
SOURCES = ("timm", "torchvision", "random", "control")


@runtime_checkable
class DenseBackbone(Protocol):
    """A frozen network, seen as a map from pixels to a grid of vectors.

    Attributes:
        name: what tables call it.
        channels: D of the map.
        stride_px: px per cell.
        side_px: side of the square images it is shown, px.
        mean: sRGB colour in [0, 1] that its normalisation sends to 0.
        device: where the images must be.
    """

    name: str
    channels: int
    stride_px: int
    side_px: int
    mean: RGB
    device: torch.device

    def __call__(self, images: Tensor) -> Tensor:
        """Map float32 (B, 3, H, W) in [0, 1] to float32 (B, D, h, w)."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Return what a reader needs to know to read the same features again, as JSON values."""
        ...


class NetworkBackbone:
    """Any torch network as a `DenseBackbone`: normalises, runs without gradient, and measures what comes out.

    Args:
        network: put into evaluation mode and moved to `device`.
        read: (network, normalised images (B, 3, H, W)) -> features (B, D, h, w).
        name: what tables call it.
        side_px: side of its input, px.
        mean: of its normalisation, sRGB in [0, 1].
        std: of its normalisation.
        stride_px: px per cell, if known; it is checked against the map, and measured where it is not given.
        precision: of the forward pass; the features are float32 in any case.
        device: where it runs.
        facts: what else `provenance` is to say.

    Raises:
        BackboneError: what comes out is no map of feature vectors whose cells tile the input.

    >>> network = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
    >>> backbone = NetworkBackbone(network, lambda net, x: net(x), name="patches", side_px=64)
    >>> backbone.channels, backbone.stride_px, backbone(torch.zeros(2, 3, 64, 64)).shape
    (8, 4, torch.Size([2, 8, 16, 16]))
    """

    def __init__(
        self,
        network: nn.Module,
        read: Callable[[Any, Tensor], Tensor],
        *,
        name: str,
        side_px: int = 224,
        mean: RGB = (0.485, 0.456, 0.406),
        std: RGB = (0.229, 0.224, 0.225),
        stride_px: int | None = None,
        precision: str = "float32",
        device: torch.device | str = "cpu",
        facts: Mapping[str, Any] | None = None,
    ):
        self.name = name
        self.side_px = side_px
        self.mean = mean
        self.std = std
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.read = read
        self.facts = dict(facts or {})
        try:
            features = self(torch.full((1, 3, side_px, side_px), 0.5, device=self.device))
        except RUN_ERRORS as error:
            raise BackboneError(f"{name} cannot read an image of {side_px} x {side_px} px: {error}") from error
        self.channels = features.shape[1]
        self.stride_px = self._stride(tuple(features.shape[-2:]), stride_px)

    def _stride(self, grid: tuple[int, ...], declared: int | None) -> int:
        """Return px per cell: the declared one where the map agrees with it, else as measured."""
        side = self.side_px
        fits = grid[0] == grid[1] > 0
        if fits and declared and grid[0] in (side // declared, -(-side // declared)):
            return declared
        measured = self._measured_stride(grid[0]) if fits else None
        if measured and grid[0] in (side // measured, -(-side // measured)):
            return measured
        raise BackboneError(
            f"{self.name} gives a map of {grid[0]} x {grid[1]} cells for an image of {side} x {side} px, which are no "
            "whole px per cell; choose an --image-size that its stride divides, or another --layer."
        )

    def _measured_stride(self, cells: int) -> int | None:
        # 240 px in 8 cells may be a stride of 30, or one of 32 rounded up; at 256 px all usual strides come out even.
        # A network that takes its own size only (a ViT) does not round.
        try:
            rows = self(torch.full((1, 3, EVEN_SIDE, EVEN_SIDE), 0.5, device=self.device)).shape[-2]
        except RUN_ERRORS:
            rows, side = cells, self.side_px
        else:
            side = EVEN_SIDE
        return side // rows if rows and side % rows == 0 else None

    def __call__(self, images: Tensor) -> Tensor:
        """Map float32 (B, 3, H, W) in [0, 1] to float32 (B, D, h, w)."""
        lower = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=lower):
            features = self.read(self.network, normalize(images, self.mean, self.std))
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
            "image_size": self.side_px,
            "mean": list(self.mean),
            "std": list(self.std),
            "precision": self.precision,
            "device": str(self.device),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            **self.facts,
        }


@dataclass(frozen=True)
class ModelName:
    """A model as the command line names it: `[SOURCE:]ARCH[,KEY=VALUE...][@FILE]`."""

    text: str
    source: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None


@dataclass(frozen=True)
class BackboneOptions:
    """How a network is read, where it differs from the network's own default (None).

    Attributes:
        layer: `last`, the index of a block or stage, or (torchvision) the name of a submodule.
        norm: whether the network's final norm is applied to what the layer gives.
        image_size: side of the input, px.
        mean: of the normalisation, sRGB in [0, 1].
        std: of the normalisation.
        seed: of random weights.
    """

    layer: str = "last"
    norm: Norm = "applied"
    image_size: int | None = None
    mean: RGB | None = None
    std: RGB | None = None
    precision: Precision = "auto"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norm not in ("applied", "raw"):
            raise ArgumentError(f"norm must be 'applied' or 'raw', not {self.norm!r}.")
        if self.image_size is not None:
            check_range("image_size", self.image_size, 16, 4096)
        for value in self.mean or ():
            check_range("mean", value, 0, 1)
        for value in self.std or ():
            check_range("std", value, 1e-3, 10)


def parse_model_name(text: str) -> ModelName:
    """Take a model's name apart; nothing is loaded or looked up.

    >>> parse_model_name("mobilenetv2_100,output_stride=16@weights.pth").options
    {'output_stride': 16}

    Raises:
        BackboneError: the name is not of the form above.
    """
    rest, _, file = text.partition("@")
    source, colon, behind = rest.partition(":")
    if not colon or source not in SOURCES:
        source, behind = "timm", rest
    if source == "control":
        return ModelName(text, source, behind)
    architecture, *settings = behind.split(",")
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.isidentifier():
            raise BackboneError(f"model {text!r}: {setting!r} is no KEY=VALUE; write ARCH,KEY=VALUE@FILE.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    if not architecture or (source == "random" and file):
        raise BackboneError(
            f"model {text!r} is not of the form ARCH, timm:ARCH, torchvision:ARCH, ARCH@FILE, random:ARCH or "
            "control:KIND."
        )
    if not file and Path(architecture).is_file():
        raise BackboneError(f"model {text!r} is a file; name the architecture it belongs to, as ARCH@{text}.")
    return ModelName(text, source, architecture, options, Path(file).expanduser() if file else None)


def load_backbone(name: str, **options: Any) -> NetworkBackbone:
    """Load a model by its name.

    Args:
        name: `ARCH` or `timm:ARCH` (pretrained, as timm does), `torchvision:ARCH`, `ARCH@FILE` (weights from a file,
            read safely), `random:ARCH` (seeded random weights), `control:cell`, `control:leak:AMOUNT[:REACH]`;
            `ARCH,KEY=VALUE` passes a setting to the architecture.
        **options: the fields of `BackboneOptions`.

    Raises:
        BackboneError: no such model, its weights cannot be had or do not fit, or it gives no map of features.
    """
    chosen = BackboneOptions(**options)
    model = parse_model_name(name)
    if model.source == "control":
        return _control_backbone(model, chosen)
    # timm takes seconds to import; who measures a control or asks for help does not wait for it.
    sources = importlib.import_module(".sources", __package__)
    backbone: NetworkBackbone = sources.build(model, chosen)
    return backbone


def _control_backbone(model: ModelName, options: BackboneOptions) -> NetworkBackbone:
    if options.layer != "last":
        raise BackboneError(f"control networks have one layer; --layer {options.layer} does not apply to {model.text}.")
    side = options.image_size or 224
    if side % CONTROL_STRIDE:
        raise BackboneError(f"image_size of control networks must be a multiple of {CONTROL_STRIDE}, but is {side}.")
    return NetworkBackbone(
        parse_control(model.architecture),
        lambda network, images: network(images),
        name=model.text,
        side_px=side,
        mean=options.mean or (0.5, 0.5, 0.5),
        std=options.std or (0.5, 0.5, 0.5),
        stride_px=CONTROL_STRIDE,
        # Their answer is known to 1e-6, and only float32 keeps that.
        precision="float32",
        device=options.device,
        facts={"source": "control", "architecture": model.architecture, "layer": "last", "norm": "none"},
    )
