"""Callbacks of options that are sizes: of a batch, of a cache."""

from __future__ import annotations

import click

__all__ = ["batch_count", "byte_count"]


def batch_count(_context: click.Context, _parameter: click.Parameter, text: str) -> int | str:
    """Read a number of images, or auto."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 2**20):
        raise click.BadParameter(f"{text[:40]!r} is neither auto nor a number of images from 1 to {2**20:,}.")
    return int(text)


def byte_count(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    """Read 4G, 500M or 0 as bytes."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        count = float(number) * units.get(unit, 1)
    except ValueError:
        count = -1.0
    if not 0 <= count < 2**60 or (unit and unit not in units):
        raise click.BadParameter(f"{text[:40]!r} is no size like 4G, 500M or 0.")
    return int(count)
