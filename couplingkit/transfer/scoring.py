"""A trained detector or segmenter and test photos in, the evaluations that their rows make out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..data.detection_data import DetectionData
from ..data.labelled_data import LabelledData
from ..errors import ArgumentError, OutputError, check_range
from ..evaluation.chunks import Arrays, Chunks
from ..evaluation.concluding import concluded
from ..evaluation.detection_scores import Detections, photo_rows
from ..evaluation.scores import Evaluation
from ..features.hardware import resolve_device
from ..metrics.confusion import count_pixels
from ..processes import Processes
from ..training.checkpoint import read_checkpoint
from ..training.objective import Objective
from .jobs import DetectJob, FineTuneJob, Pretrained, SegmentJob
from .predicting import detect, segment
from .recipe import FineTuneRecipe

__all__ = ["FineTuneSettings", "ScoredTask", "decisive", "scored_task"]

CHUNK = 32


@dataclass(frozen=True)
class FineTuneSettings:
    """How often a head is trained, and how sure its score is said to be.

    Attributes:
        seeds: of the head's first weights, the order of photos and how they are shown.
        seed: of the bootstrap.
        level: of the intervals.
        resamples: of the bootstrap.
    """

    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    level: float = 0.95
    resamples: int = 1000

    def __post_init__(self) -> None:
        check_range("seeds", len(self.seeds), 1, 1000)
        check_range("level", self.level, 0.5, 0.999)
        check_range("resamples", self.resamples, 100, 10**6)


class ScoredTask(ABC):
    """One task on one data set: it makes jobs, tests what they trained, and concludes when all seeds are tested."""

    def __init__(self, recipe: FineTuneRecipe, data: Any):
        self.recipe, self.data = recipe, data
        self._found: dict[int, list[Arrays]] = {}

    @abstractmethod
    def job(self, recipe: FineTuneRecipe, model: Pretrained) -> FineTuneJob:
        """Return what trains a head on a model."""

    @abstractmethod
    def look(self, objective: Objective, places: Sequence[int]) -> Arrays:
        """Return what a trained objective says of some test photos."""

    @abstractmethod
    def evaluations(self, name: str, provenance: dict[str, Any]) -> list[Evaluation]:
        """Return what the looks of all seeds score."""

    def test(
        self,
        job: FineTuneJob,
        checkpoint: Path,
        seed: int,
        *,
        chunks: Chunks,
        processes: Processes,
        device: str,
    ) -> None:
        """Look at all test photos with what a checkpoint holds; chunks that are there are not looked at again."""
        objective = job.build()
        read_checkpoint(checkpoint, objective)
        objective.to(resolve_device(device)).eval()
        count = len(self.data.test)
        starts = range(0, count, CHUNK)
        names = {start: f"test-{start // CHUNK:06d}" for start in starts}

        def work() -> None:
            with tqdm(total=count, desc="test", unit="photo", disable=not processes.first) as shown:
                for start in starts:
                    places = range(start, min(start + CHUNK, count))
                    if (start // CHUNK) % processes.count == processes.index and not chunks.has(names[start]):
                        chunks.write(names[start], self.look(objective, places))
                    shown.update(len(places))

        processes.each(work)
        read = [chunks.read(names[start]) for start in starts]
        whole = [one for one in read if one is not None]
        if len(whole) < len(read):
            raise OutputError(f"{len(read) - len(whole)} chunks of test photos cannot be read; give the command again.")
        self._found[seed] = whole

    def concluded(self, name: str, facts: Mapping[str, Any], settings: FineTuneSettings) -> list[Evaluation]:
        """Return the evaluations of a model once all seeds are tested, and forget them."""
        said = {**asdict(settings), "task": self.recipe.task, "recipe": decisive(self.recipe)}
        counts = {
            "train_photos": len(self.data.train),
            "test_photos": len(self.data.test),
            "classes": list(self.data.train.classes),
        }
        found = self.evaluations(
            name, {"model": dict(facts), "data": {**self.data.identity(), **counts}, "settings": said}
        )
        self._found = {}
        return found


def decisive(recipe: FineTuneRecipe) -> dict[str, Any]:
    """Return what of a recipe decides scores, as JSON values; seeds stand beside it."""
    tables = recipe.tables()
    return {**tables, "run": {key: value for key, value in tables["run"].items() if key not in OF_SPEED}}


# Of the settings of a run, what decides no score, or stands elsewhere.
OF_SPEED = ("seed", "workers", "checkpoint_every", "keep_every", "compile", "gradient_checkpointing")


class ScoredDetection(ScoredTask):
    """Detectors on photos with objects."""

    data: DetectionData

    def job(self, recipe: FineTuneRecipe, model: Pretrained) -> DetectJob:
        """Return what trains a detector."""
        return DetectJob(recipe, model, self.data.train)

    def look(self, objective: Objective, places: Sequence[int]) -> Arrays:
        """Return the detections of some photos, one under the other."""
        detector: Any = objective
        parts = []
        for place in places:
            pixels = self.data.test.pixels(self.data.test.ids[place])
            parts.append(detect(detector.detector, pixels))
        counts = [len(one.labels) for one in parts]
        found: Arrays = {
            "places": np.array(list(places)),
            "counts": np.array(counts),
            **{name: np.concatenate([getattr(one, name) for one in parts]) for name in ("labels", "scores", "boxes")},
        }
        if self.recipe.head.masks:
            found["masks"] = np.array([rle["counts"] for one in parts for rle in one.rles or ()], dtype=np.bytes_)
        return found

    @property
    def tasks(self) -> list[str]:
        """Names of the scores."""
        protocol = self.data.test.protocol
        if protocol != "coco":
            return [f"{protocol}-ap"]
        return ["box-ap", "mask-ap"] if self.recipe.head.masks and self.data.test.has_masks else ["box-ap"]

    def evaluations(self, name: str, provenance: dict[str, Any]) -> list[Evaluation]:
        """Return average precision of boxes and, where there are any, of masks."""
        tables: dict[str, list[tuple[pd.DataFrame, pd.DataFrame]]] = {task: [] for task in self.tasks}
        photos = self.data.test
        for place, identity in enumerate(photos.ids):
            targets = photos.targets(identity)
            for seed, parts in self._found.items():
                detections = _detections(parts[place // CHUNK], place, photos.size(identity))
                for task, rows in tables.items():
                    rows.append(photo_rows(task, identity, detections, targets, photos, seed=seed))
        return [
            concluded(
                name,
                task,
                *(pd.concat([part[which] for part in rows], ignore_index=True) for which in (0, 1)),
                bounds=(np.nan, 0.0),
                provenance=provenance,
            )
            for task, rows in tables.items()
        ]


def _detections(arrays: Arrays, place: int, size: tuple[int, int]) -> Detections:
    """Return the detections of one photo of a chunk."""
    number = int(np.flatnonzero(arrays["places"] == place)[0])
    begin = int(arrays["counts"][:number].sum())
    own = slice(begin, begin + int(arrays["counts"][number]))
    masks = arrays.get("masks")
    rles = None if masks is None else tuple({"size": list(size), "counts": one.decode()} for one in masks[own].tolist())
    return Detections(arrays["labels"][own], arrays["scores"][own], arrays["boxes"][own], rles)


class ScoredSegmentation(ScoredTask):
    """Segmenters on photos with a class for each pixel."""

    data: LabelledData
    _kind: int | None = None

    def job(self, recipe: FineTuneRecipe, model: Pretrained) -> SegmentJob:
        """Return what trains a segmenter."""
        return SegmentJob(recipe, model, self.data.train)

    def look(self, objective: Objective, places: Sequence[int]) -> Arrays:
        """Return the pixels of each class in some photos: rows of place, class, intersection, predicted, labelled."""
        segmenter: Any = objective
        settings, precision = self.recipe.photos, self.recipe.run.precision
        parts = []
        for place in places:
            pixels, labels = self.data.test.read(self.data.test.ids[place])
            found = segment(segmenter.segmenter, pixels, settings, precision=precision)
            counts = count_pixels(found, labels, len(self.data.classes))
            every = np.stack([counts.intersection, counts.predicted, counts.labelled], axis=1)
            kinds = np.flatnonzero(every.any(axis=1))
            parts.append(np.column_stack([np.full(len(kinds), place), kinds, every[kinds]]))
        return {"rows": np.concatenate(parts)}

    def evaluations(self, name: str, provenance: dict[str, Any]) -> list[Evaluation]:
        """Return the mean intersection over union."""
        tables = []
        for seed, parts in self._found.items():
            rows = np.concatenate([part["rows"] for part in parts])
            table = pd.DataFrame(rows, columns=["photo", "class", "intersection", "predicted", "labelled"])
            table["photo"] = np.array(self.data.test.ids, dtype=object)[rows[:, 0]]
            table["class"] = np.array(self.data.classes, dtype=object)[rows[:, 1]]
            table.insert(0, "seed", seed)
            tables.append(table)
        every = pd.concat(tables, ignore_index=True)
        return [concluded(name, "segment", every, None, bounds=(np.nan, self._floor(tables[0])), provenance=provenance)]

    def _floor(self, rows: pd.DataFrame) -> float:
        """Return what the commonest class of the training photos would score."""
        kind = self.data.classes[self._commonest()]
        labelled = rows.groupby("class")["labelled"].sum()
        present = labelled[labelled > 0]
        share = float(present.get(kind, 0)) / max(float(present.sum()), 1.0)
        return share / max(len(present), 1)

    def _commonest(self) -> int:
        if self._kind is None:
            total = np.zeros(len(self.data.classes), dtype=np.int64)
            for identity in tqdm(self.data.train.ids, desc="commonest class", unit="photo", leave=False):
                labels = self.data.train.read(identity)[1]
                total += np.bincount(labels[labels >= 0].astype(np.int64), minlength=len(total))
            self._kind = int(total.argmax())
        return self._kind


def scored_task(recipe: FineTuneRecipe, data: DetectionData | LabelledData) -> ScoredTask:
    """Return the task of a recipe on some photos.

    Raises:
        ArgumentError: the photos are not those of the task.
    """
    if recipe.task == "detect" and isinstance(data, DetectionData):
        return ScoredDetection(recipe, data)
    if recipe.task == "segment" and isinstance(data, LabelledData):
        return ScoredSegmentation(recipe, data)
    raise ArgumentError(f"data of {recipe.task} must have {NEEDED[recipe.task]}, but are {type(data).__name__}.")


NEEDED = {"detect": "objects (`open_detection_data`)", "segment": "labels (`open_labelled_data`)"}
