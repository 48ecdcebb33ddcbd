"""`couplingkit probes`: look at probes before hours are spent on them, and write down which they are."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from .asked import claim, eligibility, named_figure, probe_spec
from .command import Command, as_options
from .options import data_options, device_option, out_options, probe_options, seed_option

__all__ = ["probes"]

HEADINGS = ("A alone", "A beside B", "B alone", "A beside C")
STRIDES = (8, 14, 16, 32)


@click.group(short_help="Look at the probes that a measurement would use, and write down which they are.")
def probes() -> None:
    """Work with probes: the pictures that a measurement shows to a network."""


@probes.command(cls=Command, short_help="Write which probes a seed draws as a manifest that others replay.")
@data_options(required=False)
@click.option("--probes", "count", type=click.IntRange(1, 10**6), default=500, show_default=True, help="How many.")
@probe_options
@click.option(
    "--widest-gap",
    type=click.IntRange(0, 224),
    help="Choose third objects that fit beside A at gaps up to this, so that the set serves sweeps. [default: --gap]",
)
@click.option("--name", help="What reports call the set. [default: the file's name]")
@seed_option
@device_option
@out_options("probes.json")
def make(count: int, widest_gap: int | None, name: str | None, device: str, overwrite: bool, **options: Any) -> None:
    """Write a manifest: annotation ids, placements and the rules that chose them; never pixels.

    Whoever has the same annotations gets the same probes from it. With --images their pictures are drawn, too, and the
    manifest promises their fingerprint, so that other photos, or photos that were encoded anew, are noticed. (Pictures
    are drawn on the CPU, so that --device changes nothing.)

    \b
    Example:
      couplingkit probes make --annotations instances_val2017.json --images val2017/ --probes 5000 --out val2017_5k.json
      couplingkit measure dino.pth --probes val2017_5k.json --annotations instances_val2017.json --images val2017/
    """
    from ..errors import ArgumentError
    from ..files import new_file
    from ..probes.drawing import draw_manifest
    from ..probes.manifest import MANIFEST_MARK
    from ..probes.probeset import ProbeSet

    path = options["out"] or Path("probes.json")
    claim(path, overwrite=overwrite, folder=False, mark=MANIFEST_MARK)
    if options["annotations"] is None:
        raise ArgumentError("--annotations is needed, or --masks: the objects that probes are made of.")
    title, spec = name or path.stem, probe_spec(options)
    how: dict[str, Any] = {"count": count, "seed": options["seed"], "eligibility": eligibility(options)}
    how["spec"] = replace(spec, gap=max(spec.gap, widest_gap or 0))
    if options["images"] is None:
        manifest = draw_manifest(options["annotations"], name=title, **how)
        manifest = replace(manifest, spec=replace(spec, design=manifest.spec.design))
    else:
        drawn = ProbeSet.from_coco(options["annotations"], options["images"], **how).vary(**asdict(spec))
        drawn.name = title
        drawn.fingerprint(progress=True)
        manifest = drawn.manifest()
    text = manifest.text()
    with new_file(path, overwrite=overwrite, mark=MANIFEST_MARK) as draft:
        draft.write_text(text, encoding="utf-8")
    promise = f"fingerprint {manifest.fingerprint}" if manifest.fingerprint else "no fingerprint (--images gives one)"
    click.echo(f"Wrote {path}: {count} probes of {len(manifest.objects)} objects, {len(text) / 1e3:.0f} kB, {promise}")


@probes.command(cls=Command, short_help="List the probe sets that come with couplingkit.")
def sets() -> None:
    """List the probe sets that come with couplingkit, for --probes of `measure` and `sweep`."""
    from ..probes.manifest import read_manifest
    from ..runs.probe_sets import shipped_sets

    for name, path in shipped_sets().items():
        manifest = read_manifest(path)
        click.echo(f"{name}: {len(manifest.pairs)} probes, {manifest.annotations.file}, seed {manifest.seed}")


@probes.command(cls=Command, short_help="Draw the first probes as a sheet of pictures.")
@data_options(required=True)
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
    from ..errors import ArgumentError
    from ..features.hardware import resolve_device
    from ..figures.plots import probe_sheet, save_figure
    from ..files import new_file
    from ..probes.probeset import ProbeSet
    from ..study.region_features import probe_weights

    path = named_figure(out or Path("preview.png")) or Path("preview.png")
    claim(path, overwrite=overwrite, folder=False)
    if options["annotations"] is None:
        raise ArgumentError("--annotations is needed, or --masks: the objects that probes are made of.")
    found = ProbeSet.from_coco(
        options["annotations"],
        options["images"],
        count=count,
        seed=options["seed"],
        spec=probe_spec(options),
        eligibility=eligibility(options),
    )
    batch = found.render(range(count), size=image_size, device=resolve_device(device))
    shown = [images for images in (batch.alone, batch.together, batch.partner, batch.control) if images is not None]
    rows = [[images[row].permute(1, 2, 0).cpu().numpy() for images in shown] for row in range(count)]
    with new_file(path, overwrite=overwrite) as draft:
        save_figure(
            probe_sheet(rows, [_caption(found, number) for number in range(count)], HEADINGS[: len(shown)]), draft
        )
    click.echo(as_options(f"{len(found.index.objects)} eligible objects; {found.index.what_was_dropped()}"))
    for stride in STRIDES:
        cells_a, cells_b = (weights.sum(dim=(1, 2)) for weights in probe_weights(batch, stride))
        good = int(((cells_a >= 1) & (cells_b >= 1)).sum())
        click.echo(f"stride {stride:2d} px at {image_size} px: {good} of {count} probes can be measured")
    click.echo(f"Wrote {path}")


def _caption(found: Any, number: int) -> str:
    pair = found.pairs[number]
    a, b, *c = found.categories(number)
    return f"probe {pair.number}: A {a}, B {b}" + (f", C {c[0]}" if c else "")
