"""What a pass over photos gathered in, tables of rows and the evaluations that derive from them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..data.labelled_data import LabelledData
from ..data.semantic import BACKGROUND
from ..errors import MeasurementError
from ..metrics.discovery import cells_box, lost, overlap, token_cut
from ..pixels import Frame
from .chunks import Arrays
from .object_knn import KnnSettings, neighbours_of
from .object_linear import LinearSettings, separated
from .object_vectors import ObjectVectors
from .photo_pass import CEILING, FLOOR
from .photo_sums import segment_sums
from .scores import Evaluation, score_estimates
from .task import EvaluateSettings

__all__ = ["concluded", "discovered", "joined", "object_evaluations", "segmentation"]

# An object of another class that hides it counts as its neighbour, too.
NO_NEIGHBOUR, UNSEEN = "no object of another class in the photo", "covers too few cells"
HIT = 0.5
FINDERS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {"tokencut": token_cut, "lost": lost}


def joined(parts: Sequence[Arrays]) -> Arrays:
    """Return the arrays of all chunks, one after another."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}


def concluded(
    name: str,
    task: str,
    rows: pd.DataFrame,
    objects: pd.DataFrame | None,
    *,
    bounds: tuple[float, float],
    provenance: dict[str, Any],
) -> Evaluation:
    """Return the evaluation that rows make; `bounds` are ceiling and floor."""
    settings = provenance["settings"]
    estimates = score_estimates(
        task, rows, objects, seed=settings["seed"], level=settings["level"], resamples=settings["resamples"]
    )
    if "score" not in estimates:
        raise MeasurementError(f"{name}: no test photo has a labelled pixel, so that {task} has nothing to score.")
    extras = {key: estimate for key, estimate in estimates.items() if key != "score"}
    return Evaluation(name, task, rows, objects, estimates["score"], *bounds, extras, provenance)


def segmentation(
    name: str, task: str, layer: int, arrays: Arrays, data: LabelledData, *, provenance: dict[str, Any]
) -> Evaluation:
    """Return what a segmentation task scores at one layer."""
    rows = _pixel_rows(arrays[f"{layer}/{task}/rows"], data)
    bounds = tuple(segment_sums(_pixel_rows(arrays[f"{layer}/{one}/rows"], data)).value() for one in (CEILING, FLOOR))
    objects = None
    if "neighbours" in arrays:
        objects = _object_rows(arrays["neighbours"], arrays[f"{layer}/{task}/shares"], data)
    return concluded(name, task, rows, objects, bounds=(bounds[0], bounds[1]), provenance=provenance)


def _pixel_rows(counts: NDArray[np.int64], data: LabelledData) -> pd.DataFrame:
    table = pd.DataFrame(counts, columns=["photo", "class", "intersection", "predicted", "labelled"])
    table["photo"] = np.array(data.test.ids, dtype=object)[counts[:, 0]]
    table["class"] = np.array(data.classes, dtype=object)[counts[:, 1]]
    return table


def _object_rows(neighbours: NDArray[np.int64], shares: NDArray[np.float32], data: LabelledData) -> pd.DataFrame:
    """Return one row an object: what its pixels were taken for, its neighbour's class beside two controls.

    `taken_by_other` is the mean share of the remaining classes; `taken_elsewhere` the share that the neighbour's class
    takes of objects of the same class in photos where it is nowhere (of objects of any other class, where there is no
    such object): a class that is predicted often takes pixels anywhere.
    """
    names = np.array(data.classes, dtype=object)
    photo, annotation, label, pixels, _, near_annotation, near_label, gap = neighbours.T
    measured = near_label >= 0
    row = np.arange(len(neighbours))
    recall = shares[row, label].astype(np.float64)
    taken = np.where(measured, shares[row, np.maximum(near_label, 0)], np.nan)
    table = pd.DataFrame(
        {
            "photo": np.array(data.test.ids, dtype=object)[photo],
            "annotation": annotation,
            "category": names[label],
            "pixels": pixels,
            "recall": recall,
            "neighbour": pd.Series(near_annotation).where(measured).astype("Int64"),
            "neighbour_category": np.where(measured, names[near_label], None),
            "distance_px": np.where(measured, gap / 1000, np.nan),
            "taken_by_neighbour": taken,
        }
    )
    table["taken_by_other"] = _by_other(shares, label, near_label, data)
    table["taken_elsewhere"] = _elsewhere(shares, photo, label, near_label)
    table["measured"] = measured
    table["why_not"] = np.where(measured, "", NO_NEIGHBOUR)
    return table


def _by_other(shares: NDArray, label: NDArray, near: NDArray, data: LabelledData) -> NDArray[np.float64]:
    """Return the mean share of the classes that are neither the object's, nor its neighbour's, nor the background."""
    row = np.arange(len(shares))
    ground = [place for place, name in enumerate(data.classes) if name == BACKGROUND]
    rest = 1.0 - shares[row, label] - shares[row, np.maximum(near, 0)] - shares[:, ground].sum(axis=1)
    count = shares.shape[1] - 2 - len(ground)
    return np.where((near >= 0) & (count > 0), np.clip(rest, 0, None) / max(count, 1), np.nan)


def _elsewhere(shares: NDArray, photo: NDArray, label: NDArray, near: NDArray) -> NDArray[np.float64]:
    """Return how much the neighbour's class takes of objects in photos where it is not; NaN without such objects."""
    found = np.full(len(shares), np.nan)
    for kind in np.unique(near[near >= 0]):
        absent = ~np.isin(photo, np.unique(photo[label == kind]))
        anywhere = shares[absent & (label != kind), kind]
        for own in np.unique(label[near == kind]):
            alike = shares[absent & (label == own), kind]
            values = alike if len(alike) else anywhere
            if len(values):
                found[(near == kind) & (label == own)] = values.mean(dtype=np.float64)
    return found


def object_evaluations(
    name: str, layer: int, arrays: Arrays, data: LabelledData, settings: EvaluateSettings, provenance: dict[str, Any]
) -> list[Evaluation]:
    """Return how many objects of test photos are told by their neighbours in other photos, and by planes.

    Raises:
        MeasurementError: fewer than two photos have an object that is large enough.
    """
    if f"{layer}/objects" not in arrays:
        raise MeasurementError(f"no test photo of {data.name} has an object.")
    facts, vectors = arrays[f"{layer}/objects"], torch.from_numpy(arrays[f"{layer}/vectors"])
    photo, label = facts[:, 0].astype(np.int64), facts[:, 2].astype(np.int64)
    table = pd.DataFrame(
        {
            "annotation": facts[:, 1].astype(np.int64),
            "image": photo,
            "category": np.array(data.classes, dtype=object)[label],
            "cells": facts[:, 3],
        }
    )
    large = (facts[:, 3] >= settings.min_cells) & (vectors.norm(dim=1) > 0).numpy()
    table["measured"] = large
    known = table[large]
    photos = known["image"].nunique()
    if photos < 2:
        raise MeasurementError(
            f"{photos} test photos have an object of {settings.min_cells:g} cells for {name}, but objects are held "
            "against those of other photos; a larger `image_size`, or more photos, would do."
        )
    floor = float(known["category"].value_counts(normalize=True).iloc[0])
    objects = ObjectVectors(name, table, vectors, floor, {"model": {}, "annotations": ""})
    tables = {"objects": neighbours_of(objects, KnnSettings(seed=settings.seed)).rows}
    linear = LinearSettings(seed=settings.seed)
    if photos >= linear.fewest_photos:
        tables["objects-linear"] = separated(objects, linear).rows
    ids = np.array(data.test.ids, dtype=object)
    nothing = pd.DataFrame()
    return [
        concluded(name, task, nothing, _named(rows, ids), bounds=(np.nan, floor), provenance=provenance)
        for task, rows in tables.items()
    ]


def _named(rows: pd.DataFrame, ids: NDArray[np.object_]) -> pd.DataFrame:
    table = rows.rename(columns={"image": "photo"})
    table["photo"] = ids[table["photo"].to_numpy()]
    table["why_not"] = np.where(table["measured"], "", UNSEEN)
    return table


def discovered(layer: int, arrays: Arrays, places: Sequence[int]) -> list[tuple[int, str, float]]:
    """Return (place of the photo, task, IoU of its one box with the best object) of some photos with objects.

    The whole photo as a box is the floor, under the name `floor`.
    """
    cells, frames, boxes = (arrays[name] for name in (f"{layer}/cells", f"{layer}/frames", "boxes"))
    centre = cells.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None]
    found = []
    for place in places:
        own = boxes[boxes[:, 0] == place, 1:].astype(np.float64)
        if not len(own):
            continue
        height, width, *numbers = (int(number) for number in frames[place])
        frame = Frame((height, width), (numbers[0], numbers[1]), *numbers[2:6])
        centred = cells[place].astype(np.float64) - centre
        for task, find in FINDERS.items():
            box = _on_photo(cells_box(find(centred), stride_px=numbers[6]), frame)
            found.append((place, task, float(overlap(box, own).max())))
        found.append((place, FLOOR, float(overlap((0.0, 0.0, width, height), own).max())))
    return found


def _on_photo(box: tuple[float, float, float, float], frame: Frame) -> tuple[float, float, float, float]:
    """Return a box of the network's input in px of the photo, cut off at its border."""
    left, top, right, bottom = box
    across, down = frame.photo[1] / frame.width, frame.photo[0] / frame.height

    def at(value: float, start: int, scale: float, most: int) -> float:
        return min(max((value - start) * scale, 0.0), float(most))

    return (
        at(left, frame.left, across, frame.photo[1]),
        at(top, frame.top, down, frame.photo[0]),
        at(right, frame.left, across, frame.photo[1]),
        at(bottom, frame.top, down, frame.photo[0]),
    )


def discovery_evaluations(
    name: str, found: Sequence[tuple[int, str, float]], data: LabelledData, provenance: Mapping[str, Any]
) -> list[Evaluation]:
    """Return the share of photos whose box hits an object, of each way to find one."""
    if not found:
        raise MeasurementError(f"no test photo of {data.name} has an object.")
    table = pd.DataFrame(found, columns=["place", "task", "iou"]).sort_values(["place", "task"], ignore_index=True)
    table["hit"] = table["iou"] >= HIT
    table["photo"] = np.array(data.test.ids, dtype=object)[table["place"].to_numpy()]
    floor = float(table.loc[table["task"] == FLOOR, "hit"].mean())
    return [
        concluded(
            name,
            task,
            table.loc[table["task"] == task, ["photo", "iou", "hit"]].reset_index(drop=True),
            None,
            bounds=(np.nan, floor),
            provenance=dict(provenance),
        )
        for task in FINDERS
    ]


def provenance_of(model: dict[str, Any], data: LabelledData, settings: EvaluateSettings) -> dict[str, Any]:
    """Return what is needed to score the same again, as JSON values."""
    counts = {"train_photos": len(data.train), "test_photos": len(data.test), "classes": list(data.classes)}
    return {"model": model, "data": {**data.identity(), **counts}, "settings": asdict(settings)}
