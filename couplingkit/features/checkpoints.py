"""A weights file in, a plain dictionary of tensors out, safely; and that into a network, wholly or not at all."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import BackboneError, listed

__all__ = ["file_sha256", "fit_weights", "read_weights", "tensors_sha256"]

# Training scripts put the weights under one of these, beside the epoch and the arguments.
OUTER_KEYS = ("state_dict", "model")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return one SHA-256 of names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a dictionary of tensors from `.safetensors` or a torch file, without ever running what the file says.

    Raises:
        BackboneError: the file is missing, cut short, not a checkpoint, or holds other objects than tensors and
            plain containers.
    """
    if path.is_dir():
        raise BackboneError(f"weights file {path} is a folder; give ARCH@FILE with the path of a checkpoint in it.")
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist; give ARCH@FILE with the path of a checkpoint.")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise BackboneError(f"weights file {path} is no whole safetensors file ({error}).") from error
    return _only_tensors(_load_safely(path), path)


def _load_safely(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The safe reader meets damage with whatever exception comes first, a KeyError as well as an EOFError.
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            raise BackboneError(
                f"weights file {path} holds Python objects besides tensors, and unpickling those could run any code, "
                "so it was not opened; save its state_dict alone, or as .safetensors."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(f"weights file {path} is cut short or not a checkpoint ({reason}).") from error


def _only_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for candidate in (content, *(content.get(key) for key in OUTER_KEYS if isinstance(content, Mapping))):
        if isinstance(candidate, Mapping) and candidate:
            tensors = {str(name): value for name, value in candidate.items() if isinstance(value, Tensor)}
            if len(tensors) == len(candidate):
                return tensors
    has = f"keys {listed(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise BackboneError(
        f"weights file {path} holds {has}, but no dictionary of tensors at the top or under {' or '.join(OUTER_KEYS)}."
    )


def fit_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    heads: tuple[str, ...] = (),
    reshape: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> list[str]:
    """Load all weights of a network's trunk, or refuse.

    Args:
        network: filled in place.
        weights: name -> tensor.
        source: where they come from, for the error.
        heads: names of submodules that no feature depends on (classifiers); theirs may be missing or left over.
        reshape: adapts a tensor to another input size (position embeddings).

    Returns:
        The names that were left out.

    Raises:
        BackboneError: a weight is missing, left over or of another shape; all are listed.
    """

    def is_head(name: str) -> bool:
        return any(name == head or name.startswith(f"{head}.") for head in heads)

    own = network.state_dict()
    # The counter of batches steers training only; files older than torch 0.4.1 do not have it.
    needed = {name for name in own if not is_head(name) and not name.endswith("num_batches_tracked")}
    given = {name: reshape(name, value) for name, value in weights.items() if not is_head(name)}
    missing = sorted(needed - given.keys())
    unexpected = sorted(given.keys() - own.keys())
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(given.keys() & own.keys())
        if given[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        told = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in parts if names)
        raise BackboneError(f"the weights of {source} do not fit: {told}. Is it the right architecture?")
    # Without the network's own version marks, some networks take the weights for those of an older layout.
    complete = OrderedDict(given)
    complete._metadata = own._metadata  # type: ignore[attr-defined]
    network.load_state_dict(complete, strict=False)
    return sorted(weights.keys() - given.keys())
