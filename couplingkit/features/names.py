"""The words that name a model and say how it is read in, records out; nothing is loaded or looked up here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ArgumentError, BackboneError, check_range, listed
from ..words import as_path, existing_path, rgb_numbers, whole_number
from .hardware import Precision

__all__ = [
    "FORMS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NORMALISATION",
    "RGB",
    "BackboneOptions",
    "ModelName",
    "Norm",
    "as_rgb",
    "bundled_names",
    "parse_model_name",
    "parse_size",
    "split_layers",
]

RGB = tuple[float, float, float]
Norm = Literal["applied", "raw"]
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
# What mean and std may be, whoever states them.
NORMALISATION = {"mean": (0.0, 1.0), "std": (1e-3, 10.0)}
SOURCES = ("timm", "torchvision", "hub", "transformers", "control", "bundled")
FORMS = (
    "FILE, ARCH, ARCH@FILE, timm:ARCH, torchvision:ARCH, random:ARCH, hf-hub:ORG/NAME, FOLDER, hub:CLONE:ENTRY, "
    "transformers:NAME, bundled:NAME, control:cell or control:leak:AMOUNT"
)
BUNDLED = Path(__file__).parent / "bundled"
# Commas that stand within no bracket.
_SEPARATOR = re.compile(r",(?![^(\[]*[)\]])")
WEIGHT_SUFFIXES = (".pth", ".pt", ".tar", ".pkl", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class ModelName:
    """A model as the command line names it: `[SOURCE:]ARCH[,KEY=VALUE...][@FILE]`, a bare file, or a folder.

    Attributes:
        text: as it was written.
        source: timm, torchvision, hub, transformers, control, `file` (the architecture is read from it) or `folder`.
        architecture: in the words of the source; '' for a bare file.
        options: settings of the architecture.
        weights: file to read the weights from.
        random: whether the weights are drawn.
    """

    text: str
    source: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    random: bool = False


@dataclass(frozen=True)
class BackboneOptions:
    """How a network is read, where it differs from the network's own default (None).

    Attributes:
        layer: `last`, the index of a block or stage, or the name of a submodule (torchvision, torch hub); several with
            commas where several are read.
        norm: whether the network's final norm is applied to what the layer gives; None applies it where it is trained.
        image_size: of the input, px: one side, or (height, width).
        output_stride: px per cell of a CNN whose last stages can be dilated.
        mean: of the normalisation, sRGB in [0, 1].
        std: of the normalisation.
        branch: of a checkpoint that holds several networks: query, key, online, momentum, teacher or student.
        key: where in a checkpoint the weights are, with dots: an outer key, then a prefix of the names.
        trust_checkpoint: whether a checkpoint may be unpickled without limits, which runs whatever code it holds.
        precision: of the forward passes.
        device: where it runs.
        compile: whether torch.compile makes its blocks faster; features differ by rounding, and the first pass waits.
        seed: of random weights.
    """

    layer: str | int = "last"
    norm: Norm | None = None
    image_size: int | tuple[int, int] | None = None
    output_stride: int | None = None
    mean: RGB | None = None
    std: RGB | None = None
    branch: str | None = None
    key: str | None = None
    trust_checkpoint: bool = False
    precision: Precision = "auto"
    device: str = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.norm not in (None, "applied", "raw"):
            raise ArgumentError(f"norm must be 'applied' or 'raw', not {self.norm!r}.")
        for side in self.size or ():
            check_range("image_size", side, 16, 4096)
        if self.output_stride is not None:
            check_range("output_stride", self.output_stride, 1, 64)
        for name, ends in NORMALISATION.items():
            values = getattr(self, name)
            if values is not None:
                rgb_numbers(values, name, *ends)
        if self.branch is not None and self.key is not None:
            raise ArgumentError("branch and key both say which weights to read; give one of them.")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that were asked for, px."""
        asked = self.image_size
        return (asked, asked) if isinstance(asked, int) else asked


def as_rgb(values: Iterable[Any]) -> RGB:
    """Return three numbers as floats, one per channel.

    >>> as_rgb([0, 0.5, 1])
    (0.0, 0.5, 1.0)
    """
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def parse_size(text: str) -> tuple[int, int]:
    """Read `224`, or `336x224` as height x width.

    >>> parse_size("224"), parse_size("336x224")
    ((224, 224), (336, 224))

    Raises:
        ArgumentError: it is neither.
    """
    parts = text.lower().split("x")
    try:
        height, width = (whole_number(part, "image_size") for part in (parts * 2 if len(parts) == 1 else parts))
    except ValueError:
        # Of the number, or of how many there are.
        raise ArgumentError(
            f"image_size {text[:40]!r} must be a side like 224, or HEIGHTxWIDTH like 336x224."
        ) from None
    return height, width


def split_layers(text: str | int) -> tuple[str, ...]:
    """Take `3,7,11` apart.

    >>> split_layers("3,7,last")
    ('3', '7', 'last')

    Raises:
        ArgumentError: a layer is empty or named twice.
    """
    layers = tuple(part.strip() for part in str(text).split(","))
    if not all(layers) or len(set(layers)) < len(layers):
        raise ArgumentError(f"layer {text!r} must be one layer, or several different ones with commas, like 3,7,11.")
    return layers


def parse_model_name(text: str) -> ModelName:
    """Take a model's name apart.

    >>> parse_model_name("mobilenetv2_100,output_stride=16@weights.pth").options
    {'output_stride': 16}
    >>> parse_model_name("random:torchvision:resnet18").source
    'torchvision'

    Raises:
        BackboneError: the name is not of a known form, or names a file that is not there.
    """
    whole = existing_path(text)
    if whole is not None:
        # What exists is meant, whatever separators its name holds.
        return ModelName(text, "folder", str(whole)) if whole.is_dir() else ModelName(text, "file", "", weights=whole)
    rest, _, file = text.partition("@")
    is_random = rest.startswith("random:")
    source, behind = _source(rest.removeprefix("random:"), text)
    if source == "control":
        return ModelName(text, source, behind)
    if source == "bundled":
        return ModelName(text, "file", "", weights=_bundled(behind, text))
    architecture, options = _with_options(behind, text)
    if not architecture or (is_random and file):
        raise BackboneError(f"model {text!r} is not of a known form; write {FORMS}.")
    if not file and architecture.endswith(WEIGHT_SUFFIXES):
        raise BackboneError(f"model {text!r} reads like a weights file, and there is none of that name.")
    weights = (existing_path(file) or as_path(file)) if file else None
    return ModelName(text, source, architecture, options, weights, is_random)


def bundled_names() -> list[str]:
    """Return the names of the small models that come with couplingkit, trained by its own recipes."""
    return sorted(one.name.removesuffix(".safetensors") for one in BUNDLED.glob("*.safetensors"))


def _bundled(name: str, whole: str) -> Path:
    names = bundled_names()
    if name not in names:
        raise BackboneError(f"model {whole!r}: couplingkit comes with {listed(names)}, not with {name!r}.")
    return BUNDLED / f"{name}.safetensors"


def _source(text: str, whole: str) -> tuple[str, str]:
    source, colon, behind = text.partition(":")
    if not colon or source in ("hf-hub", "local-dir"):
        return "timm", text
    if source not in SOURCES:
        raise BackboneError(f"model {whole!r}: {source!r} is no source of models; write {FORMS}.")
    return source, behind


def _with_options(text: str, whole: str) -> tuple[str, dict[str, Any]]:
    place = text.removeprefix("local-dir:").removeprefix("hf-hub:")
    if existing_path(place) is not None:
        # A folder's name may hold commas.
        return text, {}
    # The path of a clone may hold some, too; its entry stands behind the last colon.
    head, colon, entry = text.rpartition(":")
    first, *settings = _SEPARATOR.split(entry)
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.isidentifier():
            raise BackboneError(f"model {whole!r}: {setting!r} is no KEY=VALUE; write ARCH,KEY=VALUE@FILE.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            options[key] = value
    return head + colon + first, options
