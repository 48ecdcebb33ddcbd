"""Every error that couplingkit raises on purpose, and the one wording in which arguments are refused."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "BackboneError",
    "CouplingKitError",
    "DataError",
    "MeasurementError",
    "NormalisationError",
    "OutputError",
    "check_range",
    "first_line",
    "listed",
    "near",
]


class CouplingKitError(Exception):
    """Base of all refusals: one sentence that says what was expected, what came and what to do.

    On the command line it ends the run with exit code 2 and no traceback.
    """


class ArgumentError(CouplingKitError, ValueError):
    """An argument or option lies outside what it may be."""


class DataError(CouplingKitError):
    """An annotation file or an image is missing, broken or contradicts itself."""


class BackboneError(CouplingKitError):
    """A network cannot be named, built, loaded, or read as a map of features."""


class NormalisationError(BackboneError):
    """What images are normalised with cannot be told from a model, and guessing would make every number wrong."""


class MeasurementError(CouplingKitError):
    """A measurement cannot be trusted: a control failed, features are not finite, or no probe could be read."""


class OutputError(CouplingKitError):
    """A result cannot be written where it was asked to be."""


# Whole numbers up to here are told apart by every program that reads them.
MOST = 2**53


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise `ArgumentError` unless `low <= value <= high`; what is not finite never is, nor a whole number over 2**53.

    >>> check_range("gap", 16, 0, 224)
    """
    if isinstance(value, int) and high == float("inf") and value > MOST:
        high = MOST
    if not (low <= value <= high and math.isfinite(value)):
        expected = f"at least {_number(low)}" if high == float("inf") else f"between {_number(low)} and {_number(high)}"
        raise ArgumentError(f"{name} must be {expected}, but is {_number(value)}.")


def _number(value: float) -> str:
    if not math.isfinite(value) or value != int(value) or abs(value) >= 1e15:
        return f"{value:g}"
    return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of a library says, or its kind where it says nothing.

    >>> first_line(ValueError("no such thing\\nfor a long reason")), first_line(KeyError())
    ('no such thing', 'KeyError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def listed(names: Iterable[object], *, most: int = 6) -> str:
    """Join names for a sentence and count what was left away.

    >>> listed("abc", most=2)
    'a, b and 1 more'
    """
    words = [str(name) for name in names]
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Return how many there are, in English.

    >>> counted(1, "category", "categories"), counted(2, "photo"), counted(12_000, "object")
    ('1 category', '2 photos', '12,000 objects')
    """
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def near(name: str, known: Iterable[str]) -> str:
    """Say which known names are spelled like `name`, as the tail of an error sentence; '' if none is.

    >>> near("resnet5", ["resnet50", "vit"])
    ' (near: resnet50)'
    """
    matches = difflib.get_close_matches(name, list(known), n=5, cutoff=0.6)
    return f" (near: {', '.join(matches)})" if matches else ""
