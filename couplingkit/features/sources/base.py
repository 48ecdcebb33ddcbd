"""What every source of networks gives: a network with its weights, and how its layers are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import BackboneError, first_line, listed
from ...streams import Stream
from ..names import RGB, BackboneOptions, ModelName
from ..state_dict_matching import MatchedWeights

__all__ = ["OpenedNetwork", "ReadLayer", "build_errors", "layer_index", "seeded"]


@dataclass(frozen=True)
class ReadLayer:
    """One layer that is read.

    Attributes:
        label: what the record calls it.
        norm: what became of the final norm: applied, raw, or none (there is none to apply).
        stride_px: px per cell that the network declares, if it does.
    """

    label: str
    norm: str
    stride_px: int | None = None


@dataclass(frozen=True)
class OpenedNetwork:
    """A network with its weights.

    Attributes:
        network: on the CPU, in evaluation mode.
        layers: those asked for, in that order.
        read: (network, normalised images, which of `layers`) -> one map (B, D, h, w) each, in one forward pass.
        size_px: height and width of its input.
        normalisation: mean and std that the source states; None where it states none.
        matched: the weights of a file under the network's own names, where it has them from one.
        facts: for the record: source, architecture, options, input, interpolation.
    """

    network: nn.Module
    layers: tuple[ReadLayer, ...]
    read: Callable[[Any, Tensor, Sequence[int]], Sequence[Tensor]]
    size_px: tuple[int, int]
    normalisation: tuple[RGB, RGB] | None
    facts: Mapping[str, Any]
    matched: MatchedWeights | None = None


def layer_index(layer: str, count: int, name: str) -> int:
    """Return the index that `last` or a number stands for.

    Raises:
        BackboneError: there is no such layer.
    """
    if layer == "last":
        return count - 1
    index = int(layer) if layer.isdecimal() else count
    if index >= count:
        raise BackboneError(f"layer {layer!r} of {name}: give last or an index from 0 to {count - 1}.")
    return index


def wanted_norm(options: BackboneOptions, matched: MatchedWeights | None) -> str:
    """Return whether the final norm is to be applied: as asked, else where it is trained."""
    trained = matched is None or matched.norm_trained
    return options.norm or ("applied" if trained else "raw")


def needs_output_stride(options: BackboneOptions, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an architecture with the output stride that was asked for.

    Raises:
        BackboneError: the two contradict each other.
    """
    if options.output_stride is None:
        return dict(settings)
    if settings.get("output_stride", options.output_stride) != options.output_stride:
        raise BackboneError(
            f"output_stride is {settings['output_stride']} in the model's name and {options.output_stride} as an "
            "option; leave one away."
        )
    return {**settings, "output_stride": options.output_stride}


@contextmanager
def seeded(seed: int, architecture: str) -> Iterator[None]:
    """Draw initial weights from a named stream and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Stream(seed).child("weights", architecture).torch_seed())
        yield


@contextmanager
def build_errors(model: ModelName, *, pretrained: bool) -> Iterator[None]:
    """Turn what libraries raise while they build or download a network into one sentence."""
    try:
        yield
    except OSError as error:
        raise BackboneError(
            f"the weights of {model.text} would have to be downloaded, and that failed ({first_line(error)}); on a "
            f"machine without network give {_instead(model)}."
        ) from error
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, AttributeError) as error:
        what = "has no pretrained weights that load here" if pretrained else "cannot be built"
        settings = f" with {listed(model.options)}" if model.options else ""
        raise BackboneError(f"{model.text} {what}{settings}: {first_line(error)}") from error


def _instead(model: ModelName) -> str:
    if model.source == "transformers" or ":" in model.architecture:
        return "a folder with the model's files, copied there"
    return f"a file as {model.architecture}@FILE"
