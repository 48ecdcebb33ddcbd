"""The name of a method in, the class that trains it and the record of its settings out: ours, and other people's."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from typing import Any

from ..errors import ArgumentError, first_line, listed, near
from .method import DenseMethod, Method
from .methods.densecl import DenseCL, DenseCLSettings
from .methods.ibot import IBOT, IBOTSettings
from .methods.maskalign import MaskAlign, MaskAlignSettings
from .methods.moco import MoCo, MoCoSettings
from .methods.soco import SoCo, SoCoSettings

__all__ = ["GROUP", "SUFFIX", "MethodKind", "has_decoupled", "method_kind", "method_names"]

# Behind a name, the same method within `Decoupled`.
SUFFIX = "-d"
# Of the entry points by which packages bring methods of their own.
GROUP = "couplingkit.methods"
# Of the settings of a method: what a checkpoint says of its networks.
NEEDED = ("architecture", "options", "mean", "std")


@dataclass(frozen=True)
class MethodKind:
    """A method that can be trained.

    Attributes:
        build: from its settings and `seed=`, the method with its first weights.
        settings: the frozen dataclass of the recipe's [method].
    """

    build: type[Method]
    settings: type

    @property
    def dense(self) -> bool:
        """Whether it has a dense output, and so an X-D."""
        return issubclass(self.build, DenseMethod)


OURS = {
    "ibot": MethodKind(IBOT, IBOTSettings),
    "moco": MethodKind(MoCo, MoCoSettings),
    "densecl": MethodKind(DenseCL, DenseCLSettings),
    "soco": MethodKind(SoCo, SoCoSettings),
    "maskalign": MethodKind(MaskAlign, MaskAlignSettings),
}


def method_names() -> list[str]:
    """Return what can be trained by name: each method, with its X-D behind it where it has one."""
    names = [*OURS, *sorted(set(_registered()) - set(OURS))]
    return [name + ending for name in names for ending in (("", SUFFIX) if has_decoupled(name) else ("",))]


def has_decoupled(method: str) -> bool:
    """Return whether there is such a method, and an X-D of it."""
    try:
        # What has no dense output has no X-D.
        return method_kind(method).dense
    except ArgumentError:
        return False


def method_kind(name: str) -> MethodKind:
    """Return a method by its name, that of an entry point of `couplingkit.methods`, or `module:Class`.

    The class is a `Method` (or a `DenseMethod`, which has an X-D) that is built from `(settings, seed=...)`, and names
    the dataclass of its settings as `Settings`. A module is looked for in the working directory, too.

    Raises:
        ArgumentError: no such method, or its class is none.
    """
    base = name.removesuffix(SUFFIX)
    if base in OURS:
        return OURS[base]
    registered = _registered()
    if ":" not in base and base not in registered:
        known = method_names()
        raise ArgumentError(
            f"method must be one of {', '.join(known)}, or MODULE:CLASS, not {name!r}{near(name, known)}."
        )
    return _others(registered.get(base, base), name)


def _registered() -> dict[str, str]:
    return {found.name: found.value for found in entry_points(group=GROUP)}


def _others(place: str, name: str) -> MethodKind:
    module, _, attribute = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        method: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        # Whatever other people's module raises when it is run.
        raise ArgumentError(f"method {name!r} cannot be had from {place} ({first_line(error)}).") from error
    settings: Any = getattr(method, "Settings", None)
    is_method = isinstance(method, type) and issubclass(method, Method)
    if not is_method or not (isinstance(settings, type) and is_dataclass(settings)):
        raise ArgumentError(
            f"method {name!r}: {place} must be a class derived from couplingkit.training.method.Method, with a "
            "dataclass `Settings`."
        )
    missing = [key for key in NEEDED if key not in {part.name for part in fields(settings)}]
    if missing:
        raise ArgumentError(f"method {name!r}: its Settings must have {listed(NEEDED)}, but have no {listed(missing)}.")
    return MethodKind(method, settings)
