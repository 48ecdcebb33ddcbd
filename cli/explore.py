"""`couplingkit explore`: a page on which every click shows each model's affinity map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from .data_options import fit_option, image_option, optional_data_options
from .model_options import BACKBONE_OPTIONS, check_models, label_option, labels_of, model_options
from .options import batch_size_option, out_options, seed_option

if TYPE_CHECKING:
    from ..figures.explorer import ExplorerPhoto
    from .pictures import Pictures

__all__ = ["explore"]


@click.command(short_help="Write a page on which a click shows each model's affinity map.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@image_option
@optional_data_options
@click.option(
    "--examples", type=click.IntRange(1, 40), default=6, show_default=True, help="Photos chosen from the annotations."
)
@click.option("--exact", is_flag=True, help="Embed every channel of the features; a page several times as large.")
@fit_option
@label_option
@model_options
@batch_size_option
@seed_option
@out_options("explorer.html")
def explore(models: tuple[str, ...], out: Path | None, overwrite: bool, **options: Any) -> None:
    """Write one HTML file on which a click or a drag on a photo shows each MODEL's affinity map, side by side.

    The file holds the photos and the features; it needs no server and no network and opens anywhere. Features are
    reduced so that affinities differ by less than 0.01 from the exact ones; the page says by how much. --exact embeds
    them whole.

    \b
    Examples:
      couplingkit explore vit.pth resnet50 --image a.jpg --image b.jpg --out explorer.html
      couplingkit explore vit.pth --annotations instances.json --images images/ --examples 6
      couplingkit explore vit.pth --image images/000000000139.jpg --annotations instances.json    # with its masks

    MODEL and its options are as in `couplingkit measure`.
    """
    from ..errors import ArgumentError
    from ..figures.explorer import explorer_page
    from ..figures.tables import short_labels
    from ..files import check_free, new_file
    from ..study import read_photos
    from .pictures import check_sources
    from .session import describe, each_model

    check_sources(options["pictures"], options["annotations"], options["images"])
    path = out or Path("explorer.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"out {path} must end in .html.")
    check_free(path, overwrite=overwrite, folder=False)
    check_models(models, options)
    pictures, photos = _photos(options)

    def work(backbone: Any) -> list[Any]:
        read = list(read_photos(backbone, pictures.rgb, fit=options["fit"], batch_size=options["batch_size"]))
        return [
            (layer.name, [of_layers[place] for of_layers in read], layer.provenance())
            for place, layer in enumerate(backbone.layers)
        ]

    found, failures = each_model(models, {key: options[key] for key in BACKBONE_OPTIONS}, work)
    for name, _, provenance in found:
        for note in provenance.get("notes", ()):
            click.echo(f"Note on {name}: {note}", err=True)
    # The page may be passed on: it says how the models were read, but not where things lie on this machine.
    names = [name for name, _, _ in found]
    labels = labels_of(names, models, options["labels"]) or short_labels(names)
    facts = [describe(provenance | {"name": label}) for label, (_, _, provenance) in zip(labels, found, strict=True)]
    made = [*facts, f"photos shown to the models by --fit {options['fit']}; couplingkit {__version__}"]
    maps = [(name, features) for name, features, _ in found]
    page = explorer_page(photos, maps, exact=options["exact"], labels=labels, made=made)
    with new_file(path, overwrite=overwrite) as draft:
        draft.write_text(page, encoding="utf-8")
    click.echo(f"Wrote {path} ({len(page.encode()) / 1e6:.1f} MB, {len(photos)} photos, {len(found)} models)", err=True)
    failed = pictures.failures + failures
    if failed:
        click.echo(f"{len(failed)} failed: {'; '.join(failed)}", err=True)
        raise SystemExit(2)


def _photos(options: dict[str, Any]) -> tuple[Pictures, list[ExplorerPhoto]]:
    """Return the photos, and the same with what is annotated on them."""
    from ..data.segmentation import rle_mask
    from ..figures.explorer import ExplorerPhoto
    from ..study import draw_queries
    from .annotated import annotated, photos_of, read_index, spread_out
    from .pictures import open_pictures

    if not options["pictures"]:
        queries = draw_queries(read_index(options), count=5 * options["examples"], seed=options["seed"])
        objects = [query.photo for query in spread_out(queries, options["examples"])]
        pictures = photos_of(objects, options["images"])
        known = dict(enumerate(objects))
    elif options["annotations"] is None:
        pictures, known = open_pictures(options["pictures"]), {}
    else:
        pictures, known = annotated(options["pictures"], options["annotations"])
    photos = []
    for number, (name, rgb) in enumerate(zip(pictures.names, pictures.rgb, strict=True)):
        records = known[number].objects if number in known else ()
        photos.append(ExplorerPhoto(name, rgb, [(record.category, rle_mask(record.rle)) for record in records]))
    return pictures, photos
