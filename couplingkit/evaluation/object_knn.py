"""Annotated photos and a backbone in, the share of objects whose nearest neighbours are of their category out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..data.coco import CocoIndex
from ..data.cutouts import read_photo
from ..data.objects import ObjectRecord
from ..data.photo_files import photo_files
from ..data.segmentation import rle_mask
from ..errors import MeasurementError, check_range
from ..features.backbone import DenseBackbone, LayeredBackbone
from ..features.regions import covered_shares, masked_mean
from ..metrics.bootstrap import Estimate, Statistic, intervals
from ..streams import Stream
from .photo_features import PhotoFeatures, read_photos

__all__ = ["KnnSettings", "ObjectKnn", "nearest_neighbours", "object_knn"]


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
class KnnSettings:
    """How objects are classified by their neighbours.

    Attributes:
        count: of objects, drawn from `seed`; all by default.
        k: neighbours that vote; the nearest decides a tie.
        min_cells: smaller objects (sum of covered shares) are left out and counted.
        fit: `stretch` or `pad`; see `read_photos`.
        batch_size: photos per forward pass; changes speed and memory only.
        seed: of the draw and of the bootstrap.
        level: of the interval.
    """

    count: int | None = None
    k: int = 1
    min_cells: float = 1.0
    fit: str = "stretch"
    batch_size: int = 32
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        check_range("k", self.k, 1)
        check_range("min_cells", self.min_cells, 0)


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
    places = list(range(len(index.objects)))
    if settings.count is not None and settings.count < len(places):
        order = Stream(settings.seed).child("object knn").generator().permutation(len(places))
        places = sorted(order[: settings.count].tolist())
    chosen = [index.objects[place] for place in places]
    by_photo: dict[int, list[ObjectRecord]] = {}
    for record in chosen:
        by_photo.setdefault(record.image_id, []).append(record)
    files = photo_files(images)
    photos = (read_photo(files, index.images[identity]) for identity in by_photo)
    vectors, cells = [], []
    with tqdm(total=len(chosen), desc=backbone.name, unit="object", disable=not progress) as bar:
        shown = read_photos(LayeredBackbone([backbone]), photos, fit=settings.fit, batch_size=settings.batch_size)
        for group, (features,) in zip(by_photo.values(), shown, strict=True):
            of_photo = _vectors(features, group)
            vectors.append(of_photo[0])
            cells.append(of_photo[1])
            bar.update(len(group))
    records = [record for group in by_photo.values() for record in group]
    table = pd.DataFrame(
        {
            "annotation": [record.annotation_id for record in records],
            "image": [record.image_id for record in records],
            "category": [record.category for record in records],
            "cells": torch.cat(cells).numpy(),
        }
    )
    return _record(backbone, table, torch.cat(vectors), settings, index.sha256)


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


def _vectors(features: PhotoFeatures, group: Sequence[ObjectRecord]) -> tuple[Tensor, Tensor]:
    """Return the vector of each object of a photo, (n, D), and its cells, (n,)."""
    masks = torch.from_numpy(np.stack([rle_mask(record.rle) for record in group]))
    grid = (features.cells.shape[1], features.cells.shape[2])
    shares = covered_shares(masks, features.frame, stride_px=features.stride_px, grid=grid).float()
    return masked_mean(features.cells.expand(len(group), -1, -1, -1), shares), shares.sum(dim=(1, 2))


def _record(
    backbone: DenseBackbone, table: pd.DataFrame, vectors: Tensor, settings: KnnSettings, annotations_sha256: str
) -> ObjectKnn:
    measured = (table["cells"].to_numpy() >= settings.min_cells) & (vectors.norm(dim=1) > 0).numpy()
    table["measured"] = measured
    places = np.flatnonzero(measured)
    photos = table["image"].to_numpy()[places]
    if len(np.unique(photos)) < 2:
        raise MeasurementError(
            f"{len(np.unique(photos))} photos have an object that {backbone.name} can be measured on, but neighbours "
            "come from other photos; a larger `image_size`, more photos or larger objects would do."
        )
    # No more neighbours than the photo with most objects leaves to the others.
    k = min(settings.k, len(photos) - int(np.unique(photos, return_counts=True)[1].max()))
    nearest, cosines = nearest_neighbours(vectors[places], photos, k)
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
    chance = float(np.unique(categories, return_counts=True)[1].max() / len(categories))
    made = {**asdict(settings), "sha256": annotations_sha256}
    return ObjectKnn(backbone.name, table, accuracy, chance, {"model": backbone.provenance(), "settings": made})


def _vote(categories: NDArray[np.object_]) -> str:
    """Return the commonest of some categories, nearest first; of equally common ones the one that came first."""
    names = list(categories)
    return str(max(names, key=lambda name: (names.count(name), -names.index(name))))
