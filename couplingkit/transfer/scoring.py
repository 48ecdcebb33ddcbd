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
from ..errors import check_range
from ..evaluation.chunks import Arrays, Chunks
from ..evaluation.concluding import concluded
from ..evaluation.detection_scores import Detections, photo_rows
from ..evaluation.scores import Evaluation
from ..features.hardware import resolve_device
from ..processes import Processes
from ..training.checkpoint import read_checkpoint
from ..training.objective import Objective
from .jobs import DetectJob, FineTuneJob, Pretrained
from .predicting import detect
from .recipe import FineTuneRecipe

__all__ = ["FineTuneSettings", "ScoredTask", "scored_task"]

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
        self._found[seed] = [one for one in read if one is not None]

    def concluded(self, name: str, facts: Mapping[str, Any], settings: FineTuneSettings) -> list[Evaluation]:
        """Return the evaluations of a model once all seeds are tested, and forget them."""
        tables = self.recipe.tables()
        tables["run"] = {key: value for key, value in tables["run"].items() if key not in OF_SPEED}
        said = {**asdict(settings), "task": self.recipe.task, "recipe": tables}
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
            parts.append(detect(detector.detector, pixels, precision=self.recipe.run.precision))
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


def scored_task(recipe: FineTuneRecipe, data: Any) -> ScoredTask:
    """Return the task of a recipe on some photos.

    Raises:
        ArgumentError: the photos are not those of the task.
    """
    return ScoredDetection(recipe, data)
