"""Options of the commands that show photos or probes to a model."""

from __future__ import annotations

from pathlib import Path

import click

from .options import Decorator, together

__all__ = [
    "SPEC_OPTIONS",
    "data_options",
    "fit_option",
    "image_option",
    "optional_data_options",
    "pair_options",
    "probe_options",
]

SPEC_OPTIONS = ("object_size", "gap", "canvas", "pairing", "visible", "control")


def _data_options(*, required: bool) -> Decorator:
    return together(
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
            help="Folder that the JSON's file names start from, or a zip or tar of it.",
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

pair_options = together(
    click.option(
        "--pairing",
        type=click.Choice(["different", "any", "same"]),
        default="different",
        show_default=True,
        help="Categories of the two objects.",
    ),
    click.option(
        "--control/--no-control",
        default=True,
        show_default=True,
        help="Measure a third object in the second one's place, too (one forward pass in four).",
    ),
)

probe_options = together(
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
        "--visible",
        type=click.FloatRange(0.05, 1),
        default=1.0,
        show_default=True,
        help="Share of the first object that is left visible.",
    ),
    pair_options,
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
