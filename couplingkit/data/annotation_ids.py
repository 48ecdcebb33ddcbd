"""Ids as annotation tools write them in, whole numbers of 64 bits out: the same for the same file in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["id_numbers", "renumbered"]

Ints = NDArray[np.int64]
LEAST, MOST = -(2**63), 2**63 - 1


def id_numbers(values: Sequence[Any]) -> tuple[Ints, int]:
    """Return ids as int64, and how many of them are no such number and were replaced by one.

    Whole numbers stay what they are, as 3.0 and "3" do; what else there is becomes 63 bits of its SHA-256.

    >>> id_numbers([3, 4.0, "5"])[0].tolist()
    [3, 4, 5]
    """
    if all(type(value) is int and LEAST <= value <= MOST for value in values):
        return np.array(values, dtype=np.int64), 0
    found = [_number(value) for value in values]
    return np.array([number for number, _ in found], dtype=np.int64), sum(not whole for _, whole in found)


def _number(value: Any) -> tuple[int, bool]:
    """Return the number of an id, and whether it is the id itself."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 20:
        # "007" is another id than 7.
        value = int(value) if str(int(value)) == value else value
    if type(value) is int and LEAST <= value <= MOST:
        return value, True
    return _digest(f"{type(value).__name__} {value}"), False


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def renumbered(ids: Ints) -> tuple[Ints, int]:
    """Return ids of which each stands there once, and how many were changed for it: all but the first of each.

    >>> renumbered(np.array([4, 5]))[0].tolist()
    [4, 5]
    """
    found, first = np.unique(ids, return_index=True)
    if found.size == ids.size:
        return ids, 0
    kept = np.zeros(ids.size, dtype=bool)
    kept[first] = True
    changed = ids.copy()
    seen: dict[int, int] = {}
    for place in np.flatnonzero(~kept):
        number = int(ids[place])
        seen[number] = seen.get(number, 0) + 1
        changed[place] = _digest(f"repeated {number} {seen[number]}")
    return changed, int((~kept).sum())
