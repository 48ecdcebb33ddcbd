"""Objects and their vectors in, the share that a linear classifier of other photos' objects names rightly out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.coco import CocoIndex
from ..errors import MeasurementError, check_range
from ..features.backbone import DenseBackbone
from ..metrics.bootstrap import Estimate, Statistic, intervals
from ..metrics.logistic import fit_chosen
from ..streams import Stream
from .object_vectors import ObjectSettings, ObjectVectors, object_vectors

__all__ = ["LinearSettings", "ObjectLinear", "object_linear", "separated"]

# Of the photos that a model is made from, a fifth chooses its strength.
HELD_OUT = 5
FEWEST_PHOTOS = 10


@dataclass(frozen=True)
class LinearSettings(ObjectSettings):
    """How objects are classified by a linear model; which ones and how they are read is as in `ObjectSettings`.

    Attributes:
        folds: parts of the photos; each part's objects are named by a model of the other parts'.
        level: of the interval; the bootstrap's seed is that of the draw.
    """

    folds: int = 5
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("folds", self.folds, 2, 50)

    @property
    def fewest_photos(self) -> int:
        """How many photos with objects it takes."""
        return max(FEWEST_PHOTOS, 2 * self.folds)


@dataclass(frozen=True)
class ObjectLinear:
    """How well objects can be told apart by planes through one model's features.

    Attributes:
        name: of the model.
        rows: one per object: annotation, image, category, cells, measured, fold, predicted, correct.
        accuracy: share of the measured objects whose prediction is right, with its interval over photos.
        chance: what always saying the commonest category would give.
        strengths: of the L2 term, per fold.
        provenance: what is needed to measure the same again, as JSON values.
    """

    name: str
    rows: pd.DataFrame
    accuracy: Estimate
    chance: float
    strengths: tuple[float, ...]
    provenance: dict[str, Any]


def object_linear(
    backbone: DenseBackbone,
    index: CocoIndex,
    images: str | Path,
    settings: LinearSettings = LinearSettings(),
    *,
    progress: bool = False,
) -> ObjectLinear:
    """Classify each object by multinomial logistic regression on the objects of other photos, by cross-validation.

    Nearest neighbours see the geometry of features, a linear model whether the information is there: look at both. The
    strength of the L2 term is chosen anew for each fold, on a fifth of the photos that its model is made from.

    Args:
        backbone: the network.
        index: the eligible objects.
        images: folder of their photos.
        settings: how many objects, how many folds, ...
        progress: whether to show a bar.

    Raises:
        MeasurementError: too few photos have an object that can be measured, or features are not finite.
        DataError: a photo cannot be read.
    """
    return separated(object_vectors(backbone, index, images, settings, progress=progress), settings)


def separated(objects: ObjectVectors, settings: LinearSettings = LinearSettings()) -> ObjectLinear:
    """Classify objects that have been read already; see `object_linear`."""
    table = objects.rows.copy()
    places = np.flatnonzero(table["measured"].to_numpy())
    photos = table["image"].to_numpy()[places]
    if len(np.unique(photos)) < settings.fewest_photos:
        raise MeasurementError(
            f"{len(np.unique(photos))} photos have an object that {objects.name} can be measured on, but "
            f"{settings.fewest_photos} are needed to separate objects in {settings.folds} folds; give more photos."
        )
    fold = _folds(photos, settings.folds, Stream(settings.seed).child("object linear"))
    names, classes = np.unique(table["category"].to_numpy()[places].astype(str), return_inverse=True)
    vectors = objects.vectors[places].double().numpy()
    targets = np.eye(len(names))[classes]
    predicted = np.zeros(len(places), dtype=np.int64)
    strengths = []
    for part in range(settings.folds):
        others = fold != part
        inner = Stream(settings.seed).child("object linear", part)
        chooses = _folds(photos[others], HELD_OUT, inner) == 0
        model, strength = fit_chosen(vectors[others], targets[others], chooses)
        strengths.append(strength)
        predicted[~others] = model.log_probabilities(vectors[~others]).argmax(axis=1)
    correct = predicted == classes
    for name, values in {"fold": fold, "predicted": names[predicted], "correct": correct}.items():
        table[name] = pd.Series(values, index=places).reindex(table.index)
    stream = Stream(settings.seed).child("bootstrap", "object linear")
    (accuracy,) = intervals([Statistic(correct.astype(np.float64))], photos[:, None], stream, level=settings.level)
    made = {**asdict(settings), "sha256": objects.provenance["annotations"]}
    provenance = {"model": objects.provenance["model"], "settings": made}
    return ObjectLinear(objects.name, table, accuracy, objects.chance, tuple(strengths), provenance)


def _folds(photos: NDArray[np.int64], count: int, stream: Stream) -> NDArray[np.int64]:
    """Return the part that each row's photo belongs to, parts of like many photos, (N,)."""
    distinct, of_row = np.unique(photos, return_inverse=True)
    parts = np.arange(len(distinct)) % count
    found: NDArray[np.int64] = stream.generator().permutation(parts)[of_row]
    return found
