"""Words that are typed in, values out."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..runs.records import Run

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class UserPath(click.ParamType):
    """A path as it was typed: `~` is the home folder, and what cannot be a path is refused."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        from ..errors import ArgumentError
        from ..words import as_path

        try:
            return as_path(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)


PATH = UserPath()


def together(*options: Decorator) -> Decorator:
    """Return several options as one decorator, in the order in which --help is to list them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def listed_values(read: Callable[[str], Any], shape: str) -> Callable[..., Any]:
    """Return a callback that reads `value,value,...`; `shape` says in words what that is like."""

    def parse(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[Any, ...] | None:
        if text is None:
            return None
        try:
            values = tuple(read(part.strip()) for part in text.split(",") if part.strip())
        except ValueError:
            values = ()
        if not values:
            raise click.BadParameter(f"{text[:60]!r} is not {shape}.")
        if len(set(values)) < len(values):
            raise click.BadParameter(f"{text[:60]!r} names a value twice.")
        return values

    return parse


def rgb(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Read `0.5` or `0.485,0.456,0.406`."""
    if value is None:
        return None
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{value[:60]!r} is not one number or three with commas, like 0.485,0.456,0.406.")
    return numbers * 3 if len(numbers) == 1 else numbers


def size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read `224` or `336x224`."""
    from ..errors import ArgumentError
    from ..features.names import parse_size

    try:
        return None if value is None else parse_size(value)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


def colour_range(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, float] | None:
    """Read `0,1`."""
    if value is None:
        return None
    if value in ("shared", "per-panel"):
        now = {"shared": "all", "per-panel": "none"}[value]
        raise click.BadParameter(f"{value} is --share-range {now} now; --range takes LOW,HIGH like 0,1.")
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not LOW,HIGH like 0,1.") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise click.BadParameter(f"{value!r} must be two finite numbers that go up, like 0,1.")
    return low, high


def point(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, float]]:
    """Read `212,140`, several times."""
    points = []
    for value in values:
        try:
            x, y = (float(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} is not X,Y in px of the picture, like 212,140.") from None
        points.append((x, y))
    return points


def terminal_width() -> int:
    """Return how many letters a line may have: those of the terminal, at least 80, which is also that of a file."""
    return max(80, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def say_where(run: Run, files: str) -> None:
    """Say which files a run wrote to its folder; of one that was there already, that there was nothing to do."""
    if run.fresh:
        click.echo(f"Wrote {files} to {run.folder}", err=True)
    else:
        said = f"{run.folder} holds the results of this very run: nothing to do. (--overwrite makes them anew.)"
        click.echo(said, err=True)


def tracker_names(words: str | None) -> tuple[str, ...]:
    """Return the trackers that words like `tensorboard,wandb` name."""
    return tuple(name.strip() for name in (words or "").split(",") if name.strip())
