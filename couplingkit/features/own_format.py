"""couplingkit's own weights files: safetensors whose metadata say everything that a reader would have to guess."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..errors import BackboneError
from ..files import new_file
from .checkpoints import Checkpoint
from .found_weights import FoundWeights
from .names import RGB

__all__ = ["own_weights", "save_backbone"]

FORMAT = "couplingkit backbone"
VERSION = 1


def save_backbone(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    architecture: str,
    settings: Mapping[str, Any] | None = None,
    mean: RGB,
    std: RGB,
    norm_trained: bool = True,
    branch: str = "",
    method: str = "",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a backbone so that `load_backbone(path)` needs to be told nothing.

    Args:
        path: ends in .safetensors.
        tensors: name -> tensor, as timm's architecture names them.
        architecture: of timm's.
        settings: of the architecture.
        mean: of the normalisation in training, sRGB in [0, 1].
        std: of it.
        norm_trained: whether the final norm was trained.
        branch: which network of the method this is: teacher, query, ...
        method: that trained it.
        about: what else the file is to say, as JSON values: a recipe, a seed.
        overwrite: replace a file.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    header = {
        "version": VERSION,
        "architecture": architecture,
        "settings": dict(settings or {}),
        "mean": mean,
        "std": std,
        "norm_trained": norm_trained,
        "branch": branch,
        "method": method,
        "about": dict(about or {}),
    }
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with new_file(Path(path), overwrite=overwrite) as draft:
        save_file(contiguous, draft, metadata={"format": "pt", FORMAT: json.dumps(header)})


def own_weights(checkpoint: Checkpoint) -> FoundWeights | None:
    """Return the weights of a file of `save_backbone`; None for any other file.

    Raises:
        BackboneError: it was written by a newer couplingkit, or its header is broken.
    """
    if FORMAT not in checkpoint.metadata:
        return None
    try:
        header = json.loads(checkpoint.metadata[FORMAT])
        newer = header["version"] > VERSION
        mean, std = (tuple(float(value) for value in header[name]) for name in ("mean", "std"))
        architecture, settings, method = str(header["architecture"]), dict(header["settings"]), str(header["method"])
        trained, branch = bool(header["norm_trained"]), str(header["branch"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f"weights file {checkpoint.path} has a broken couplingkit header ({error!r}).") from error
    if newer:
        raise BackboneError(f"weights file {checkpoint.path} was written by a newer couplingkit; update this one.")
    if len(mean) != 3 or len(std) != 3:
        raise BackboneError(f"weights file {checkpoint.path} has a broken couplingkit header (mean and std).")
    tensors = checkpoint.groups[""]
    return FoundWeights(
        tensors=tensors,
        raw=tensors,
        system=f"couplingkit{f', {method}' if method else ''}",
        branch=branch,
        place="the top",
        family=None,
        norm_trained=trained,
        normalisation=((mean[0], mean[1], mean[2]), (std[0], std[1], std[2])),
        architecture=architecture,
        settings=settings,
    )
