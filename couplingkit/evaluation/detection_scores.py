"""Detections of photos in, one row each with what it found; such rows in, average precision under weights out.

A row says for each threshold whether the detection found an object, and whether it counts: bits of a whole number, the
lowest for IoU .5, the tenth for .95. So the score derives from the rows, with no photo and no network at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.detection import DetectionPhotos, Targets
from ..data.segmentation import overlaps, rle_area
from ..metrics.detection import IOUS, SIZES, Interpolation, Matches, average_precisions, coco_matches, mean_ap
from ..metrics.detection import voc_matches as voc_rule

__all__ = ["BITS", "DETECTIONS", "MARKS", "OBJECTS", "DetectionSums", "Detections", "detection_sums", "photo_rows"]

Array = NDArray[np.float64]
MOST = 100
BITS = 1 << np.arange(len(IOUS))
RANGES = tuple(SIZES)
MARKS = [f"{what}{'' if size == 'all' else '_' + size}" for size in RANGES for what in ("found", "left_out")]
DETECTIONS = ["seed", "photo", "category", "score", "left", "top", "width", "height", *MARKS]
OBJECTS = ["seed", "photo", "annotation", "category", "area", "crowd", "difficult", "found"]


@dataclass(frozen=True)
class Detections:
    """What a detector says of one photo, in px of the photo.

    Attributes:
        labels: int64 (n,), places in the photos' `classes`.
        scores: float64 (n,).
        boxes: float64 (n, 4), left, top, width and height.
        rles: compressed masks, of a detector that gives some.
    """

    labels: NDArray[np.int64]
    scores: Array
    boxes: Array
    rles: tuple[dict[str, Any], ...] | None = None

    def of(self, places: NDArray[np.int64]) -> Detections:
        """Return some of them."""
        rles = None if self.rles is None else tuple(self.rles[place] for place in places.tolist())
        return Detections(self.labels[places], self.scores[places], self.boxes[places], rles)


def photo_rows(
    task: str, identity: str, detections: Detections, targets: Targets, photos: DetectionPhotos, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a photo's detections and those of its objects.

    Args:
        task: name of the score: `box-ap`, `mask-ap`, `voc07-ap` or `voc10-ap`.
        identity: of the photo.
        detections: of one detector.
        targets: what is there.
        photos: that it is one of.
        seed: of the detector.
    """
    names = np.array(photos.classes, dtype=object)
    if task == "mask-ap":
        # What has a box alone is no object of this score.
        targets = targets.of(np.array([rle is not None for rle in targets.rles], dtype=bool))
    found_at = np.zeros(len(targets), dtype=np.int64)
    # What nothing is there of cannot be found, whichever category it is.
    astray = np.flatnonzero(~np.isin(detections.labels, targets.labels))
    groups = [_ordered(detections, astray)]
    marked = [_nothing_found(task, groups[0])]
    for label in np.intersect1d(detections.labels, targets.labels):
        there = targets.labels == label
        groups.append(_ordered(detections, np.flatnonzero(detections.labels == label)))
        marks, found = _marks(task, groups[-1], targets.of(there))
        found_at[there] += found
        marked.append(marks)
    parts: list[dict[str, Any]] = [
        {"category": names[own.labels], "score": own.scores, "boxes": own.boxes, **marks}
        for own, marks in zip(groups, marked, strict=True)
    ]
    detected = _table(parts)
    detected.insert(0, "seed", seed)
    detected.insert(1, "photo", identity)
    objects = pd.DataFrame(
        {
            "seed": seed,
            "photo": identity,
            "annotation": targets.annotations,
            "category": names[targets.labels],
            "area": targets.areas,
            "crowd": targets.crowd,
            "difficult": targets.difficult,
            "found": found_at,
        },
        columns=OBJECTS,
    )
    return detected, objects


def _ordered(detections: Detections, places: NDArray[np.int64]) -> Detections:
    """Return some detections, each category's best first, and of each a hundred at most, as COCO and VOC have it.

    Equal scores stay in the detector's order.
    """
    order = places[np.lexsort((-detections.scores[places], detections.labels[places]))]
    labels = detections.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(labels, labels)
    return detections.of(order[rank < MOST])


def _areas(task: str, own: Detections) -> Array:
    """Return the px of detections: of their masks, where masks are scored."""
    if task == "mask-ap":
        return np.array([rle_area(rle) for rle in own.rles or ()], dtype=np.float64)
    return own.boxes[:, 2] * own.boxes[:, 3]


def _outside(task: str, own: Detections) -> NDArray[np.bool_]:
    """Return which detections lie outside each range of areas, (A, D); VOC's rule has no ranges."""
    size = _areas(task, own)
    low, high = np.array([SIZES[name] for name in RANGES]).T[:, :, None]
    return np.zeros((len(RANGES), len(size)), dtype=bool) if task.startswith("voc") else (size < low) | (size > high)


def _nothing_found(task: str, own: Detections) -> dict[str, NDArray[np.int64]]:
    outside = _outside(task, own).astype(np.int64) * int(BITS.sum())
    none = np.zeros(len(own.labels), dtype=np.int64)
    return {name: outside[place // 2] if place % 2 else none for place, name in enumerate(MARKS)}


def _table(parts: Sequence[dict[str, Any]]) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in parts[0] if parts else ():
        values = np.concatenate([part[name] for part in parts])
        if name == "boxes":
            columns |= dict(zip(("left", "top", "width", "height"), values.T, strict=True))
        else:
            columns[name] = values
    return pd.DataFrame(columns, columns=DETECTIONS[2:])


def _marks(task: str, own: Detections, targets: Targets) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Return the columns of bits, and at how many thresholds each object was found."""
    masks = task == "mask-ap"
    theirs: Any = list(targets.rles) if masks else targets.boxes
    ours: Any = list(own.rles or ()) if masks else own.boxes
    iou = overlaps(ours, theirs, targets.crowd)
    if task.startswith("voc"):
        found, out = voc_rule(iou, targets.difficult)
        left_out = np.stack([out] * len(RANGES))
        found = np.stack([found] * len(RANGES))
    else:
        areas = np.array([SIZES[name] for name in RANGES])  # (A, 2)
        beyond = (targets.areas < areas[:, :1]) | (targets.areas > areas[:, 1:])
        ignored = beyond | targets.crowd
        found = coco_matches(iou, targets.crowd, ignored)
        outside = _outside(task, own)
        hit = found >= 0
        at = np.arange(len(RANGES))[:, None, None]
        left_out = np.where(hit, ignored[at, np.maximum(found, 0)], outside[:, None])
    columns = {}
    for place, name in enumerate(MARKS):
        bits = (found >= 0, left_out)[place % 2][place // 2]
        columns[name] = (bits * BITS[:, None]).sum(axis=0)
    everywhere = found[0][found[0] >= 0]
    return columns, np.bincount(everywhere, minlength=len(targets))


@dataclass(frozen=True)
class DetectionSums:
    """Average precision as a function of weights of photos: the mean over the seeds of a detector.

    Attributes:
        photos: ids, (P,).
        seeds: what each seed's detector found.
        interpolation: how precision is read.
    """

    photos: tuple[str, ...]
    seeds: tuple[Matches, ...]
    interpolation: Interpolation

    def each(self, weights: Array) -> Array:
        """Return the score of each seed under weights of the photos, (R, P): (S, R)."""
        found = [average_precisions(one, weights, interpolation=self.interpolation) for one in self.seeds]
        return np.stack([mean_ap(one) for one in found])

    def score(self, weights: Array) -> Array:
        """Return the mean over seeds under weights of the photos, (R, P): (R,); NaN where no object is left."""
        return np.asarray(self.each(weights).mean(axis=0))

    def value(self) -> float:
        """Return the score of the photos as they are."""
        return float(self.score(np.ones((1, len(self.photos))))[0])

    def per_seed(self) -> list[float]:
        """Return the score of each seed's detector."""
        return [float(one) for one in self.each(np.ones((1, len(self.photos))))[:, 0]]

    def of(self, photos: Sequence[str]) -> DetectionSums:
        """Return the same of some photos, in their order."""
        places = {photo: place for place, photo in enumerate(photos)}
        chosen = np.array([places.get(photo, -1) for photo in self.photos])
        own = tuple(_chosen(one, chosen, len(photos)) for one in self.seeds)
        return DetectionSums(tuple(photos), own, self.interpolation)


def _chosen(matches: Matches, places: NDArray[np.int64], photos: int) -> Matches:
    photo, of_object = places[matches.photo], places[matches.object_photo]
    keep, kept = photo >= 0, of_object >= 0
    return Matches(
        photo[keep],
        matches.category[keep],
        matches.score[keep],
        matches.found[keep],
        matches.left_out[keep],
        of_object[kept],
        matches.object_category[kept],
        photos,
    )


def _in_order(photo: str) -> tuple[bool, int, str]:
    """Return by what photos are sorted: numbers by their value, as COCO's code has it, for equal scores."""
    return not photo.isdecimal(), int(photo) if photo.isdecimal() else 0, photo


def detection_sums(rows: pd.DataFrame, objects: pd.DataFrame, interpolation: Interpolation) -> dict[str, DetectionSums]:
    """Return AP (`score`), `AP50`, `AP75` and, of COCO's rule, those of sizes: `APs`, `APm`, `APl`, where some are.

    Photos without any object and without any detection are not among the rows, and change no score.
    """
    photos = tuple(sorted({*objects["photo"], *rows["photo"]}, key=_in_order))
    number = {photo: place for place, photo in enumerate(photos)}
    kinds = {kind: place for place, kind in enumerate(sorted(set(objects["category"]) | set(rows["category"])))}
    seeds = sorted(set(objects["seed"]) | set(rows["seed"]))

    def sums(size: str, thresholds: Sequence[int]) -> DetectionSums:
        ending = "" if size == "all" else f"_{size}"
        low, high = SIZES[size]
        parts = []
        for seed in seeds:
            own, there = rows[rows["seed"] == seed], objects[objects["seed"] == seed]
            counted = there[~there["crowd"] & ~there["difficult"] & there["area"].between(low, high)]
            found, left_out = (
                (own[name + ending].to_numpy(dtype=np.int64)[:, None] & BITS[list(thresholds)]) > 0
                for name in ("found", "left_out")
            )
            parts.append(
                Matches(
                    own["photo"].map(number).to_numpy(dtype=np.int64),
                    own["category"].map(kinds).to_numpy(dtype=np.int64),
                    own["score"].to_numpy(dtype=np.float64),
                    found,
                    left_out,
                    counted["photo"].map(number).to_numpy(dtype=np.int64),
                    counted["category"].map(kinds).to_numpy(dtype=np.int64),
                    len(photos),
                )
            )
        return DetectionSums(photos, tuple(parts), interpolation)

    every = {"score": sums("all", range(len(IOUS))), "AP50": sums("all", [0]), "AP75": sums("all", [5])}
    if interpolation == "101 points":
        every |= {f"AP{size[0]}": sums(size, range(len(IOUS))) for size in RANGES[1:]}
    return {name: one for name, one in every.items() if np.isfinite(one.value())}
