"""A function that passes fields of a record on in, the same with these fields in its signature out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

__all__ = ["taking"]

Function = TypeVar("Function", bound=Callable[..., Any])


def taking(record: type) -> Callable[[Function], Function]:
    """Return a decorator that shows, in place of `**options`, the fields of a record as keyword arguments.

    Editors, notebooks and pages list them then; what is called stays as it is.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Options:
    ...     size: int = 3
    >>> @taking(Options)
    ... def load(name: str, **options):
    ...     return name, options
    >>> str(inspect.signature(load)).replace("'", "")
    '(name: str, *, size: int = 3)'
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=field.type,
            )
            for field in fields(record)
            if field.name not in signature.parameters
        ]
        function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        return function

    return decorate
