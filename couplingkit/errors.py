"""Every error that couplingkit raises on purpose, and the one wording in which arguments are refused."""

from __future__ import annotations

import difflib
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


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise `ArgumentError` unless `low <= value <= high` (NaN never is).

    >>> check_range("gap", 16, 0, 224)
    """
    if not low <= value <= high:
        expected = f"at least {low:g}" if high == float("inf") else f"between {low:g} and {high:g}"
        raise ArgumentError(f"{name} must be {expected}, but is {value:g}.")


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


def near(name: str, known: Iterable[str]) -> str:
    """Say which known names are spelled like `name`, as the tail of an error sentence; '' if none is.

    >>> near("resnet5", ["resnet50", "vit"])
    ' (near: resnet50)'
    """
    matches = difflib.get_close_matches(name, list(known), n=5, cutoff=0.6)
    return f" (near: {', '.join(matches)})" if matches else ""
