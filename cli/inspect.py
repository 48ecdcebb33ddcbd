"""`couplingkit inspect`: how a model will be read, before anything is measured with it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .asked import backbone_options, claim
from .command import Command, as_options
from .options import model_options, models_argument, out_options, seed_option

__all__ = ["inspect"]


@click.command(cls=Command, short_help="Say how a checkpoint or model is read: format, branch, architecture, ...")
@models_argument
@model_options
@seed_option
@out_options("only printed")
def inspect(models: tuple[str, ...], out: Path | None, overwrite: bool, **options: Any) -> None:
    """Load each MODEL, run it once, and say what was found.

    That is the file's format and SHA-256, which branch is read and what is left out, the architecture, the map's stride
    and channels, the normalisation with where it comes from, and the command that measures it. Of a weights file it
    shows what is in it, as a tree of names, also where it cannot be read.

    MODEL and the options are as in `couplingkit measure`; what is printed here is what it would measure. --out gets the
    same as JSON.

    \b
    Example:
      couplingkit inspect dino_vitsmall16.pth
      couplingkit inspect checkpoint.pth --branch student --layer 3,7,11
    """
    from ..errors import CouplingKitError
    from ..features.inspection import contents_of, inspect_model, inspection_text
    from ..files import new_file
    from ..typed_files import json_text

    if out is not None:
        claim(out, overwrite=overwrite, folder=False)
    asked = backbone_options(options)
    records: list[dict[str, Any]] = []
    failed = 0
    for name in models:
        try:
            first, *others = inspect_model(name, asked)
            records += [first | {"contents": contents_of(name, asked)}, *others]
        except CouplingKitError as error:
            show_contents(contents_of(name, asked))
            if len(models) == 1:
                raise
            failed += 1
            click.echo(f"{name}: {as_options(str(error))}", err=True)
    for record in records:
        click.echo(as_options(inspection_text(record)) + f"\nmeasured by   {command_of(record)}\n")
        show_contents(record.get("contents", ()))
    if out is not None:
        with new_file(out, overwrite=overwrite) as draft:
            draft.write_text(json_text({"format": "couplingkit inspect", "models": records}), encoding="utf-8")
        click.echo(f"Wrote {out}", err=True)
    if failed:
        raise SystemExit(2)


def show_contents(lines: Sequence[str]) -> None:
    """Print what a file holds."""
    if lines:
        click.echo("\n".join(["in the file", *(f"  {line}" for line in lines)]) + "\n")


def command_of(record: Mapping[str, Any]) -> str:
    """Return what measures a model as it was read."""
    unknown = ("mean", "std") if record["mean"] is None else ()
    chosen = {key: value for key, value in record.get("chosen", {}).items() if value != "last" and key not in unknown}
    options = "".join(f" --{key.replace('_', '-')} {_word(value)}" for key, value in chosen.items())
    lacking = " --mean R,G,B --std R,G,B" if unknown else ""
    name = shlex.quote(record.get("model", record["name"]))
    return f"couplingkit measure {name}{options}{lacking} --annotations JSON --images FOLDER"


def _word(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return str(value)
    # Of a size and of colours.
    return "x".join(map(str, value)) if len(value) == 2 else ",".join(f"{one:g}" for one in value)
