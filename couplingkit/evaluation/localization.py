"""Annotated objects and a backbone in, scores of its affinity maps against the masks out: rows, means, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.photo_files import photo_files
from ..data.photos import read_photo
from ..errors import MeasurementError
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone
from ..features.passes import BatchSize
from ..features.regions import covered_shares
from ..html_text import table_html
from ..metrics.bootstrap import Estimate
from ..metrics.localization import (
    SCORES,
    leak_scores,
    pixel_scores,
    region_scores,
    summarize_scores,
)
from ..metrics.summary import paired_difference
from ..streams import Stream
from .object_queries import ObjectQuery, step_of, stepped_mask
from .photo_features import PhotoFeatures, read_photos

__all__ = [
    "SCORE_COLUMNS",
    "Localization",
    "LocalizeSettings",
    "compare_localization",
    "localize",
]

# Letters of a model's name in the progress bar; the end of a path tells more than its start.
SHOWN = 40
SCORE_COLUMNS = [
    *("model", "annotation", "image", "file_name", "category", "x", "y"),
    *("other_annotation", "other_category", "other_distance_px", "cells"),
    *("auroc_px", "ap_px", "auroc_cells", "ap_cells", "inside", "outside", "contrast"),
    *("other", "background", "leak", "leak_unlike"),
    *("measured", "why_not"),
]


@dataclass(frozen=True)
class Localization:
    """How well one model's affinity maps tell objects from their surroundings.

    Attributes:
        name: of the model.
        rows: one row per object, columns `SCORE_COLUMNS`; empty where an object could not be measured.
        estimates: score (see `SCORES`) -> mean and interval over the rows that define it.
        categories: one row per category and score: the number of objects, mean and interval.
        counts: objects made and measured, and how many have which reason not to be.
        provenance: of the model and the data, as JSON values.
    """

    name: str
    rows: pd.DataFrame
    estimates: dict[str, Estimate]
    categories: pd.DataFrame
    counts: dict[str, int]
    provenance: dict[str, Any]

    def _repr_html_(self) -> str:
        rows = [
            [name, estimate.text(), str(int(self.rows[name].notna().sum()))]
            for name, estimate in self.estimates.items()
        ]
        notes = [f"{', '.join(f'{count} {name}' for name, count in self.counts.items())}; intervals over photos."]
        return table_html(["score", "value", "objects"], rows, caption=self.name, notes=notes)


@dataclass(frozen=True)
class LocalizeSettings:
    """How affinity maps are scored.

    Attributes:
        fit: `stretch` or `pad`; see `read_photos`.
        how: maps are brought to the photo's resolution; see `upsample`.
        batch_size: photos per forward pass; changes speed and memory only.
        seed: of the bootstrap.
        level: of the intervals.
    """

    fit: str = "stretch"
    how: str = "bicubic"
    batch_size: BatchSize = 32
    seed: int = 0
    level: float = 0.95


def localize(
    backbone: DenseBackbone | LayeredBackbone,
    queries: Sequence[ObjectQuery],
    images: str | Path,
    settings: LocalizeSettings = LocalizeSettings(),
    *,
    progress: bool = False,
) -> list[Localization]:
    """Score the affinity map of each query as a detector of its object.

    The query's own place counts like any other; at random weights neighbouring cells are alike, too, so compare
    models with each other and with `random:`, not with 0.5.

    Args:
        backbone: the network.
        queries: from `draw_queries`.
        images: folder of the photos.
        settings: how photos are shown, maps are read, ...
        progress: whether to show a bar.

    Returns:
        One record per layer of the backbone.

    Raises:
        DataError: a photo cannot be read.
        MeasurementError: features are not finite, or no object can be measured.
    """
    layered = backbone if isinstance(backbone, LayeredBackbone) else LayeredBackbone([backbone])
    by_photo: dict[int, list[ObjectQuery]] = {}
    for query in queries:
        by_photo.setdefault(query.target.image_id, []).append(query)
    files = photo_files(images)
    pixels = (read_photo(files, group[0].photo.image) for group in by_photo.values())
    rows: list[list[dict[str, Any]]] = [[] for _ in layered.layers]
    with tqdm(total=len(queries), desc=layered.name[-SHOWN:], unit="object", disable=not progress) as bar:
        shown = read_photos(layered, pixels, fit=settings.fit, batch_size=settings.batch_size)
        for group, of_layers in zip(by_photo.values(), shown, strict=True):
            for of_layer, layer, features in zip(rows, layered.layers, of_layers, strict=True):
                of_layer += _rows(layer.name, group, features, settings.how)
            bar.update(len(group))
    order = {query.target.annotation_id: index for index, query in enumerate(queries)}
    return [
        _record(layer, pd.DataFrame(of_layer), order, settings)
        for layer, of_layer in zip(layered.layers, rows, strict=True)
    ]


def _rows(model: str, group: Sequence[ObjectQuery], features: PhotoFeatures, how: str) -> list[dict[str, Any]]:
    """Return the scores of the queries of one photo."""
    photo = group[0].photo
    annotated = [*photo.objects, *photo.crowds]
    step = step_of(features.frame.photo)
    masks: NDArray[np.bool_] = np.stack([stepped_mask(record, step) for record in annotated])
    frame = replace(features.frame, photo=masks.shape[1:])
    places = {record.annotation_id: index for index, record in enumerate(annotated)}
    nothing, everything = ~masks.any(axis=0, keepdims=True), np.ones_like(masks[:1])
    planes = np.concatenate([masks, nothing, everything])
    grid = (features.cells.shape[1], features.cells.shape[2])
    shares = covered_shares(torch.from_numpy(planes), frame, stride_px=features.stride_px, grid=grid).numpy()
    maps = features.affinity([(query.x, query.y) for query in group])
    rows = []
    for query, cell_map in zip(group, maps, strict=True):
        inside = shares[places[query.target.annotation_id]]
        row = _described(model, query) | {"cells": float(inside.sum())}
        why_not = _why_not(cell_map.cells, inside, shares[-1])
        if not why_not:
            row |= pixel_scores(cell_map.pixels(frame.photo, how=how), masks[places[query.target.annotation_id]])
            row |= region_scores(cell_map.cells, inside, shares[-1])
            if query.other is not None:
                row |= leak_scores(cell_map.cells, inside, shares[places[query.other.annotation_id]], shares[-2])
                unlike = query.other.category != query.target.category
                row["leak_unlike"] = row["leak"] if unlike else float("nan")
        rows.append(row | {"measured": not why_not, "why_not": why_not})
    return rows


def _described(model: str, query: ObjectQuery) -> dict[str, Any]:
    other = query.other
    return {
        "model": model,
        "annotation": query.target.annotation_id,
        "image": query.target.image_id,
        "file_name": query.photo.image.file_name,
        "category": query.target.category,
        "x": query.x,
        "y": query.y,
        "other_annotation": None if other is None else other.annotation_id,
        "other_category": None if other is None else other.category,
        "other_distance_px": query.other_distance_px,
    }


def _why_not(cells: NDArray[np.float64], inside: NDArray[np.float64], photo: NDArray[np.float64]) -> str:
    # In the padding around a photo anything may be undefined; it is not looked at.
    if np.isnan(cells[photo > 0]).any():
        return "a feature of length 0 has no direction"
    counted = photo >= 0.5
    halves = (inside >= 0.5) & counted
    if inside.sum() < 1 or not halves.any():
        return "smaller than a cell"
    return "fills the photo" if halves.sum() == counted.sum() else ""


def _record(
    layer: DenseBackbone, rows: pd.DataFrame, order: dict[int, int], settings: LocalizeSettings
) -> Localization:
    table = rows.reindex(columns=SCORE_COLUMNS)
    table = table.sort_values("annotation", key=lambda column: column.map(order), ignore_index=True)
    table["other_annotation"] = table["other_annotation"].astype("Int64")
    measured = table["measured"].to_numpy(dtype=bool)
    if not measured.any():
        raise MeasurementError(
            f"none of the {len(table)} objects can be measured with {layer.name} ({table['why_not'].iloc[0]}); a "
            "larger `image_size`, larger objects or a smaller stride would measure them."
        )
    stream = Stream(settings.seed).child("bootstrap", "localization")
    reasons = table.loc[~measured, "why_not"].value_counts()
    return Localization(
        name=layer.name,
        rows=table,
        estimates=_estimates(table, stream, settings.level),
        categories=_by_category(table[measured], stream, settings.level),
        counts={
            "objects": len(table),
            "measured": int(measured.sum()),
            **{str(why): int(n) for why, n in reasons.items()},
        },
        provenance={
            "model": layer.provenance(),
            "settings": {"fit": settings.fit, "upsampling": settings.how, "level": settings.level},
        },
    )


def _columns(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    return {name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in SCORES}


def _estimates(rows: pd.DataFrame, stream: Stream, level: float) -> dict[str, Estimate]:
    return summarize_scores(_columns(rows), rows["image"].to_numpy(dtype=np.int64), stream, level=level)


def _by_category(rows: pd.DataFrame, stream: Stream, level: float) -> pd.DataFrame:
    found = []
    for category, part in rows.groupby("category", sort=True):
        for score, estimate in _estimates(part, stream.child("category", str(category)), level).items():
            count = int(part[score].notna().sum())
            found.append({"category": category, "score": score, "objects": count, **vars(estimate)})
    return pd.DataFrame(found)


def compare_localization(
    first: Localization, second: Localization, *, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[Estimate, int]]:
    """Return, per score, the mean of first - second over the objects that both measured, and how many those are.

    Scores that no object has with both are left out.

    Raises:
        MeasurementError: the two were not measured on the same objects.
    """
    if not first.rows["annotation"].equals(second.rows["annotation"]):
        raise MeasurementError(
            f"{first.name} and {second.name} were measured on different objects; none can be paired."
        )
    images = first.rows["image"].to_numpy(dtype=np.int64)[:, None]
    one, other = _columns(first.rows), _columns(second.rows)
    stream = Stream(seed).child("bootstrap", "localization", "paired")
    return {
        name: paired_difference(one[name], other[name], images, stream.child(name), level=level)
        for name in SCORES
        if not np.isnan(one[name] - other[name]).all()
    }
