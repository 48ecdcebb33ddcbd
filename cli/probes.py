"""`couplingkit probes`: look at probes before hours are spent on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .data_options import data_options, probe_options
from .model_options import device_option
from .options import out_options, seed_option

__all__ = ["probes"]

HEADINGS = ("A alone", "A beside B", "B alone", "A beside C")
STRIDES = (8, 14, 16, 32)


@click.group(short_help="Look at the probes that a measurement would use.")
def probes() -> None:
    """Work with probes: the pictures that a measurement shows to a network."""


@probes.command(short_help="Draw the first probes as a sheet of pictures.")
@data_options
@click.option("--probes", "count", type=click.IntRange(1, 64), default=8, show_default=True, help="How many to draw.")
@probe_options
@click.option(
    "--image-size", type=click.IntRange(32, 1024), default=224, show_default=True, help="Of each picture, px."
)
@seed_option
@device_option
@out_options("preview.png")
def preview(count: int, image_size: int, device: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Draw the first probes as pictures, one row each, and say what the data gives.

    They are the same probes that `measure` uses with the same options; where --canvas is mean, gray stands for the
    colour that each model brings. The suffix of --out chooses png, pdf or svg.

    \b
    Example:
      couplingkit probes preview --annotations instances.json --images images/ --out preview.png
    """
    from ..data.coco import Eligibility
    from ..errors import OutputError
    from ..features.hardware import resolve_device
    from ..features.regions import region_weights
    from ..figures.plots import probe_sheet, save_figure
    from ..files import check_free, new_file
    from ..probes.placement import ProbeSpec
    from ..probes.probeset import ProbeSet

    path = out or Path("preview.png")
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise OutputError(f"out {path} must end in .png, .pdf or .svg; the suffix chooses the format.")
    check_free(path, overwrite=overwrite, folder=False)
    spec = ProbeSpec(**{key: options[key] for key in ("object_size", "gap", "canvas", "pairing", "visible", "control")})
    found = ProbeSet.from_coco(
        options["annotations"],
        options["images"],
        count=count,
        seed=options["seed"],
        spec=spec,
        eligibility=Eligibility(options["min_area"], options["allow_border"]),
    )
    batch = found.render(range(count), size=image_size, device=resolve_device(device))
    columns = [images for images in (batch.alone, batch.together, batch.partner, batch.control) if images is not None]
    rows = [[images[row].permute(1, 2, 0).cpu().numpy() for images in columns] for row in range(count)]
    captions = [_caption(found, number) for number in range(count)]
    with new_file(path, overwrite=overwrite) as draft:
        save_figure(probe_sheet(rows, captions, HEADINGS[: len(columns)]), draft)
    click.echo(f"{len(found.index.objects)} eligible objects; {found.index.what_was_dropped()}")
    beside = batch.mask_b if batch.mask_c is None else batch.mask_b | batch.mask_c
    for stride in STRIDES:
        cells_a = region_weights(batch.mask_a, beside, stride_px=stride).sum(dim=(1, 2))
        cells_b = region_weights(batch.mask_b, batch.mask_a, stride_px=stride).sum(dim=(1, 2))
        good = int(((cells_a >= 1) & (cells_b >= 1)).sum())
        click.echo(f"stride {stride:2d} px at {image_size} px: {good} of {count} probes can be measured")
    click.echo(f"Wrote {path}")


def _caption(found: Any, number: int) -> str:
    pair = found.pairs[number]
    a, b, *c = found.categories(number)
    return f"probe {pair.number}: A {a}, B {b}" + (f", C {c[0]}" if c else "")
