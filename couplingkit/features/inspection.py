"""A model's name in, how it will be read out: its format, branch, architecture, map and normalisation."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ..errors import NormalisationError
from .loading import load_layers
from .names import IMAGENET_MEAN, IMAGENET_STD, BackboneOptions

__all__ = ["inspect_model", "inspection_text"]


def inspect_model(name: str, options: BackboneOptions) -> list[dict[str, Any]]:
    """Load a model, run it once, and return what its record says, of each layer; errors as in `load_layers`."""
    try:
        return [layer.provenance() for layer in load_layers(name, **asdict(options)).layers]
    except NormalisationError:
        # Everything else can be said of the file all the same.
        known = replace(options, mean=options.mean or IMAGENET_MEAN, std=options.std or IMAGENET_STD)
        layers = load_layers(name, **asdict(known)).layers
        return [{**layer.provenance(), "mean": None, "std": None, "normalisation": "not known"} for layer in layers]


def inspection_text(record: dict[str, Any]) -> str:
    """Return a record as lines for people."""
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
    also = f" (`branch={others[0]}` reads another)" if others else ""
    return f"{record['branch']}{also}" if record.get("branch") else None


def _architecture(record: dict[str, Any]) -> str:
    settings = "".join(f",{key}={value}" for key, value in record.get("options", {}).items())
    return f"{record.get('architecture')}{settings} ({record.get('source')})"


def _normalisation(record: dict[str, Any]) -> str:
    if record["mean"] is None:
        return "not known; measure needs `mean` and `std`"
    mean, std = (" ".join(f"{value:g}" for value in record[key]) for key in ("mean", "std"))
    return f"{mean}, {std} ({record.get('normalisation', 'as built')})"
