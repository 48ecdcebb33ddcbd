"""Rows of a task in, its score with its interval out, and the difference of two scores on the same photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import MeasurementError
from ..html_text import table_html
from ..metrics.bootstrap import Estimate
from ..metrics.confusion import mean_iou
from ..metrics.photo_intervals import photo_draws, photo_intervals, photo_p_value
from ..metrics.seeds import over_seeds
from ..streams import Stream
from .detection_scores import DetectionSums, detection_sums
from .task import SCORES

__all__ = [
    "TAKEN",
    "Evaluation",
    "PhotoSums",
    "ScoreGap",
    "compare_scores",
    "photo_sums",
    "score_estimates",
    "score_gaps",
    "segment_sums",
]

Array = NDArray[np.float64]
# What is said of objects' pixels beside the score itself.
OVER_SEEDS = "over_seeds"
TAKEN = ("taken_by_neighbour", "taken_elsewhere", "taken_by_other", "taken")


@dataclass(frozen=True)
class Evaluation:
    """What one layer of one network scores in one task.

    Attributes:
        name: of the model.
        task: name of the score.
        rows: of segmentations one per photo and class (photo, class, intersection, predicted, labelled), of `discover`
            one per photo (photo, iou, hit), of detectors one per detection (`DETECTIONS`); of `objects` none: there,
            `objects` are its rows. Of what was trained, a column `seed` says which one.
        objects: one per object, where the photos' objects are known.
        score: with its interval over photos, in [0, 1].
        ceiling: what true labels at the cells' resolution would score; NaN where there is no such thing.
        floor: what the commonest class, or the whole photo as a box, would score.
        extras: `TAKEN`, of segmentations of photos with objects; of detectors AP50, AP75, APs, APm, APl; of what was
            trained with several seeds `over_seeds`.
        provenance: of the model, the data and the settings, as JSON values.
    """

    name: str
    task: str
    rows: pd.DataFrame
    objects: pd.DataFrame | None
    score: Estimate
    ceiling: float
    floor: float
    extras: dict[str, Estimate]
    provenance: dict[str, Any]

    def _repr_html_(self) -> str:
        levels = {"score": self.score.text(), "ceiling": f"{self.ceiling:z.3f}", "floor": f"{self.floor:z.3f}"}
        levels |= {name: estimate.text() for name, estimate in self.extras.items()}
        rows = [[name, "-" if text == "nan" else text] for name, text in levels.items()]
        return table_html([self.task, "value"], rows, caption=self.name, notes=["Intervals over photos."])


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


def score_estimates(
    task: str, rows: pd.DataFrame, objects: pd.DataFrame | None, *, seed: int, level: float, resamples: int
) -> dict[str, Estimate]:
    """Return `score` and what else the rows say, each with its interval over photos.

    Of what was trained with several seeds also `over_seeds`: the same mean, with its interval over seeds.
    """
    stream = Stream(seed).child("bootstrap", "evaluation")
    sums = photo_sums(task, rows, objects)
    found = {
        name: photo_intervals(
            lambda weights, one=one: one.score(weights)[:, None],  # type: ignore[misc]
            len(one.photos),
            stream,
            level=level,
            resamples=resamples,
        )[0]
        for name, one in sums.items()
    }
    each = seed_scores(sums)
    return found | {OVER_SEEDS: over_seeds(each, level=level)} if len(each) > 1 else found


def seed_scores(sums: Mapping[str, Any]) -> list[float]:
    """Return the score of each seed of what was trained; empty for what was not."""
    score = sums.get("score")
    return score.per_seed() if isinstance(score, SeededSums | DetectionSums) else []


@dataclass(frozen=True)
class ScoreGap:
    """One evaluation minus another, on the photos of both.

    Attributes:
        model, baseline: whose they are.
        task: name of the score.
        effect: `score`, one of `TAKEN`, one of AP50, AP75, APs, APm and APl, or `over_seeds`: the score, with an
            interval over the seeds of what was trained.
        estimate: of the difference.
        photos: that both have.
        p: two-sided, of its being 0; NaN below 30 photos.
    """

    model: str
    baseline: str
    task: str
    effect: str
    estimate: Estimate
    photos: int
    p: float


def score_gaps(first: Evaluation, second: Evaluation) -> list[ScoreGap]:
    """Return `first` minus `second` in everything that both say, photo by photo.

    Raises:
        MeasurementError: they are of different tasks or data, or were made with other settings.
    """
    check_comparable(first, second)
    ours, theirs = (photo_sums(one.task, one.rows, one.objects) for one in (first, second))
    settings = first.provenance["settings"]
    level, resamples = settings["level"], settings["resamples"]
    gaps = []
    for name in [effect for effect in ours if effect in theirs]:
        common = _photos_of_both(ours[name], theirs[name])
        pair = (ours[name].of(common), theirs[name].of(common))

        def difference(weights: Array, pair: tuple[Any, Any] = pair) -> Array:
            return np.asarray(pair[0].score(weights) - pair[1].score(weights))[:, None]

        stream = Stream(settings["seed"]).child("bootstrap", "evaluation")
        (estimate,) = photo_intervals(difference, len(common), stream, level=level, resamples=resamples)
        _, deviations = photo_draws(difference, len(common), stream, level=level, resamples=resamples)
        p = photo_p_value(estimate.value, None if deviations is None else deviations[:, 0], len(common))
        gaps.append(ScoreGap(first.name, second.name, first.task, name, estimate, len(common), p))
    pairs = [seed_scores(sums) for sums in (ours, theirs)]
    if min(map(len, pairs)) > 1 and len(pairs[0]) == len(pairs[1]):
        # What two have the same seed for began alike and saw the same photos in the same order.
        of_each = [one - other for one, other in zip(*pairs, strict=True)]
        estimate = over_seeds(of_each, level=level)
        gaps.append(ScoreGap(first.name, second.name, first.task, OVER_SEEDS, estimate, gaps[0].photos, float("nan")))
    return gaps


def _photos_of_both(ours: Any, theirs: Any) -> list[str]:
    """Return the photos that two scores are compared on.

    Of detectors all of both: where one is silent on a photo without objects, the other's detections are wrong ones.
    """
    if isinstance(ours, DetectionSums):
        return list(dict.fromkeys([*ours.photos, *theirs.photos]))
    known = set(theirs.photos)
    return [photo for photo in ours.photos if photo in known]


def compare_scores(first: Evaluation, second: Evaluation) -> ScoreGap:
    """Return the score of `first` minus that of `second`, on the same photos; errors as in `score_gaps`."""
    return next(gap for gap in score_gaps(first, second) if gap.effect == "score")


def check_comparable(first: Evaluation, second: Evaluation) -> None:
    """Raise `MeasurementError` if two evaluations are not of one task, on the same photos, with the same settings."""
    if first.task != second.task:
        raise MeasurementError(f"{first.name} was scored in {first.task}, {second.name} in {second.task}; no pair.")
    for what in ("data", "settings"):
        ours, theirs = (dict(one.provenance[what]) for one in (first, second))
        # Batches change speed and memory only, and a name nothing.
        differing = sorted(
            key
            for key in {*ours, *theirs} - {"batch_size", "name", "level", "resamples"}
            if ours.get(key) != theirs.get(key)
        )
        if differing:
            raise MeasurementError(
                f"{first.name} and {second.name} were evaluated with other {what} ({', '.join(differing)}); evaluate "
                "them alike."
            )
