"""Options of the commands that load models, and the check of what they say before any work."""

from __future__ import annotations

from typing import Any

import click

from .options import together

__all__ = [
    "BACKBONE_OPTIONS",
    "check_models",
    "device_option",
    "label_option",
    "labels_of",
    "model_options",
    "rgb",
    "size",
]

BACKBONE_OPTIONS = (
    *("layer", "norm", "image_size", "output_stride", "mean", "std", "branch", "key", "trust"),
    *("precision", "device", "seed"),
)


def rgb(_context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float, float] | None:
    """Read `0.5` or `0.485,0.456,0.406`."""
    if value is None:
        return None
    try:
        numbers = [float(part) for part in value.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise click.BadParameter(f"{value!r} is not one number or three with commas, like 0.485,0.456,0.406.") from None
    return first, second, third


def size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Read `224` or `336x224`."""
    from ..errors import ArgumentError
    from ..features.names import parse_size

    try:
        return None if value is None else parse_size(value)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto (a GPU where there is one), cpu, cuda, cuda:1, ...",
)

model_options = together(
    click.option(
        "--layer",
        default="last",
        show_default=True,
        help="last, an index, or a submodule's name (torchvision, hub); several with commas, like 3,7,11, take one "
        "forward pass.",
    ),
    click.option(
        "--norm",
        type=click.Choice(["applied", "raw"]),
        help="Whether the network's final norm is applied to the layer. [default: applied where it is trained]",
    ),
    click.option(
        "--image-size",
        callback=size,
        metavar="SIDE|HxW",
        help="Input in px: a side, or HEIGHTxWIDTH like 336x224. [default: the model's own]",
    ),
    click.option(
        "--output-stride",
        type=click.IntRange(1, 64),
        help="Px per cell of a CNN that can be dilated, like 16 or 8. [default: the model's own]",
    ),
    click.option(
        "--branch", help="Network to read of a checkpoint with several. [default: the format's: query, teacher]"
    ),
    click.option(
        "--key", help="Where the weights are in a checkpoint of unknown format, like state_dict.module.encoder."
    ),
    click.option(
        "--trust-checkpoint",
        "trust",
        is_flag=True,
        help="Open checkpoints that hold Python objects; this runs whatever code they name.",
    ),
    click.option("--mean", callback=rgb, help="Normalisation: one number or three. [default: the weights' own]"),
    click.option("--std", callback=rgb, help="Normalisation: one number or three. [default: the weights' own]"),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        show_default=True,
        help="Of the forward passes; auto is bfloat16 where the hardware is made for it.",
    ),
    device_option,
)


label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    help="What figures call a model; once per model, in their order. [default: the names without folders]",
)


def labels_of(names: list[str], models: tuple[str, ...], labels: tuple[str, ...]) -> list[str] | None:
    """Return the labels of columns, which are models or layers of models; None without --label."""
    if not labels:
        return None
    found = []
    for name in names:
        # Of models of which one is the start of the other, the longer one is meant.
        model = max((model for model in models if name.startswith(model)), key=len)
        found.append(labels[models.index(model)] + name[len(model) :])
    return found


def check_models(models: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse words that cannot be models and options out of range before any photo is read."""
    from ..errors import ArgumentError
    from .choices import Choice

    for name in models:
        Choice(name, {key: options[key] for key in BACKBONE_OPTIONS}).check()
    twice = [name for name in dict.fromkeys(models) if models.count(name) > 1]
    if twice:
        raise ArgumentError(f"model {twice[0]!r} is named {models.count(twice[0])} times; name each model once.")
    labels = options.get("labels", ())
    if labels and len(labels) != len(models):
        raise ArgumentError(f"--label must be given once per model, but came {len(labels)} times for {len(models)}.")
