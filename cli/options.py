"""Options that all commands share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["Decorator", "batch_size_option", "format_option", "out_options", "seed_option", "together"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    """Return several options as one decorator, in the order in which --help is to list them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of everything that is drawn at random.",
)


batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Images per forward pass; changes speed and memory only.",
)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "json", "csv"]),
    default="table",
    show_default=True,
    help="Of what is printed on standard output.",
)


def out_options(default: str) -> Decorator:
    """Return --out and --overwrite; `default` says in words where results go otherwise."""
    return together(
        click.option("--out", type=click.Path(path_type=Path), help=f"Where the results go. [default: {default}]"),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Replace what is at --out; the old is kept until the new is whole.",
        ),
    )
