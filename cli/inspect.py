"""`couplingkit inspect`: how a model will be read, before anything is measured with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .model_options import model_options
from .options import seed_option

__all__ = ["inspect"]

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@click.command(short_help="Say how a checkpoint or model is read: format, branch, architecture, ...")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@model_options
@seed_option
@click.option("--out", type=click.Path(path_type=Path), help="Write the same as JSON. [default: only printed]")
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
def inspect(models: tuple[str, ...], out: Path | None, overwrite: bool, **options: Any) -> None:
    """Load each MODEL, run it once, and say what was found.

    That is the file's format and SHA-256, which branch is read and what is left out, the architecture, the map's stride
    and channels, and the normalisation with where it comes from.

    MODEL and the options are as in `couplingkit measure`; what is printed here is what it would measure.

    \b
    Example:
      couplingkit inspect dino_vitsmall16.pth
      couplingkit inspect checkpoint.pth --branch student --layer 3,7,11
    """
    from ..errors import CouplingKitError
    from ..files import check_free, new_file

    if out is not None:
        check_free(out, overwrite=overwrite, folder=False)
    records, failed = [], 0
    for name in models:
        try:
            records += _records(name, options)
        except CouplingKitError as error:
            if len(models) == 1:
                raise
            failed += 1
            click.echo(f"{name}: {error}", err=True)
    for record in records:
        click.echo(_text(record) + "\n")
    if out is not None:
        with new_file(out, overwrite=overwrite) as draft:
            draft.write_text(json.dumps(records, indent=1) + "\n")
        click.echo(f"Wrote {out}", err=True)
    if failed:
        raise SystemExit(2)


def _records(name: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    from ..errors import NormalisationError
    from ..features.loading import load_layers

    try:
        return [layer.provenance() for layer in load_layers(name, **options).layers]
    except NormalisationError:
        # Everything else can be said of the file all the same.
        given = {key: options[key] or value for key, value in IMAGENET.items()}
        layers = load_layers(name, **{**options, **given}).layers
        unknown = {"mean": None, "std": None, "normalisation": "not known"}
        return [{**layer.provenance(), **unknown} for layer in layers]


def _text(record: dict[str, Any]) -> str:
    height, width = record["image_size"]
    way = record.get("input", "native")
    asked = "its native size" if way == "native" else f"by {way}; native {_size(record.get('native_size'))}"
    lines = {
        "model": record["name"],
        "format": record.get("format"),
        "branch": _branch(record),
        "found at": record.get("key"),
        "weights": record.get("weights"),
        "sha256": f"{record['weights_sha256']} (of the {record['sha256_of']})" if "weights_sha256" in record else None,
        "architecture": _architecture(record),
        "parameters": f"{record['parameters'] / 1e6:.1f} million",
        "input": f"{height} x {width} px ({asked})",
        "heads": record.get("heads"),
        "interpolation": record.get("interpolation"),
        "map": f"stride {record['stride_px']} px, {record['channels']} channels",
        "layer": record.get("layer"),
        "norm": record.get("norm"),
        "mean, std": _normalisation(record),
        "left out": "; ".join(record.get("left_out", ())) or None,
        "precision": f"{record['precision']} on {record['device']}",
    }
    told = [f"{label:14s}{value}" for label, value in lines.items() if value is not None]
    return "\n".join([*told, *(f"note          {note}" for note in record.get("notes", ()))])


def _size(size: list[int] | None) -> str:
    return f"{size[0]} x {size[1]} px" if size else "not stated"


def _branch(record: dict[str, Any]) -> str | None:
    others = [name for name in record.get("branches", ()) if name != record["branch"]]
    also = f" (--branch {' or '.join(others)} reads another)" if others else ""
    return f"{record['branch']}{also}" if record.get("branch") else None


def _architecture(record: dict[str, Any]) -> str:
    settings = "".join(f",{key}={value}" for key, value in record.get("options", {}).items())
    return f"{record.get('architecture')}{settings} ({record.get('source')})"


def _normalisation(record: dict[str, Any]) -> str:
    if record["mean"] is None:
        return "not known; measure needs --mean and --std"
    mean, std = (" ".join(f"{value:g}" for value in record[key]) for key in ("mean", "std"))
    return f"{mean}, {std} ({record.get('normalisation', 'as built')})"
