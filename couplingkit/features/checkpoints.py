"""A weights file in, named groups of tensors out: safely, and with no more in memory than is used."""

from __future__ import annotations

import argparse
import collections
import hashlib
import importlib
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

from ..errors import BackboneError, listed

__all__ = ["Checkpoint", "file_sha256", "open_checkpoint", "tensors_sha256"]

# Besides tensors and plain containers: the arguments that training scripts store, and NumPy's arrays and numbers, which
# detectron2's files and many metrics are made of. None of them runs code from the file.
_NUMPY = ("numpy._core.multiarray", "numpy.core.multiarray", "numpy._core.numeric", "numpy.core.numeric")
_NUMPY_FUNCTIONS = {"_reconstruct": 0, "scalar": 0, "_frombuffer": 2}
ALLOWED: dict[tuple[str, str], Any] = {
    ("argparse", "Namespace"): argparse.Namespace,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(home, name): None for home in _NUMPY for name in _NUMPY_FUNCTIONS},
}


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
    groups = dict(_groups(content, ""))
    if not groups:
        has = f"keys {listed(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise BackboneError(f"weights file {path} holds {has}, but no dictionary of tensors, so it is no checkpoint.")
    other = [str(key) for key in content if not any(_is_below(group, str(key)) for group in groups)]
    return Checkpoint(path, groups, tuple(key for key in other if key not in groups.get("", {})))


def _is_below(group: str, key: str) -> bool:
    return group == key or group.startswith(f"{key}.")


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            return Checkpoint(path, {"": tensors}, metadata=dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"weights file {path} is no whole safetensors file ({error}).") from error


def _unpickle(path: Path, trust: bool) -> Any:
    # The older format of torch.save is one stream, which cannot be mapped.
    mapped = zipfile.is_zipfile(path)
    if trust:
        return torch.load(path, map_location="cpu", weights_only=False, mmap=mapped)
    try:
        with torch.serialization.safe_globals(_safe_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on pickles of newer protocols, which are read below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # The safe reader meets damage with whatever exception comes first, a KeyError as well as an EOFError.
        if not mapped and _is_pickle(path):
            content = _unpickle_arrays(path)
            if not isinstance(content, int):  # torch's older format begins with a magic number
                return content
        if isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error):
            raise _refusal(path) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(f"weights file {path} is cut short or not a checkpoint ({reason}).") from error


def _refusal(path: Path) -> BackboneError:
    return BackboneError(
        f"weights file {path} holds Python objects besides tensors, and unpickling those could run any code, so it was "
        "not opened; save its state_dict alone, or add --trust-checkpoint if you trust who made it."
    )


def _safe_globals() -> list[Any]:
    kinds = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    named = [(_numpy_function(name), f"{home}.{name}") for home, name in ALLOWED if home in _NUMPY]
    return [argparse.Namespace, np.ndarray, np.dtype, *kinds, *named]


def _numpy_function(name: str) -> Any:
    # NumPy 2 moved its core; files name the old place or the new one.
    return getattr(importlib.import_module(_NUMPY[_NUMPY_FUNCTIONS[name]]), name)


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays and refuses every other class or function before it is called."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY and (module, name) in ALLOWED:
            return _numpy_function(name)
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} is refused")


def _encode_latin1(text: str, encoding: str) -> bytes:
    # How pickles of protocol 2 write the bytes of an array.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding} is refused")
    return text.encode("latin1")


def _unpickle_arrays(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file).load()
    except pickle.UnpicklingError as error:
        if "refused" in str(error):
            raise _refusal(path) from error
        raise BackboneError(f"weights file {path} is cut short or not a checkpoint ({error}).") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackboneError(f"weights file {path} is cut short or not a checkpoint ({reason}).") from error


def _groups(content: Any, place: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every dictionary with names for keys and tensors among its values, down to two keys deep."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping) or place.count(".") > 1:
        return
    named = {str(key): value for key, value in content.items() if isinstance(key, str)}
    tensors = {name: _as_tensor(value) for name, value in named.items() if _is_array(value)}
    if tensors:
        yield place, tensors
    for name, value in named.items():
        if not name.startswith("optim"):
            yield from _groups(value, f"{place}.{name}" if place else name)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _as_tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
