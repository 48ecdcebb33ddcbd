"""Words that people type in, numbers and paths out; what is none of them is one sentence."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from .errors import ArgumentError, check_range

__all__ = ["as_path", "decimal_number", "existing_path", "rgb_numbers", "whole_number"]

# Nothing that is counted here is larger; longer words would take Python's own parser ages, or fail in it.
MOST_DIGITS = 18
# Of Linux and macOS.
LONGEST_NAME, LONGEST_PATH = 255, 4000


def whole_number(text: str, name: str, low: int = 0, high: int = 10**MOST_DIGITS) -> int:
    """Read a whole number of plain digits.

    >>> whole_number("4000", "count", 1)
    4000

    Raises:
        ArgumentError: it is none, or out of range.
    """
    plain = text.strip()
    if not (plain.isascii() and plain.isdecimal()):
        shown = plain if len(plain) < 40 else f"{plain[:20]}..."
        raise ArgumentError(f"{name} must be a whole number, not {shown!r}.")
    if len(plain.lstrip("0")) > MOST_DIGITS:
        raise ArgumentError(f"{name} must be at most {high}, but has {len(plain)} digits.")
    check_range(name, int(plain), low, high)
    return int(plain)


def decimal_number(text: str, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Read a finite number; errors as in `whole_number`."""
    try:
        value = float(text) if text.isascii() and len(text) < 40 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentError(f"{name} must be a number, not {text[:40]!r}.")
    check_range(name, value, low, high)
    return value


def rgb_numbers(values: Sequence[float], name: str, low: float, high: float) -> tuple[float, float, float]:
    """Return one number a channel, all of them finite and within a range; errors as in `whole_number`."""
    if len(values) != 3:
        raise ArgumentError(f"{name} must be three numbers, one per channel, not {values!r}.")
    for value in values:
        check_range(name, value, low, high)
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def as_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a word names, `~` expanded.

    Raises:
        ArgumentError: it cannot be one: it is empty, holds NUL, or is no UTF-8.
    """
    word = os.fspath(text)
    try:
        word.encode("utf-8")
        if not word or "\0" in word:
            raise ValueError("empty, or with a NUL in it")
        path = _expanded(Path(word))
        # Systems raise an error of their own where they are only asked whether there is such a file.
        if len(word) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            raise ValueError(f"longer than the {LONGEST_NAME} bytes of a name or the {LONGEST_PATH} of a path")
    except ValueError as error:
        # A lone surrogate is a byte that is no UTF-8.
        shown = ascii(word) if len(word) < 80 else f"{word[:40]!a}..."
        raise ArgumentError(f"path {shown} cannot be one ({error}).") from None
    return path


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        # `~nobody` is nobody's home, so that it stays a name, as in a shell.
        return path


def existing_path(text: str | os.PathLike[str]) -> Path | None:
    """Return the file or folder that a word names as it stands, `~` expanded; None where there is none.

    A path that exists is a path, whatever `@`, `:` or comma it holds; of one that was written on Windows, `/` is tried
    for each backslash.
    """
    try:
        path = as_path(text)
        for candidate in (path, Path(str(path).replace("\\", "/"))):
            if candidate.exists():
                return candidate
    except (ArgumentError, OSError, ValueError):
        pass
    return None
