"""What a run is to do, as the loop sees it: what it trains, how it moves, its images, and what it leaves behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..errors import ArgumentError
from ..processes import START_METHOD, leave_signals_alone
from .objective import Objective
from .sampling import StepSampler
from .settings import Optimizer, Run

__all__ = ["Job", "Place"]


@dataclass(frozen=True)
class Place:
    """Which part of a run's images is this process's.

    Attributes:
        first: place of its first image in the batch of all processes.
        count: how many are its own.
        device: where it computes.
        start: the step that it begins with.
    """

    first: int
    count: int
    device: torch.device
    start: int


class Job(ABC):
    """One training run.

    Attributes:
        name: in logs and files.
        run: length, batch, checkpoints.
        optimizer: how weights move.
        head_steps: in the first of which backbones stay as they are.
        pairs: whether a process must have an even number of images.
    """

    name: str
    run: Run
    optimizer: Optimizer
    head_steps: int = 0
    pairs: bool = False

    @abstractmethod
    def build(self) -> Objective:
        """Return what is trained, with its first weights; raises `ArgumentError` where the settings give none."""

    def begin(self, objective: Objective) -> None:  # noqa: B027 - most begin with what they build
        """Load what a run starts from, before its first step."""

    @property
    @abstractmethod
    def evaluated(self) -> str:
        """Name of the network that is the result."""

    @abstractmethod
    def toml(self) -> str:
        """Return all settings, as recipe.toml has them."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return what run.json is to say, as the fields of `RunRecord`."""

    @abstractmethod
    def check(self, out: Path) -> None:
        """Raise `ArgumentError` if the run in a folder was begun on other images."""

    @abstractmethod
    def sampler(self, place: Place) -> StepSampler:
        """Return which images a process shows in each step; raises `ArgumentError` if there are too few."""

    def sampling(self, place: Place) -> dict[str, int]:
        """Return the keywords of a sampler of this run."""
        said = {"batch": self.run.batch_size, "seed": self.run.seed, "steps": self.run.steps}
        return {**said, "first": place.first, "count": place.count, "start": place.start}

    @abstractmethod
    def loader(self, objective: Objective, place: Place) -> DataLoader[Any]:
        """Return the batches of a process from a step on, as dicts; `broken` lists images that were passed over."""

    @abstractmethod
    def parts(self, sample: dict[str, Any], place: Place, step: int) -> Sequence[Any]:
        """Return a batch as the parts that gradients are accumulated over, as `Objective.views` takes them."""

    @abstractmethod
    def write_networks(self, folder: Path, objective: Objective) -> None:
        """Write the networks as `NAME.safetensors`."""

    def loading(self, place: Place) -> dict[str, Any]:
        """Return how a DataLoader reads in its workers, as its keywords."""
        workers = self.run.workers
        return {
            "num_workers": workers,
            "pin_memory": place.device.type == "cuda",
            # Its own, or making an iterator would draw from the global one.
            "generator": torch.Generator().manual_seed(self.run.seed),
            "multiprocessing_context": START_METHOD if workers else None,
            "worker_init_fn": leave_signals_alone if workers else None,
        }

    def share(self, index: int, count: int) -> tuple[int, int]:
        """Return the first image of a process in the batch of all, and how many are its own.

        Raises:
            ArgumentError: the batch cannot be shared out evenly.
        """
        size, parts = self.run.batch_size, self.run.accumulate
        shares = count * parts
        odd = self.pairs and shares > 1 and size // shares % 2
        if size % shares or odd:
            even = "an even number of images" if self.pairs else "the same number of images"
            raise ArgumentError(
                f"run.batch_size must be {even} for each process and each part of a step, but is {size} for "
                f"{count} x {parts}."
            )
        return index * (size // count), size // count
