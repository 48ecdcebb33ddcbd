"""`couplingkit explore`: a page on which every click shows each model's affinity map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..version import __version__
from .asked import check_sources, claim, eligibility, model_choices
from .command import Command, as_options
from .options import (
    batch_size_option,
    data_options,
    fit_option,
    image_option,
    label_option,
    model_options,
    models_argument,
    out_options,
    seed_option,
)

if TYPE_CHECKING:
    from ..figures.explorer import ExplorerPhoto
    from ..runs.pictures import Pictures

__all__ = ["explore"]

MARK = b'name="generator" content="couplingkit"'


@click.command(cls=Command, short_help="Write a page on which a click shows each model's affinity map.")
@models_argument
@image_option
@data_options(required=False)
@click.option("--examples", type=click.IntRange(1, 40), default=6, show_default=True, help="Photos, of annotations.")
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
    from ..errors import ArgumentError, CouplingKitError
    from ..evaluation.photo_features import read_photos
    from ..figures.explorer import explorer_page
    from ..figures.labels import short_labels
    from ..files import new_file
    from ..runs.models import describe, each_model

    check_sources(options)
    path = out or Path("explorer.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"out {path} must end in .html.")
    claim(path, overwrite=overwrite, folder=False, mark=MARK)
    choices = model_choices(models, options)
    pictures, photos = _photos(options)

    def work(backbone: Any) -> list[Any]:
        read = list(read_photos(backbone, pictures.rgb, fit=options["fit"], batch_size=options["batch_size"]))
        return [
            (layer.name, [of_layers[index] for of_layers in read], layer.provenance())
            for index, layer in enumerate(backbone.layers)
        ]

    read, failures = each_model(choices, work, alone=len(choices) == 1)
    if not read:
        raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
    for name, _, provenance in read:
        for note in provenance.get("notes", ()):
            click.echo(as_options(f"Note on {name}: {note}"), err=True)
    # The page may be passed on: it says how the models were read, but not where things lie on this machine.
    labels = short_labels([name for name, _, _ in read])
    facts = [describe(provenance | {"name": label}) for label, (_, _, provenance) in zip(labels, read, strict=True)]
    made = [*facts, f"photos shown to the models by {options['fit']}; couplingkit {__version__}"]
    maps = [(name, features) for name, features, _ in read]
    page = explorer_page(photos, maps, exact=options["exact"], labels=labels, made=made)
    with new_file(path, overwrite=overwrite, mark=MARK) as draft:
        draft.write_text(page, encoding="utf-8")
    click.echo(f"Wrote {path} ({len(page.encode()) / 1e6:.1f} MB, {len(photos)} photos, {len(read)} models)", err=True)
    failed = pictures.failures + failures
    if failed:
        click.echo(f"{len(failed)} failed: {'; '.join(failed)}", err=True)
        raise SystemExit(2)


def _photos(options: dict[str, Any]) -> tuple[Pictures, list[ExplorerPhoto]]:
    """Return the photos, and the same with what is annotated on them."""
    from ..data.segmentation import rle_mask
    from ..figures.explorer import ExplorerPhoto
    from ..runs.pictures import annotated_pictures, example_queries, open_pictures, photos_of, read_index

    if not options["pictures"]:
        index = read_index(options["annotations"], eligibility(options))
        queries, _ = example_queries(index, examples=options["examples"], seed=options["seed"])
        objects = [query.photo for query in queries]
        pictures, known = photos_of(objects, options["images"]), dict(enumerate(objects))
    elif options["annotations"] is None:
        pictures, known = open_pictures(options["pictures"]), {}
    else:
        pictures, known = annotated_pictures(options["pictures"], options["annotations"])
    photos = []
    for number, (name, rgb) in enumerate(zip(pictures.names, pictures.rgb, strict=True)):
        records = known[number].objects if number in known else ()
        photos.append(ExplorerPhoto(name, rgb, [(record.category, rle_mask(record.rle)) for record in records]))
    return pictures, photos
