"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = [
    "BACKBONE_OPTIONS",
    "batch_size_option",
    "check_models",
    "data_options",
    "fit_option",
    "format_option",
    "image_option",
    "model_options",
    "optional_data_options",
    "out_options",
    "probe_options",
    "rgb",
    "seed_option",
    "size",
]

BACKBONE_OPTIONS = (
    *("layer", "norm", "image_size", "output_stride", "mean", "std", "branch", "key", "trust"),
    *("precision", "device", "seed"),
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _together(*options: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


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


seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of everything that is drawn at random.",
)


def _data_options(*, required: bool) -> Decorator:
    return _together(
        click.option(
            "--annotations",
            type=click.Path(path_type=Path),
            required=required,
            help="Instances JSON with masks, in COCO's format.",
        ),
        click.option(
            "--images",
            type=click.Path(path_type=Path),
            required=required,
            help="Folder that the JSON's file names start from.",
        ),
        click.option(
            "--min-area",
            type=click.IntRange(1),
            default=4096,
            show_default=True,
            help="Smallest mask of an object that is used, in px of its photo.",
        ),
        click.option("--allow-border", is_flag=True, help="Use objects that the border of their photo cuts off, too."),
    )


data_options = _data_options(required=True)
optional_data_options = _data_options(required=False)

probe_options = _together(
    click.option(
        "--object-size",
        type=click.IntRange(1, 224),
        default=80,
        show_default=True,
        help="Longer side of each object, in units of 1/224 of the canvas.",
    ),
    click.option(
        "--gap",
        type=click.IntRange(0, 224),
        default=16,
        show_default=True,
        help="Between the two objects, in units.",
    ),
    click.option(
        "--canvas",
        type=click.Choice(["mean", "gray", "noise", "image"]),
        default="mean",
        show_default=True,
        help="What lies behind the objects; mean is the colour that the model's normalisation sends to 0.",
    ),
    click.option(
        "--pairing",
        type=click.Choice(["different", "any", "same"]),
        default="different",
        show_default=True,
        help="Categories of the two objects.",
    ),
    click.option(
        "--visible",
        type=click.FloatRange(0.05, 1),
        default=1.0,
        show_default=True,
        help="Share of the first object that is left visible.",
    ),
    click.option(
        "--control/--no-control",
        default=True,
        show_default=True,
        help="Measure a third object in the second one's place, too (one forward pass in four).",
    ),
)

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto (a GPU where there is one), cpu, cuda, cuda:1, ...",
)

model_options = _together(
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

image_option = click.option(
    "--image",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A picture of any kind; may be given several times.",
)

fit_option = click.option(
    "--fit",
    type=click.Choice(["stretch", "pad"]),
    default="stretch",
    show_default=True,
    help="How a photo becomes the model's input: stretched to it, or whole in its middle with the mean colour around; "
    "--image-size HxW with the photo's aspect needs neither.",
)


def check_models(models: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse words that cannot be models and options out of range before any photo is read."""
    from ..errors import ArgumentError
    from ..features.hardware import resolve_device
    from ..features.names import BackboneOptions, parse_model_name, split_layers

    for name in models:
        parse_model_name(name)
    twice = [name for name in dict.fromkeys(models) if models.count(name) > 1]
    if twice:
        raise ArgumentError(f"model {twice[0]!r} is named {models.count(twice[0])} times; name each model once.")
    split_layers(options["layer"])
    BackboneOptions(**{key: options[key] for key in BACKBONE_OPTIONS})
    resolve_device(options["device"])


def out_options(default: str) -> Decorator:
    """Return --out and --overwrite; `default` says in words where results go otherwise."""
    return _together(
        click.option("--out", type=click.Path(path_type=Path), help=f"Where the results go. [default: {default}]"),
        click.option(
            "--overwrite",
            is_flag=True,
            help="Replace what is at --out; the old is kept until the new is whole.",
        ),
    )
