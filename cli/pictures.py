"""What `affinity` and `explore` share: pictures and points from the command line, examples from annotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError, CouplingKitError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.coco import CocoIndex, PhotoObjects
    from ..study import ObjectQuery, Query

__all__ = [
    "Pictures",
    "annotated",
    "check_sources",
    "figure_path",
    "open_pictures",
    "photos_of",
    "point",
    "points_on",
    "read_index",
    "spread_out",
]

FIGURES = (".png", ".pdf", ".svg")


@dataclass
class Pictures:
    """Photos that could be read, and a sentence for each thing that could not."""

    names: list[str] = field(default_factory=list)
    rgb: list[NDArray[np.uint8]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, sentence: str) -> None:
        """Note what could not be done and go on."""
        self.failures.append(sentence)
        click.echo(f"Skipped: {sentence}", err=True)


def point(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, float]]:
    """Read `212,140`, several times."""
    points = []
    for value in values:
        try:
            x, y = (float(part) for part in value.split(","))
        except ValueError:
            raise click.BadParameter(f"{value!r} is not X,Y in px of the picture, like 212,140.") from None
        points.append((x, y))
    return points


def check_sources(pictures: tuple[Path, ...], annotations: Path | None, images: Path | None) -> None:
    """Refuse a command that names no photos, or half of a data set."""
    if annotations is None and images is not None:
        raise ArgumentError("--images is the folder of --annotations, which is missing; a single picture is --image.")
    if annotations is None and not pictures:
        raise ArgumentError(
            "there is nothing to look at: give --image PHOTO, or --annotations JSON and --images FOLDER."
        )
    if annotations is not None and images is None and not pictures:
        raise ArgumentError("--annotations needs --images, the folder that the JSON's file names start from.")


def figure_path(out: Path | None) -> Path | None:
    """Return --out if it names a figure; None if results go to a folder."""
    if out is None or not out.suffix or out.is_dir():
        return None
    if out.suffix.lower() not in FIGURES:
        raise ArgumentError(
            f"out {out} must end in {', '.join(FIGURES)}, which chooses the format, or be a folder (without a suffix)."
        )
    return out


def open_pictures(paths: tuple[Path, ...]) -> Pictures:
    """Read the pictures of --image as a viewer shows them."""
    from ..data.photos import open_photo

    return _read_each(paths, open_photo)


def _read_each(paths: tuple[Path, ...], read: Callable[[Path], NDArray[np.uint8]]) -> Pictures:
    """Read pictures; what cannot be read is noted, unless it is all there is."""
    found = Pictures()
    for path in paths:
        try:
            found.rgb.append(read(path))
            found.names.append(path.name)
            found.paths.append(path)
        except DataError as error:
            if len(paths) == 1:
                raise
            found.fail(str(error))
    if not found.rgb:
        raise CouplingKitError(f"none of the {len(paths)} images can be read: {found.failures[0]}")
    return found


def points_on(pictures: Pictures, points: list[tuple[float, float]]) -> list[Query]:
    """Return each point on each picture; those outside are noted, unless none is inside."""
    from ..study import Query

    if not points:
        raise ArgumentError("--image needs at least one --point X,Y, in px of the picture; (0, 0) is its first pixel.")
    found = []
    for number, (name, rgb) in enumerate(zip(pictures.names, pictures.rgb, strict=True)):
        for x, y in points:
            try:
                query = Query(number, x, y)
                query.check_inside(rgb, name)
                found.append(query)
            except ArgumentError as error:
                if len(points) * len(pictures.rgb) == 1:
                    raise
                pictures.fail(str(error))
    if not found:
        raise ArgumentError(f"no --point lies inside a picture: {pictures.failures[-1]}")
    return found


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

    return Pictures([photo.image.file_name for photo in photos], [read_photo(folder, photo.image) for photo in photos])


def annotated(paths: tuple[Path, ...], annotations: Path) -> tuple[Pictures, dict[int, PhotoObjects]]:
    """Read the pictures of --image, those that the annotations know by their file name as their masks are drawn.

    Returns:
        The pictures, and place of a picture -> what is annotated on it.
    """
    from ..data.coco import read_instances, read_objects
    from ..data.cutouts import read_photo
    from ..data.photos import open_photo

    by_name = {Path(record.file_name).name: record for record in read_instances(annotations).images.values()}
    records = {path: by_name[path.name] for path in paths if path.name in by_name}
    objects = read_objects(annotations, {record.image_id for record in records.values()})

    def read(path: Path) -> NDArray[np.uint8]:
        if path in records:
            return read_photo(path.parent, replace(records[path], file_name=path.name))
        click.echo(f"Note: {annotations} does not know {path.name}; it is shown without masks.", err=True)
        return open_photo(path)

    found = _read_each(paths, read)
    known = {number: objects[records[path].image_id] for number, path in enumerate(found.paths) if path in records}
    return found, known
