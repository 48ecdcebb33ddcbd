"""What `affinity` and `explore` share: pictures and points from the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ArgumentError, CouplingKitError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..study import Query

__all__ = ["Pictures", "check_sources", "figure_path", "open_pictures", "point", "points_on", "read_each"]

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

    return read_each(paths, open_photo)


def read_each(paths: tuple[Path, ...], read: Callable[[Path], NDArray[np.uint8]]) -> Pictures:
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
