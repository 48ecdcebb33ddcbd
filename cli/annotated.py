"""What `affinity` and `explore` share: photos, objects and examples from annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError, listed
from .pictures import Pictures, read_each

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.coco import CocoIndex, PhotoObjects
    from ..data.objects import ImageRecord
    from ..study import ObjectQuery

__all__ = ["annotated", "photos_of", "read_index", "spread_out"]


def read_index(options: dict[str, Any]) -> CocoIndex:
    """Read --annotations with the rules of --min-area and --allow-border."""
    from ..data.coco import Eligibility, read_instances

    index = read_instances(options["annotations"], Eligibility(options["min_area"], options["allow_border"]))
    click.echo(f"{len(index.objects)} eligible objects; {index.what_was_dropped()}", err=True)
    if not index.objects:
        raise DataError(f"annotations {index.path} hold no eligible object; {index.what_was_dropped()}.")
    return index


def spread_out(queries: list[ObjectQuery], count: int) -> list[ObjectQuery]:
    """Return the first `count` objects of which no two share a photo, as far as there are so many."""
    first = {query.target.image_id: query for query in reversed(queries)}
    order = [query for query in queries if first[query.target.image_id] is query]
    return order[:count]


def photos_of(photos: list[PhotoObjects], folder: Path) -> Pictures:
    """Read annotated photos, with the pixels as their masks are drawn on."""
    from ..data.cutouts import read_photo
    from ..data.photo_files import photo_files

    files = photo_files(folder)
    return Pictures([photo.image.file_name for photo in photos], [read_photo(files, photo.image) for photo in photos])


def annotated(paths: tuple[Path, ...], annotations: Path) -> tuple[Pictures, dict[int, PhotoObjects]]:
    """Read the pictures of --image, those that the annotations know by their file name as their masks are drawn.

    Returns:
        The pictures, and place of a picture -> what is annotated on it.
    """
    from ..data.coco import read_instances, read_objects
    from ..data.cutouts import read_photo
    from ..data.photo_files import photo_files
    from ..data.photos import open_photo

    known_photos = list(read_instances(annotations).images.values())
    records = {path: record for path in paths if (record := _record_of(path, known_photos)) is not None}
    objects = read_objects(annotations, {record.image_id for record in records.values()})

    def read(path: Path) -> NDArray[np.uint8]:
        if path in records:
            return read_photo(photo_files(path.parent), replace(records[path], file_name=path.name))
        click.echo(f"Note: {annotations} does not know {path.name}; it is shown without masks.", err=True)
        return open_photo(path)

    found = read_each(paths, read)
    known = {number: objects[records[path].image_id] for number, path in enumerate(found.paths) if path in records}
    return found, known


def _record_of(path: Path, photos: list[ImageRecord]) -> ImageRecord | None:
    """Return the photo whose file name ends a path; of several the one that agrees with most of its folders."""
    named = [record for record in photos if Path(record.file_name).name == path.name]
    parts = path.absolute().parts
    fitting = [
        record for record in named if parts[-len(Path(record.file_name).parts) :] == Path(record.file_name).parts
    ]
    if not named:
        return None
    longest = max((len(Path(record.file_name).parts) for record in fitting), default=0)
    best = [record for record in fitting if len(Path(record.file_name).parts) == longest]
    # A picture that was moved out of its folders is still known by its name, if only one photo has it.
    best = best or (named if len(named) == 1 else [])
    if len(best) != 1:
        names = listed((record.file_name for record in named), most=3)
        raise DataError(
            f"image {path} may be any of the annotations' {names}; give its path with the folders of the file_name."
        )
    return best[0]
