"""couplingkit's own weights files: safetensors whose metadata say everything that a reader would have to guess."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ArgumentError, BackboneError, first_line, listed
from ..files import new_file
from ..typed_files import Record, as_record, decode_json, json_text, made_by
from .checkpoints import Checkpoint
from .names import BackboneOptions
from .state_dict_matching import MatchedWeights

__all__ = ["BackboneHeader", "own_weights", "save_backbone"]

FORMAT = "couplingkit backbone"
VERSION = 1


class _Version(Record, frozen=True):
    version: int


class BackboneHeader(Record, frozen=True):
    """What a file of `save_backbone` says of its weights.

    Attributes:
        architecture: of timm's.
        mean: of the normalisation in training, sRGB in [0, 1].
        std: of it.
        settings: of the architecture.
        norm_trained: whether the final norm was trained.
        branch: which network of the method this is: teacher, query, ...
        method: that trained it.
        about: what else the file is to say, as JSON values: a recipe, a seed.
    """

    architecture: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: dict[str, Any] = made_by(default_factory=dict)
    norm_trained: bool = True
    branch: str = ""
    method: str = ""
    about: dict[str, Any] = made_by(default_factory=dict)
    version: int = VERSION


def save_backbone(
    path: str | Path, tensors: Mapping[str, Tensor], header: BackboneHeader, *, overwrite: bool = False
) -> None:
    """Write a backbone so that `load_backbone(path)` needs to be told nothing.

    Args:
        path: ends in .safetensors.
        tensors: name -> tensor, as timm's architecture names them.
        header: what else there is to know.
        overwrite: replace a file.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with new_file(Path(path), overwrite=overwrite) as draft:
        try:
            save_file(contiguous, draft, metadata={"format": "pt", FORMAT: json_text(header)})
        except SafetensorError as error:
            # Its own kind of error for a disk that is full.
            raise OSError(first_line(error)) from error


def own_weights(checkpoint: Checkpoint) -> MatchedWeights | None:
    """Return the weights of a file of `save_backbone`; None for any other file.

    Raises:
        BackboneError: it was written by a newer couplingkit, or its header is broken.
    """
    if FORMAT not in checkpoint.metadata:
        return None
    what = f"weights file {checkpoint.path}: its couplingkit header"
    version = decode_json(checkpoint.metadata[FORMAT], _Version, what, error=BackboneError).version
    if version > VERSION:
        raise BackboneError(f"weights file {checkpoint.path} was written by a newer couplingkit; update this one.")
    given = decode_json(checkpoint.metadata[FORMAT], dict[str, Any], what, error=BackboneError)
    lacking = [name for name in BackboneHeader.__struct_fields__ if name not in given]
    if lacking:
        # What is not there would be taken for the default, and the numbers might be another network's.
        raise BackboneError(f"{what} lacks {listed(lacking)}; save the weights again.")
    header = as_record(given, BackboneHeader, what, error=BackboneError)
    try:
        # Held to the range of the options: with a wrong one every number would be wrong.
        options = BackboneOptions(mean=header.mean, std=header.std)
    except ArgumentError as error:
        raise BackboneError(f"{what} is not whole: {error}") from error
    tensors = checkpoint.groups[""]
    assert options.mean is not None
    assert options.std is not None
    return MatchedWeights(
        tensors=tensors,
        raw=tensors,
        system=f"couplingkit{f', {header.method}' if header.method else ''}",
        branch=header.branch,
        place="the top",
        family=None,
        norm_trained=header.norm_trained,
        normalisation=(options.mean, options.std),
        architecture=header.architecture,
        settings=header.settings,
    )
