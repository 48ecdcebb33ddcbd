"""Pictures by their paths, or photos of annotations, in; their pixels and what is annotated on them out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.coco import CocoIndex, Eligibility, PhotoObjects, read_instances, read_objects
from ..data.objects import ImageRecord
from ..data.photo_files import photo_files
from ..data.photos import open_photo, read_photo
from ..errors import ArgumentError, CouplingKitError, DataError, listed
from ..evaluation.affinity import Query
from ..evaluation.object_queries import ObjectQuery, draw_queries

__all__ = ["Pictures", "annotated_pictures", "example_queries", "open_pictures", "photos_of", "points_on", "read_index"]

log = logging.getLogger(__name__)
# A photo often has several objects, and the examples are to come from different ones.
CANDIDATES_PER_EXAMPLE = 5


@dataclass
class Pictures:
    """Photos that could be read, and a sentence for each thing that could not.

    Attributes:
        names: of the files.
        rgb: uint8 (H, W, 3) each.
        paths: where they lie, where that is known.
        failures: what could not be done.
    """

    names: list[str] = field(default_factory=list)
    rgb: list[NDArray[np.uint8]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, sentence: str) -> None:
        """Note what could not be done and go on."""
        self.failures.append(sentence)
        log.warning("Skipped: %s", sentence)


def open_pictures(paths: Sequence[Path]) -> Pictures:
    """Read pictures as a viewer shows them; what cannot be read is noted, unless it is all there is."""
    return _read_each(paths, open_photo)


def _read_each(paths: Sequence[Path], read: Callable[[Path], NDArray[np.uint8]]) -> Pictures:
    pictures = Pictures()
    for path in paths:
        try:
            pictures.rgb.append(read(path))
            pictures.names.append(path.name)
            pictures.paths.append(path)
        except DataError as error:
            if len(paths) == 1:
                raise
            pictures.fail(str(error))
    if not pictures.rgb:
        raise CouplingKitError(f"none of the {len(paths)} images can be read: {pictures.failures[0]}")
    return pictures


def points_on(pictures: Pictures, points: Sequence[tuple[float, float]]) -> list[Query]:
    """Return each point on each picture; those outside are noted, unless none is inside."""
    if not points:
        raise ArgumentError("`image` needs at least one `point` X,Y, in px of the picture; (0, 0) is its first pixel.")
    queries = []
    for number, (name, rgb) in enumerate(zip(pictures.names, pictures.rgb, strict=True)):
        for x, y in points:
            try:
                query = Query(number, x, y)
                query.check_inside(rgb, name)
                queries.append(query)
            except ArgumentError as error:
                if len(points) * len(pictures.rgb) == 1:
                    raise
                pictures.fail(str(error))
    if not queries:
        raise ArgumentError(f"no `point` lies inside a picture: {pictures.failures[-1]}")
    return queries


def read_index(annotations: Path, eligibility: Eligibility) -> CocoIndex:
    """Read annotations of which at least one object is eligible."""
    index = read_instances(annotations, eligibility)
    log.info("%d eligible objects; %s", len(index.objects), index.what_was_dropped())
    if not index.objects:
        raise DataError(f"annotations {index.path} hold no eligible object; {index.what_was_dropped()}.")
    return index


def example_queries(
    index: CocoIndex, *, examples: int, scored: int = 0, seed: int = 0
) -> tuple[list[ObjectQuery], list[ObjectQuery]]:
    """Return the objects that are drawn, of which no two share a photo as far as there are so many, and all drawn."""
    drawn = draw_queries(index, count=max(scored, CANDIDATES_PER_EXAMPLE * examples), seed=seed)
    first = {query.target.image_id: query for query in reversed(drawn)}
    apart = [query for query in drawn if first[query.target.image_id] is query]
    return apart[:examples], drawn


def photos_of(photos: Iterable[PhotoObjects], folder: Path) -> Pictures:
    """Read annotated photos, with the pixels as their masks are drawn on."""
    files, records = photo_files(folder), [photo.image for photo in photos]
    return Pictures([record.file_name for record in records], [read_photo(files, record) for record in records])


def annotated_pictures(paths: Sequence[Path], annotations: Path) -> tuple[Pictures, dict[int, PhotoObjects]]:
    """Read pictures, those that the annotations know by their file name as their masks are drawn.

    Returns:
        The pictures, and place of a picture -> what is annotated on it.
    """
    known_photos = list(read_instances(annotations).images.values())
    records = {path: record for path in paths if (record := _record_of(path, known_photos)) is not None}
    # The pictures' own frame is the viewer's, unless their sizes say otherwise.
    objects = read_objects(annotations, {record.image_id for record in records.values()})

    def read(path: Path) -> NDArray[np.uint8]:
        if path in records:
            return read_photo(photo_files(path.parent), replace(records[path], file_name=path.name))
        log.warning("Note: %s does not know %s; it is shown without masks.", annotations, path.name)
        return open_photo(path)

    pictures = _read_each(paths, read)
    known = {number: objects[records[path].image_id] for number, path in enumerate(pictures.paths) if path in records}
    return pictures, known


def _record_of(path: Path, photos: Sequence[ImageRecord]) -> ImageRecord | None:
    """Return the photo whose file name ends a path; of several the one that agrees with most of its folders."""
    named = [record for record in photos if Path(record.file_name).name == path.name]
    if not named:
        return None
    parts = path.absolute().parts
    depth = {record.image_id: len(Path(record.file_name).parts) for record in named}
    fitting = [record for record in named if parts[-depth[record.image_id] :] == Path(record.file_name).parts]
    longest = max((depth[record.image_id] for record in fitting), default=0)
    best = [record for record in fitting if depth[record.image_id] == longest]
    # A picture that was moved out of its folders is still known by its name, if only one photo has it.
    best = best or (named if len(named) == 1 else [])
    if len(best) != 1:
        names = listed((record.file_name for record in named), most=3)
        raise DataError(
            f"image {path} may be any of the annotations' {names}; give its path with the folders of the file_name."
        )
    return best[0]
