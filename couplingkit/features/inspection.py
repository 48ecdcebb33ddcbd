"""A model's name in, how it will be read out: its format, branch, architecture, map and normalisation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from ..errors import BackboneError, NormalisationError
from .checkpoints import open_checkpoint
from .loading import load_layers
from .names import IMAGENET_MEAN, IMAGENET_STD, BackboneOptions, parse_model_name
from .outline import tree

__all__ = ["contents_of", "inspect_model", "inspection_text"]


def inspect_model(name: str, options: BackboneOptions) -> list[dict[str, Any]]:
    """Load a model, run it once, and return what its record says, of each layer; errors as in `load_layers`.

    The first record has `layers`: the label, channels, stride and norm of every layer that can be read by its index.
    """
    unknown: dict[str, Any] = {}
    try:
        records = _records(name, options)
    except NormalisationError:
        # Everything else can be said of the file all the same.
        options = replace(options, mean=options.mean or IMAGENET_MEAN, std=options.std or IMAGENET_STD)
        unknown = {"mean": None, "std": None, "normalisation": "not known"}
        records = _records(name, options)
    first, *others = ({**record, **unknown} for record in records)
    return [first | {"layers": _all_layers(name, options, first)}, *others]


def contents_of(name: str, options: BackboneOptions) -> list[str]:
    """Return what a model's weights file holds, as lines of a tree; none where there is no file, or none that opens."""
    with suppress(BackboneError):
        weights = parse_model_name(name).weights
        if weights is not None:
            return tree(open_checkpoint(weights, trust=options.trust_checkpoint))
    return []


def _records(name: str, options: BackboneOptions) -> list[dict[str, Any]]:
    return [layer.provenance() for layer in load_layers(name, **asdict(options)).layers]


def _all_layers(name: str, options: BackboneOptions, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what can be chosen as `layer`; nothing where layers have names, as in torchvision's networks."""
    _, numbered, last = str(record.get("layer")).partition(" of 0..")
    if not numbered:
        return []
    every = [str(index) for index in range(int(last) + 1)]
    try:
        found = _records(name, replace(options, layer=",".join(every)))
    except BackboneError:
        # A first layer that does not tile its input, say; the others can be read all the same.
        found = []
        for index in every:
            with suppress(BackboneError):
                found += _records(name, replace(options, layer=index))
    return [{key: layer[key] for key in ("layer", "channels", "stride_px", "norm")} for layer in found]


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
        "all layers": _layers(record),
        "mean, std": _normalisation(record),
        "left out": "; ".join(record.get("left_out", ())) or None,
        "precision": f"{record['precision']} on {record['device']}",
    }
    told = [f"{label:14s}{value}" for label, value in lines.items() if value is not None]
    return "\n".join([*told, *(f"note          {note}" for note in record.get("notes", ()))])


def _layers(record: dict[str, Any]) -> str | None:
    told: dict[str, list[str]] = {}
    for layer in record.get("layers", ()):
        map_of = f"{layer['channels']} channels, stride {layer['stride_px']} px, norm {layer['norm']}"
        told.setdefault(map_of, []).append(layer["layer"].partition(" ")[0])
    lines = [f"{of[0]} to {of[-1]}: {map_of}" if len(of) > 1 else f"{of[0]}: {map_of}" for map_of, of in told.items()]
    return f"\n{'':14s}".join(lines) or None


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
