"""What a pickle says in, arrays of plain numbers out: nothing that a file names is ever called."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ArrayUnpickler", "StoredArray", "stand_ins"]

# Where the pickles of NumPy's versions say that an array's parts come from.
_NUMPY = ("numpy", "numpy._core.multiarray", "numpy.core.multiarray", "numpy._core.numeric", "numpy.core.numeric")


class StoredArray:
    """What a pickle says of a NumPy array, its bytes untouched: NumPy never follows what a file says."""

    def __init__(self, *_arguments: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def tensor(self) -> Tensor | None:
        """Return the array as a tensor, or None if it is none of plain numbers."""
        try:
            _, shape, kind, fortran, content = self.state
            numbers = np.frombuffer(content, dtype=np.dtype(kind.plain()))
            return torch.from_numpy(numbers.reshape(shape, order="F" if fortran else "C").copy())
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return None


class StoredType:
    """What a pickle says of a NumPy type: its letter and size, and the order of its bytes."""

    def __init__(self, *arguments: Any):
        self.letters = arguments[0] if arguments else ""
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"

    def plain(self) -> str:
        """Return the type of plain numbers, like `<f4`, or raise `ValueError`."""
        if not re.fullmatch(r"[fiub][1248]", str(self.letters)) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"{self.letters!r} is no type of plain numbers")
        return f"{self.order}{self.letters}"


def stand_ins() -> dict[tuple[str, str], Any]:
    """Return what the classes and functions that a file may name are replaced by, made anew for every file.

    Besides tensors and plain containers these are the arguments that training scripts store, and NumPy's arrays and
    numbers, which detectron2's files and many metrics are made of. A file can neither call nor change the real ones.
    """

    class Namespace:
        def __setstate__(self, state: Any) -> None:
            pass

    class Array(StoredArray):
        pass

    class Type(StoredType):
        pass

    def reconstruct(*_arguments: Any) -> StoredArray:
        return Array()

    def scalar(*_arguments: Any) -> None:
        return None

    def from_buffer(content: Any = b"", kind: Any = None, shape: Any = (), order: str = "C") -> StoredArray:
        made = Array()
        made.state = (1, shape, kind, order == "F", content)
        return made

    of_numpy = {
        "ndarray": Array,
        "dtype": Type,
        "_reconstruct": reconstruct,
        "scalar": scalar,
        "_frombuffer": from_buffer,
    }
    return {
        ("argparse", "Namespace"): Namespace,
        **{(home, name): kind for home in _NUMPY for name, kind in of_numpy.items()},
    }


class ArrayUnpickler(pickle.Unpickler):
    """Reads dictionaries of NumPy arrays and refuses every other class or function before it is called."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.allowed = {**stand_ins(), ("collections", "OrderedDict"): dict, ("_codecs", "encode"): _encode_latin1}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a class, or refuse it."""
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is refused")
        return self.allowed[module, name]


def _encode_latin1(text: str, encoding: str = "") -> bytes:
    # How pickles of protocol 2 write the bytes of an array.
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"encoding {encoding} is refused")
    return text.encode("latin1")
