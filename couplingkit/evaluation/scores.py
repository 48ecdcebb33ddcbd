"""Rows of a task in, its score with its interval out, and the difference of two scores on the same photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import MeasurementError
from ..html_text import table_html
from ..metrics.bootstrap import Estimate
from ..metrics.photo_intervals import photo_draws, photo_intervals, photo_p_value
from ..metrics.seeds import over_seeds
from ..streams import Stream
from .detection_scores import DetectionSums
from .photo_sums import OVER_SEEDS, photo_sums, seed_scores

__all__ = ["Evaluation", "ScoreGap", "check_comparable", "compare_scores", "score_estimates", "score_gaps"]

Array = NDArray[np.float64]


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
