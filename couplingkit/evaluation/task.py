"""The tasks that features are scored by, each once: what it needs, and the scores that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.labelled_data import LabelledData
from ..errors import ArgumentError, check_range, near
from ..features.passes import BatchSize
from ..metrics.detection import Interpolation
from ..streams import Stream
from .bank import Bank
from .knn_segmentation import TEMPERATURE, K, NeighbourSegmenter
from .linear_segmentation import LinearSegmenter

__all__ = ["FINE_TUNED", "SCORES", "TASKS", "EvaluateSettings", "Score", "Segmenter", "Task", "check_tasks"]

# Vectors of cells (Q, D) in, shares of the classes (Q, K) out.
Segmenter = Callable[[Tensor], NDArray[np.float64]]


@dataclass(frozen=True)
class EvaluateSettings:
    """How features are scored.

    Attributes:
        k: neighbours of a cell, in knn-seg.
        temperature: of their weights.
        bank: cells that are learned from, the same number of each training photo; None takes all.
        fit: how a photo becomes an input, `stretch` or `pad`; see `read_photos`.
        batch_size: photos per forward pass; changes speed and memory only.
        min_cells: objects that cover fewer are not classified.
        seed: of every draw.
        level: of the intervals.
        resamples: of the bootstrap.
    """

    k: int = K
    temperature: float = TEMPERATURE
    bank: int | None = None
    fit: str = "stretch"
    batch_size: BatchSize = 32
    min_cells: float = 1.0
    seed: int = 0
    level: float = 0.95
    resamples: int = 2000

    def __post_init__(self) -> None:
        check_range("k", self.k, 1, 10_000)
        check_range("temperature", self.temperature, 1e-3, 100)
        check_range("min_cells", self.min_cells, 0)
        check_range("level", self.level, 0.5, 0.999)
        check_range("resamples", self.resamples, 100, 10**6)
        if self.bank is not None:
            check_range("bank", self.bank, 1)


@dataclass(frozen=True)
class Score:
    """A number that a task gives.

    Attributes:
        name: of the evaluation, in files.
        title: in tables.
        meaning: what it is, in a sentence.
        segments: whether it is made of pixels' classes.
        reads: of average precision, how precision is read.
    """

    name: str
    title: str
    meaning: str
    segments: bool = False
    reads: Interpolation | None = None


def _neighbours(bank: Bank, settings: EvaluateSettings, device: torch.device) -> Segmenter:
    return NeighbourSegmenter.fitted(bank, device, k=settings.k, temperature=settings.temperature)


def _planes(bank: Bank, settings: EvaluateSettings, device: torch.device) -> Segmenter:
    return LinearSegmenter.fitted(bank, Stream(settings.seed).child("linear-seg"), device)


@dataclass(frozen=True)
class Task:
    """One way to score frozen features.

    Attributes:
        name: that the command line knows it by.
        scores: that it gives.
        needs_objects: whether single objects must be known.
        fitted: what makes a segmenter of a bank; None where nothing is learned from training photos.
    """

    name: str
    scores: tuple[Score, ...]
    needs_objects: bool = False
    fitted: Callable[[Bank, EvaluateSettings, torch.device], Segmenter] | None = None


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "knn-seg",
            (Score("knn-seg", "k-NN mIoU", "segmentation by the nearest cells of training photos", segments=True),),
            fitted=_neighbours,
        ),
        Task(
            "linear-seg",
            (Score("linear-seg", "linear mIoU", "segmentation by logistic regression on cells", segments=True),),
            fitted=_planes,
        ),
        Task(
            "objects",
            (
                Score("objects", "objects 1-NN", "objects whose nearest object in other photos is of their class"),
                Score("objects-linear", "objects linear", "objects named rightly by a linear model of other photos'"),
            ),
            needs_objects=True,
        ),
        Task(
            "discover",
            (
                Score("tokencut", "TokenCut", "photos whose one box overlaps an object by half or more"),
                Score("lost", "LOST", "the same, by the cell that is similar to the fewest others"),
            ),
            needs_objects=True,
        ),
    )
}
# What is built on a network and trained, see `transfer`.
FINE_TUNED = (
    Score("box-ap", "box AP", "average precision of boxes, mean over IoU .5 to .95 (COCO's)", reads="101 points"),
    Score("mask-ap", "mask AP", "the same of masks", reads="101 points"),
    Score("voc07-ap", "VOC07 AP", "average precision of boxes at 11 recalls, mean of ten IoU", reads="11 points"),
    Score("voc10-ap", "VOC10 AP", "average precision of boxes as an area, mean of ten IoU", reads="area"),
    Score("segment", "mIoU", "segmentation by a network that is trained on the backbone", segments=True),
)
SCORES: dict[str, Score] = {
    score.name: score for score in (*(one for task in TASKS.values() for one in task.scores), *FINE_TUNED)
}


def check_tasks(names: Iterable[str], data: LabelledData | None = None) -> list[Task]:
    """Return tasks by their names.

    Raises:
        ArgumentError: a name is unknown or named twice, there is none, or the photos do not have what one needs.
    """
    wanted = list(names)
    for name in wanted:
        if name not in TASKS:
            raise ArgumentError(f"task must be of {', '.join(TASKS)}, not {name!r}{near(name, TASKS)}.")
    if not wanted or len(set(wanted)) < len(wanted):
        raise ArgumentError(f"tasks must be some of {', '.join(TASKS)}, each once.")
    tasks: list[Any] = [TASKS[name] for name in wanted]
    bare = [task.name for task in tasks if task.needs_objects and data is not None and not data.test.has_objects]
    if bare:
        raise ArgumentError(f"task {bare[0]} needs single objects, but {data.test.name} has label maps alone.")  # type: ignore[union-attr]
    return tasks
