"""Annotated photos and a backbone in, one vector per object out: the mean of the dense features over its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.coco import CocoIndex
from ..data.objects import ObjectRecord
from ..data.photo_files import photo_files
from ..data.photos import read_photo
from ..data.segmentation import rle_mask
from ..errors import MeasurementError, check_range
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone
from ..features.passes import BatchSize
from ..features.regions import covered_shares, masked_mean
from ..streams import Stream
from .photo_features import PhotoFeatures, read_photos

__all__ = ["ObjectSettings", "ObjectVectors", "object_vectors"]


@dataclass(frozen=True)
class ObjectSettings:
    """Which objects are read, and how.

    Attributes:
        count: of objects, drawn from `seed`; all by default.
        min_cells: smaller objects (sum of covered shares) are left out and counted.
        fit: `stretch` or `pad`; see `read_photos`.
        batch_size: photos per forward pass; changes speed and memory only.
        seed: of the draw.
    """

    count: int | None = None
    min_cells: float = 1.0
    fit: str = "stretch"
    batch_size: BatchSize = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("min_cells", self.min_cells, 0)


@dataclass(frozen=True)
class ObjectVectors:
    """What a network says of each object.

    Attributes:
        name: of the model.
        rows: one per object: annotation, image, category, cells, measured.
        vectors: (N, D), rows of objects that are not measured are of no use.
        chance: what always saying the commonest category of the measured ones would give.
        provenance: of the model and of the annotations.
    """

    name: str
    rows: pd.DataFrame
    vectors: Tensor
    chance: float
    provenance: dict[str, Any]


def object_vectors(
    backbone: DenseBackbone,
    index: CocoIndex,
    images: str | Path,
    settings: ObjectSettings = ObjectSettings(),
    *,
    progress: bool = False,
) -> ObjectVectors:
    """Read the vector of each object, in its own photo.

    Args:
        backbone: the network.
        index: the eligible objects.
        images: folder of their photos.
        settings: how many objects, ...
        progress: whether to show a bar.

    Raises:
        MeasurementError: fewer than two photos have an object that can be measured, or features are not finite.
        DataError: a photo cannot be read.
    """
    by_photo: dict[int, list[ObjectRecord]] = {}
    for record in _drawn(index, settings):
        by_photo.setdefault(record.image_id, []).append(record)
    files = photo_files(images)
    photos = (read_photo(files, index.images[identity]) for identity in by_photo)
    vectors, cells = [], []
    records = [record for group in by_photo.values() for record in group]
    with tqdm(total=len(records), desc=backbone.name, unit="object", disable=not progress) as bar:
        shown = read_photos(LayeredBackbone([backbone]), photos, fit=settings.fit, batch_size=settings.batch_size)
        for group, (features,) in zip(by_photo.values(), shown, strict=True):
            of_photo = _vectors(features, group)
            vectors.append(of_photo[0])
            cells.append(of_photo[1])
            bar.update(len(group))
    table = pd.DataFrame(
        {
            "annotation": [record.annotation_id for record in records],
            "image": [record.image_id for record in records],
            "category": [record.category for record in records],
            "cells": torch.cat(cells).numpy(),
        }
    )
    found = torch.cat(vectors)
    table["measured"] = (table["cells"].to_numpy() >= settings.min_cells) & (found.norm(dim=1) > 0).numpy()
    known = table[table["measured"]]
    _check_photos(known["image"].nunique(), backbone.name)
    chance = float(known["category"].value_counts(normalize=True).iloc[0])
    return ObjectVectors(
        backbone.name, table, found, chance, {"model": backbone.provenance(), "annotations": index.sha256}
    )


def _drawn(index: CocoIndex, settings: ObjectSettings) -> list[ObjectRecord]:
    places = list(range(len(index.objects)))
    if settings.count is not None and settings.count < len(places):
        order = Stream(settings.seed).child("object knn").generator().permutation(len(places))
        places = sorted(order[: settings.count].tolist())
    return [index.objects[place] for place in places]


def _vectors(features: PhotoFeatures, group: Sequence[ObjectRecord]) -> tuple[Tensor, Tensor]:
    """Return the vector of each object of a photo, (n, D), and its cells, (n,)."""
    masks = torch.from_numpy(np.stack([rle_mask(record.rle) for record in group]))
    grid = (features.cells.shape[1], features.cells.shape[2])
    shares = covered_shares(masks, features.frame, stride_px=features.stride_px, grid=grid).float()
    return masked_mean(features.cells.expand(len(group), -1, -1, -1), shares), shares.sum(dim=(1, 2))


def _check_photos(count: int, name: str) -> None:
    if count < 2:
        raise MeasurementError(
            f"{count} photos have an object that {name} can be measured on, but objects are held against those of "
            "other photos; a larger `image_size`, more photos or larger objects would do."
        )
