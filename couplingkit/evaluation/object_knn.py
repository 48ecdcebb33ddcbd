"""Objects and their vectors in, the share whose nearest neighbours in other photos are of their category out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.coco import CocoIndex
from ..errors import check_range
from ..features.backbone import DenseBackbone
from ..metrics.bootstrap import Estimate, Statistic, intervals
from ..streams import Stream
from .object_vectors import ObjectSettings, ObjectVectors, object_vectors

__all__ = ["KnnSettings", "ObjectKnn", "nearest_neighbours", "neighbours_of", "object_knn"]


@dataclass(frozen=True)
class ObjectKnn:
    """How one model tells objects apart.

    Attributes:
        name: of the model.
        rows: one per object: annotation, image, category, cells, predicted, neighbour (its annotation), similarity,
            correct, measured.
        accuracy: share of the measured objects whose prediction is right, with its interval over photos.
        chance: what always saying the commonest category would give.
        provenance: what is needed to measure the same again, as JSON values.
    """

    name: str
    rows: pd.DataFrame
    accuracy: Estimate
    chance: float
    provenance: dict[str, Any]


@dataclass(frozen=True)
class KnnSettings(ObjectSettings):
    """How objects are classified by their neighbours; which ones and how they are read is as in `ObjectSettings`.

    Attributes:
        k: neighbours that vote; the nearest decides a tie.
        level: of the interval; the bootstrap's seed is that of the draw.
    """

    k: int = 1
    level: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("k", self.k, 1)


def object_knn(
    backbone: DenseBackbone,
    index: CocoIndex,
    images: str | Path,
    settings: KnnSettings = KnnSettings(),
    *,
    progress: bool = False,
) -> ObjectKnn:
    """Classify each object by its nearest neighbours among the objects of all other photos.

    An object's vector is the mean of the dense features over its mask, in its own photo. Neighbours are found by
    cosine; those of the same photo do not count, or a feature that tells photos apart would seem to know objects.

    Args:
        backbone: the network.
        index: the eligible objects.
        images: folder of their photos.
        settings: how many objects, how many neighbours, ...
        progress: whether to show a bar.

    Raises:
        MeasurementError: fewer than two photos have an object that can be measured, or features are not finite.
        DataError: a photo cannot be read.
    """
    return neighbours_of(object_vectors(backbone, index, images, settings, progress=progress), settings)


def nearest_neighbours(
    vectors: Tensor, groups: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the k nearest vectors of each by cosine, those of its own group left out: places and cosines, (N, k).

    Args:
        vectors: (N, D), finite, none of length 0.
        groups: int64 (N,).
        k: how many; of equal cosines the first ones.
    """
    unit = torch.nn.functional.normalize(vectors.to(torch.float64), dim=1)
    cosines = unit @ unit.T
    same = torch.from_numpy(groups[:, None] == groups[None])
    order = cosines.masked_fill(same, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :k]
    return order.numpy(), cosines.gather(1, order).numpy()


def neighbours_of(objects: ObjectVectors, settings: KnnSettings = KnnSettings()) -> ObjectKnn:
    """Classify objects that have been read already; see `object_knn`."""
    table = objects.rows.copy()
    places = np.flatnonzero(table["measured"].to_numpy())
    photos = table["image"].to_numpy()[places]
    # No more neighbours than the photo with most objects leaves to the others.
    k = min(settings.k, len(photos) - int(np.unique(photos, return_counts=True)[1].max()))
    nearest, cosines = nearest_neighbours(objects.vectors[places], photos, k)
    categories = table["category"].to_numpy()[places]
    predicted = np.array([_vote(categories[row]) for row in nearest])
    correct = predicted == categories
    for name, values in {
        "predicted": predicted,
        "neighbour": table["annotation"].to_numpy()[places][nearest[:, 0]],
        "similarity": cosines[:, 0],
        "correct": correct,
    }.items():
        table[name] = pd.Series(values, index=places).reindex(table.index)
    stream = Stream(settings.seed).child("bootstrap", "object knn")
    shares = Statistic(correct.astype(np.float64))
    (accuracy,) = intervals([shares], photos[:, None], stream, level=settings.level)
    made = {**asdict(settings), "sha256": objects.provenance["annotations"]}
    provenance = {"model": objects.provenance["model"], "settings": made}
    return ObjectKnn(objects.name, table, accuracy, objects.chance, provenance)


def _vote(categories: NDArray[np.object_]) -> str:
    """Return the commonest of some categories, nearest first; of equally common ones the one that came first."""
    names = list(categories)
    return str(max(names, key=lambda name: (names.count(name), -names.index(name))))
