"""A weights file in, named groups of tensors out: safely, and with no more in memory than is used."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import BackboneError, first_line, listed
from .file_kinds import other_kind
from .pickles import ArrayUnpickler, StoredArray, stand_ins

__all__ = ["Checkpoint", "open_checkpoint", "tensors_sha256", "unwrapped", "without_wrappers"]

# Parts of names that torch.compile, FSDP and activation checkpointing add; they say nothing of the network.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Containers in containers: as deep, and as many, as any release has them.
DEEPEST, MOST_CONTAINERS = 12, 20_000


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file holds.

    Attributes:
        path: of the file.
        groups: where in the file ('' is the top, then keys with dots) -> name -> tensor. Tensors lie in the mapped file
            where its format allows, so that those which are never used are never read.
        other: top-level keys that hold no tensors.
        metadata: of a safetensors file.
    """

    path: Path
    groups: dict[str, dict[str, Tensor]]
    other: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return one SHA-256 of names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def open_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read `.safetensors`, a torch file or a pickle of NumPy arrays, without ever running what the file says.

    Args:
        path: of the file.
        trust: unpickle whatever the file holds, which runs the code that it names; for files of your own making.

    Raises:
        BackboneError: the file is missing, cut short, not a checkpoint, holds other objects than tensors, plain
            containers and `argparse.Namespace`, or no tensors at all.
    """
    if path.is_dir():
        raise BackboneError(f"weights file {path} is a folder; give the path of a checkpoint in it.")
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist; give the path of a checkpoint.")
    if path.stat().st_size == 0:
        raise BackboneError(f"weights file {path} is empty; copy or download it again.")
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    content = _unpickle(path, trust)
    if isinstance(content, nn.Module):
        content = content.state_dict()
    groups = {group: unwrapped(tensors) for group, tensors in _groups(content, "", path=path)}
    if not groups:
        has = f"keys {listed(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise BackboneError(f"weights file {path} holds {has}, but no dictionary of tensors, so it is no checkpoint.")
    other = [str(key) for key in content if not any(_is_below(group, str(key)) for group in groups)]
    return Checkpoint(path, groups, tuple(key for key in other if key not in groups.get("", {})))


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors without the `WRAPPERS` in their names; as they are where two would have the same name then."""
    plain = {without_wrappers(name): value for name, value in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def without_wrappers(name: str) -> str:
    """Return a name with dots without the parts that say nothing of the network.

    >>> without_wrappers("student._orig_mod.blocks.0._checkpoint_wrapped_module.norm1.weight")
    'student.blocks.0.norm1.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_below(group: str, key: str) -> bool:
    return group == key or group.startswith(f"{key}.")


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            return Checkpoint(path, {"": unwrapped(tensors)}, metadata=dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        kind = other_kind(path)
        told = f"is {kind}" if kind else f"is no whole safetensors file ({first_line(error)})"
        raise BackboneError(f"weights file {path} {told}.") from error


def _unpickle(path: Path, trust: bool) -> Any:
    # The older format of torch.save is one stream, which cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    try:
        return _unpickle_safely(path, mapped)
    except BackboneError:
        if not trust:
            raise
    try:
        # torch's older format is a stream of pickles that begins with a number; a file without that is one pickle.
        if mapped or not _is_pickle(path) or isinstance(_first_object(path), int):
            return torch.load(path, map_location="cpu", weights_only=False, mmap=mapped)
        return _first_object(path)
    except Exception as error:
        raise BackboneError(f"weights file {path} cannot be opened ({first_line(error)}).") from error


def _first_object(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)


def _unpickle_safely(path: Path, mapped: bool) -> Any:
    allowed: list[Any] = [(kind, f"{home}.{name}") for (home, name), kind in stand_ins().items()]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickles of newer protocols, which are read below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # The safe reader meets damage with whatever exception comes first, a KeyError as well as an EOFError.
        if not mapped and _is_pickle(path):
            content = _unpickle_arrays(path)
            if not isinstance(content, int):  # torch's older format begins with a magic number
                return content
        if mapped:
            _name_other_archives(path)
        if isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error) and _begins_like_one(path):
            raise _refusal(path) from error
        raise _no_checkpoint(path, error) from error


def _name_other_archives(path: Path) -> None:
    """Raise `BackboneError` for a whole archive of another kind, by its name and with what reads it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise BackboneError(
            f"weights file {path} is a TorchScript archive, a program with weights, and opening it could run code, "
            "so it was not opened; set `trust_checkpoint` (--trust-checkpoint) if you trust who made it, or save its "
            "state_dict alone."
        )
    if names and all(name.endswith(".npy") for name in names):
        raise BackboneError(
            f"weights file {path} is an .npz archive of NumPy arrays, as Google's ViTs are; timm reads those: build "
            "the network with timm.create_model, give the file to its load_pretrained, and torch.save its state_dict."
        )


def _no_checkpoint(path: Path, error: Exception) -> BackboneError:
    kind = other_kind(path)
    if kind is not None:
        return BackboneError(f"weights file {path} is {kind}.")
    why = first_line(error) if _begins_like_one(path) else "it begins like no PyTorch file"
    return BackboneError(f"weights file {path} is cut short or not a checkpoint ({why}).")


def _begins_like_one(path: Path) -> bool:
    """Return whether a file begins as pickles (of protocol 2 on) and zip archives do; text, for one, does not."""
    with path.open("rb") as file:
        return file.read(2)[:2] in (b"PK", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))


def _refusal(path: Path) -> BackboneError:
    return BackboneError(
        f"weights file {path} holds Python objects besides tensors, and unpickling those could run any code, so it was "
        "not opened; save its state_dict alone, or set `trust_checkpoint` if you trust who made it."
    )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _unpickle_arrays(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return ArrayUnpickler(file).load()
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "refused" in str(error):
            raise _refusal(path) from error
        raise _no_checkpoint(path, error) from error


def _groups(
    content: Any, place: str, *, path: Path, above: tuple[int, ...] = (), met: list[int] | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every dictionary with names for keys and tensors among its values.

    Args:
        content: of the file, or of what is held in it.
        place: where it is held, keys with dots.
        path: of the file.
        above: what it is held by, which it may hold again.
        met: as many entries as dictionaries were looked at.

    Raises:
        BackboneError: it goes on and on.
    """
    met = [] if met is None else met
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or len(above) > DEEPEST or id(content) in above:
        return
    met.append(id(content))
    if len(met) > MOST_CONTAINERS:
        raise BackboneError(
            f"weights file {path} holds over {MOST_CONTAINERS:,} dictionaries in each other; save its state_dict alone."
        )
    named = {str(key): value for key, value in content.items() if isinstance(key, str)}
    tensors = {name: tensor for name, value in named.items() if (tensor := _as_tensor(value)) is not None}
    if tensors:
        yield place, tensors
    for name, value in named.items():
        if not name.startswith("optim"):
            below = f"{place}.{name}" if place else name
            yield from _groups(value, below, path=path, above=(*above, id(content)), met=met)


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, StoredArray):
        return value.tensor()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        return torch.from_numpy(value.copy())
    return value if isinstance(value, Tensor) else None
