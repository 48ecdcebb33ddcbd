"""A chunk of labelled photos through a network in, everything that the tasks need of it as arrays out."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.labelled_data import LabelledData
from ..data.semantic import LabelledObject, LabelledPhotos
from ..features.layered import LayeredBackbone
from ..features.regions import covered_shares, masked_mean
from ..metrics.confusion import count_pixels
from ..streams import Stream
from .bank import labelled_cells
from .cells import cell_shares, predicted_pixels
from .chunks import Arrays
from .object_confusions import object_shares, photo_neighbours
from .photo_features import PhotoFeatures, read_photos
from .task import EvaluateSettings, Segmenter, Task

__all__ = ["CEILING", "FLOOR", "Heads", "read_test", "read_train"]

# What stands beside every segmentation: true labels at the cells' resolution, and the commonest class everywhere.
CEILING, FLOOR = "ceiling", "floor"
Photo = tuple[NDArray[np.uint8], NDArray[np.int16]]


@dataclass(frozen=True)
class Heads:
    """What was learned of one layer's features.

    Attributes:
        segmenters: by the name of their task.
        commonest: class of the training cells; the floor.
    """

    segmenters: Mapping[str, Segmenter]
    commonest: int


def _shown(
    network: LayeredBackbone,
    photos: LabelledPhotos,
    places: Sequence[int],
    settings: EvaluateSettings,
    use: Callable[[int, Photo, tuple[PhotoFeatures, ...]], None],
) -> NDArray[np.int64]:
    """Read photos, show them to a network and hand each over with its features; return a hash of each photo."""
    read: deque[Photo] = deque()
    hashes = []

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for place in places:
            # Of photos that are read ahead, only those that wait for their features are held.
            photo = photos.read(photos.ids[place])
            hashes.append(hashlib.blake2b(photo[0].tobytes(), digest_size=8).digest())
            read.append(photo)
            yield photo[0]

    shown = read_photos(network, pixels(), fit=settings.fit, batch_size=settings.batch_size)
    for place, features in zip(places, shown, strict=True):
        use(place, read.popleft(), features)
    return np.frombuffer(b"".join(hashes), dtype=np.int64)


def read_train(
    network: LayeredBackbone, data: LabelledData, places: Sequence[int], settings: EvaluateSettings
) -> Arrays:
    """Return the labelled cells of training photos: LAYER/vectors, /shares and /photos, and `hashes` of the photos."""
    photos, banks = data.train, [[] for _ in network.layers]  # type: ignore[var-annotated]
    most = None if settings.bank is None else max(1, settings.bank // len(photos))

    def use(place: int, photo: Photo, features: tuple[PhotoFeatures, ...]) -> None:
        stream = Stream(settings.seed).child("bank", photos.ids[place])
        for layer, of_layer in enumerate(features):
            banks[layer].append(
                labelled_cells(of_layer, photo[1], place, classes=len(photos.classes), most=most, stream=stream)
            )

    found: Arrays = {"hashes": _shown(network, photos, places, settings, use)}
    for layer, parts in enumerate(banks):
        for name in ("vectors", "shares", "photos"):
            found[f"{layer}/{name}"] = np.concatenate([getattr(part, name) for part in parts])
    return found


def read_test(
    network: LayeredBackbone,
    data: LabelledData,
    places: Sequence[int],
    settings: EvaluateSettings,
    *,
    tasks: Sequence[Task],
    heads: Sequence[Heads],
) -> Arrays:
    """Return what the tasks need of test photos, and `hashes` of the photos.

    LAYER/TASK/rows: photo, class, intersection, predicted, labelled (px); with objects also LAYER/TASK/shares, what
    the pixels of each were taken for. `neighbours`: photo, annotation, class, pixels, place of the neighbour in its
    photo, its annotation and class, gap (1/1000 px). LAYER/objects: photo, annotation, class, cells; LAYER/vectors.
    LAYER/cells and LAYER/frames for `discover`, and `boxes`: photo, left, top, right, bottom.
    """
    pass_ = _TestPass(data, settings, tasks, heads)
    hashes = _shown(network, data.test, places, settings, pass_.use)
    return {"hashes": hashes, **{name: np.concatenate(parts) for name, parts in pass_.found.items()}}


class _TestPass:
    """What is gathered of test photos, one after another."""

    def __init__(self, data: LabelledData, settings: EvaluateSettings, tasks: Sequence[Task], heads: Sequence[Heads]):
        self.photos, self.settings, self.heads = data.test, settings, heads
        self.names = [task.name for task in tasks]
        self.found: dict[str, list[NDArray]] = {}

    def use(self, place: int, photo: Photo, features: tuple[PhotoFeatures, ...]) -> None:
        objects = self.photos.objects(self.photos.ids[place]) if self.photos.has_objects else []
        if self.heads:
            self._segment(place, photo[1], features, objects)
        for layer, of_layer in enumerate(features):
            if "objects" in self.names:
                self._read_objects(layer, place, of_layer, objects)
            if "discover" in self.names:
                self._keep(f"{layer}/cells", of_layer.cells.numpy()[None])
                self._keep(f"{layer}/frames", _frame_numbers(of_layer)[None])
        if "discover" in self.names:
            self._keep("boxes", np.array([(place, *_box(one.mask)) for one in objects]).reshape(-1, 5))

    def _keep(self, name: str, values: NDArray) -> None:
        self.found.setdefault(name, []).append(values)

    def _segment(
        self, place: int, labels: NDArray, features: tuple[PhotoFeatures, ...], objects: list[LabelledObject]
    ) -> None:
        count = len(self.photos.classes)
        found = photo_neighbours(objects, labels)
        if self.photos.has_objects:
            rows = [
                (
                    place, one.annotation, one.label, pixels, near,
                    *((-1, -1, 0) if near < 0 else (found.objects[near].annotation, found.objects[near].label,
                                                    round(1000 * gap))),
                )
                for one, pixels, near, gap in zip(
                    found.objects, found.visible.tolist(), found.nearest.tolist(), found.gap_px.tolist(), strict=True
                )
            ]  # fmt: skip
            self._keep("neighbours", np.array(rows, dtype=np.int64).reshape(-1, 8))
        for layer, (of_layer, heads) in enumerate(zip(features, self.heads, strict=True)):
            queries = of_layer.cells.flatten(1).T
            grid = of_layer.cells.shape[1:]
            maps = {name: one(queries).T.reshape(count, *grid) for name, one in heads.segmenters.items()}
            maps[CEILING] = cell_shares(labels, of_layer, count)[0]
            floor = np.full(labels.shape, heads.commonest, dtype=np.int64)
            for name in (*maps, FLOOR):
                predicted = floor if name == FLOOR else predicted_pixels(maps[name], of_layer)
                counts = count_pixels(predicted, labels, count)
                columns = (counts.intersection, counts.predicted, counts.labelled)
                there = np.flatnonzero(counts.predicted + counts.labelled)
                own = np.column_stack([np.full(len(there), place), there, *(column[there] for column in columns)])
                self._keep(f"{layer}/{name}/rows", own.astype(np.int64))
                if self.photos.has_objects and name in heads.segmenters:
                    self._keep(f"{layer}/{name}/shares", object_shares(predicted, labels, found, count))

    def _read_objects(self, layer: int, place: int, features: PhotoFeatures, objects: list[LabelledObject]) -> None:
        grid = (features.cells.shape[1], features.cells.shape[2])
        if not objects:
            return
        masks = torch.from_numpy(np.stack([one.mask for one in objects]))
        shares = covered_shares(masks, features.frame, stride_px=features.stride_px, grid=grid).float()
        vectors = masked_mean(features.cells.expand(len(objects), -1, -1, -1), shares)
        cells = shares.sum(dim=(1, 2)).double().numpy()
        facts = [(place, one.annotation, one.label, size) for one, size in zip(objects, cells, strict=True)]
        self._keep(f"{layer}/objects", np.array(facts, dtype=np.float64))
        self._keep(f"{layer}/vectors", vectors.numpy())


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _frame_numbers(features: PhotoFeatures) -> NDArray[np.int64]:
    frame = features.frame
    numbers = (*frame.photo, *frame.image, frame.top, frame.left, frame.height, frame.width, features.stride_px)
    return np.array(numbers, dtype=np.int64)
