"""Annotated objects in, points inside them out: where affinity maps are asked for, with the nearest other object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.coco import CocoIndex, PhotoObjects, read_objects
from ..data.objects import ObjectRecord
from ..data.segmentation import rle_mask
from ..metrics.localization import inner_point, nearest_mask
from ..streams import Stream

__all__ = ["ObjectQuery", "draw_queries", "step_of", "stepped_mask"]

# Of a photo's longer side: masks of larger ones are looked at in steps, or a slide would take gigabytes a mask.
MOST_PX = 2000


@dataclass(frozen=True)
class ObjectQuery:
    """A point inside an annotated object, and the other object that is nearest to it.

    Attributes:
        target: the object.
        x, y: the pixel deepest inside its mask.
        photo: everything annotated on its photo.
        other: the nearest other object that has `min_area` px beside the queried one; None where there is none.
        other_distance_px: from mask to mask; 1 where they touch.
    """

    target: ObjectRecord
    x: int
    y: int
    photo: PhotoObjects
    other: ObjectRecord | None
    other_distance_px: float


def draw_queries(index: CocoIndex, *, count: int, seed: int = 0) -> list[ObjectQuery]:
    """Choose eligible objects, in an order that the seed draws: the first 10 of 100 are those of 10.

    Args:
        index: the annotations, with the rules of what is eligible.
        count: how many, at most.
        seed: of the order.
    """
    stream = Stream(seed).child("affinity")
    order = sorted(index.objects.ids.tolist(), key=lambda identity: stream.child("object", identity).below(2**62))
    chosen = [index.record(identity) for identity in order[:count]]
    photos = read_objects(index.path, {record.image_id for record in chosen}, index.eligibility.exif)
    return [_query(record, photos[record.image_id], index.eligibility.min_area) for record in chosen]


def _query(record: ObjectRecord, photo: PhotoObjects, min_area: int) -> ObjectQuery:
    step = step_of((photo.image.height, photo.image.width))
    mask = stepped_mask(record, step)
    x, y = (place * step for place in inner_point(mask))
    # What of an object lies within the queried one, or is too small to be an object here, is nobody's neighbour.
    beside = [(other, stepped_mask(other, step) & ~mask) for other in photo.objects if other is not record]
    large = [
        (other, part)
        for other, part in beside
        if part.sum() * step**2 >= min_area and other.annotation_id != record.annotation_id
    ]
    others = [other for other, _ in large]
    found = nearest_mask(mask, [part for _, part in large])
    if found is None:
        return ObjectQuery(record, x, y, photo, None, float("nan"))
    return ObjectQuery(record, x, y, photo, others[found[0]], found[1] * step)


def step_of(photo: tuple[int, int]) -> int:
    """Return how many px of a photo are one step: of aerial photos and slides each so-many-th row and column counts."""
    return max(1, max(photo) // MOST_PX)


def stepped_mask(record: ObjectRecord, step: int) -> NDArray[np.bool_]:
    """Return every `step`-th row and column of a mask."""
    whole = rle_mask(record.rle)
    return whole if step == 1 else whole[::step, ::step].copy()
