"""Rows of a task in, its score as a function of weighted photos out: what intervals and differences are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics.confusion import mean_iou
from .detection_scores import DetectionSums, detection_sums
from .task import SCORES

__all__ = ["OVER_SEEDS", "TAKEN", "PhotoSums", "SeededSums", "photo_sums", "seed_scores", "segment_sums"]

Array = NDArray[np.float64]
# The score with an interval over the seeds of what was trained.
OVER_SEEDS = "over_seeds"
# What is said of objects' pixels beside the score itself.
TAKEN = ("taken_by_neighbour", "taken_elsewhere", "taken_by_other", "taken")


@dataclass(frozen=True)
class PhotoSums:
    """A score as a function of sums over photos.

    Attributes:
        photos: ids, (P,).
        columns: float64 (P, C).
        kind: `iou`: the columns are intersection, predicted and labelled of each class; `ratio`: the first column over
            the second; `difference`: that, minus the third over the fourth.
    """

    photos: tuple[str, ...]
    columns: Array
    kind: Literal["iou", "ratio", "difference"]

    def score(self, weights: Array) -> Array:
        """Return the score under weights of the photos, (R, P): (R,); NaN where nothing is left to score."""
        sums = weights @ self.columns
        if self.kind == "iou":
            return mean_iou(*np.split(sums, 3, axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            value: Array = sums[:, 0] / sums[:, 1]
            if self.kind == "difference":
                value = value - sums[:, 2] / sums[:, 3]
        return value

    def value(self) -> float:
        """Return the score of the photos as they are."""
        return float(self.score(np.ones((1, len(self.photos))))[0])

    def of(self, photos: Sequence[str]) -> PhotoSums:
        """Return the same of some photos, in their order."""
        places = {photo: place for place, photo in enumerate(self.photos)}
        return PhotoSums(tuple(photos), self.columns[[places[photo] for photo in photos]], self.kind)


def segment_sums(rows: pd.DataFrame) -> PhotoSums:
    """Return the mIoU of rows with photo, class, intersection, predicted and labelled."""
    photos = list(dict.fromkeys(rows["photo"]))
    classes = sorted(set(rows["class"]))
    row = rows["photo"].map({photo: place for place, photo in enumerate(photos)}).to_numpy()
    column = rows["class"].map({kind: place for place, kind in enumerate(classes)}).to_numpy()
    tables = []
    for name in ("intersection", "predicted", "labelled"):
        table = np.zeros((len(photos), len(classes)))
        table[row, column] = rows[name].to_numpy()
        tables.append(table)
    return PhotoSums(tuple(photos), np.concatenate(tables, axis=1), "iou")


def _ratio_sums(table: pd.DataFrame, photo: str, columns: Sequence[str]) -> PhotoSums:
    """Return the mean of columns over rows, or the difference of two such means."""
    parts = [(table[name].to_numpy(dtype=np.float64), np.ones(len(table))) for name in columns]
    photos, place = np.unique(table[photo].to_numpy(dtype=str), return_inverse=True)
    sums = [np.bincount(place, weights=one, minlength=len(photos)) for pair in parts for one in pair]
    kind: Literal["ratio", "difference"] = "ratio" if len(columns) == 1 else "difference"
    return PhotoSums(tuple(photos.tolist()), np.column_stack(sums), kind)


@dataclass(frozen=True)
class SeededSums:
    """The mean of a score over the seeds of what was trained.

    Attributes:
        seeds: the score of each.
    """

    seeds: tuple[PhotoSums, ...]

    @property
    def photos(self) -> tuple[str, ...]:
        """Ids, (P,)."""
        return self.seeds[0].photos

    def score(self, weights: Array) -> Array:
        """Return the mean under weights of the photos, (R, P): (R,)."""
        return np.asarray(np.mean([one.score(weights) for one in self.seeds], axis=0))

    def value(self) -> float:
        """Return the mean of the photos as they are."""
        return float(np.mean(self.per_seed()))

    def per_seed(self) -> list[float]:
        """Return the score of each seed."""
        return [one.value() for one in self.seeds]

    def of(self, photos: Sequence[str]) -> SeededSums:
        """Return the same of some photos, in their order."""
        return SeededSums(tuple(one.of(photos) for one in self.seeds))


def photo_sums(
    task: str, rows: pd.DataFrame, objects: pd.DataFrame | None
) -> Mapping[str, PhotoSums | SeededSums | DetectionSums]:
    """Return what an evaluation's rows say, as functions of weights of photos: `score`, and what else is known."""
    reads = SCORES[task].reads
    if reads is not None:
        assert objects is not None
        return detection_sums(rows, objects, reads)
    if "seed" in rows:
        return {"score": SeededSums(tuple(segment_sums(own) for _, own in rows.groupby("seed")))}
    if SCORES[task].segments:
        found = {"score": segment_sums(rows)}
        known = None if objects is None else objects[objects["taken_by_neighbour"].notna()]
        if known is not None and len(known):
            found |= {name: _ratio_sums(known, "photo", [name]) for name in TAKEN[:-1]}
            both = known[known["taken_elsewhere"].notna()]
            if len(both):
                found["taken"] = _ratio_sums(both, "photo", TAKEN[:2])
        return {name: one for name, one in found.items() if np.isfinite(one.value())}
    if task in ("tokencut", "lost"):
        return {"score": _ratio_sums(rows, "photo", ["hit"])}
    assert objects is not None
    return {"score": _ratio_sums(objects[objects["measured"]], "photo", ["correct"])}


def seed_scores(sums: Mapping[str, Any]) -> list[float]:
    """Return the score of each seed of what was trained; empty for what was not."""
    score = sums.get("score")
    return score.per_seed() if isinstance(score, SeededSums | DetectionSums) else []
