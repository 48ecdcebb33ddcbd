"""How many images there are in, which of them each step shows out, and what stands in for those that are broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..errors import ArgumentError, DataError
from ..streams import Stream

__all__ = ["GroupedSampler", "Key", "StepSampler", "next_whole"]

# Epoch, number of the image, step.
Key = tuple[int, int, int]
Whole = TypeVar("Whole")
BROKEN_TRIES = 20


class StepSampler(Sampler[list[Key]]):
    """The batches of a run from any step on: step n holds the same images whatever came before it.

    Args:
        length: of the corpus.
        batch: images in the batch of all processes.
        seed: of the order.
        first: place of this process's first image in the batch of all.
        count: images of this process.
        start: the step it begins with.
        steps: of the run.
    """

    def __init__(self, length: int, *, batch: int, seed: int, first: int, count: int, start: int, steps: int):
        self.length, self.batch, self.first, self.count = length, batch, first, count
        self.start, self.steps = start, steps
        self.stream = Stream(seed).child("order")
        self.per_epoch = self.batches_per_epoch()
        if not self.per_epoch:
            raise ArgumentError(f"batch_size must be at most the {length} images there are, but is {batch}.")

    def batches_per_epoch(self) -> int:
        """Return how many batches go once through the images."""
        return self.length // self.batch

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """Return the images of each batch of an epoch, (per_epoch, batch)."""
        order = self.stream.child(epoch).generator().permutation(self.length)
        return np.asarray(order[: self.per_epoch * self.batch].reshape(-1, self.batch))

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        held, batches = -1, np.empty((0, self.batch), dtype=np.int64)
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, self.per_epoch)
            if epoch != held:
                held, batches = epoch, self.batches(epoch)
            own = batches[place, self.first : self.first + self.count]
            yield [(epoch, int(number), step) for number in own]


class GroupedSampler(StepSampler):
    """The same, but that the images of a batch are of one group.

    Args:
        groups: of each image.
        **more: as of `StepSampler`.
    """

    def __init__(self, groups: NDArray[np.int64], **more: int):
        self.groups = groups
        super().__init__(len(groups), **more)

    def batches_per_epoch(self) -> int:
        """Return how many batches go once through the images; what fills none is left out."""
        return int((np.bincount(self.groups) // self.batch).sum())

    def batches(self, epoch: int) -> NDArray[np.int64]:
        """Return the images of each batch of an epoch, (per_epoch, batch)."""
        generator = self.stream.child(epoch).generator()
        order = generator.permutation(self.length)
        parts = []
        for group in np.unique(self.groups):
            own = order[self.groups[order] == group]
            parts.append(own[: len(own) // self.batch * self.batch].reshape(-1, self.batch))
        every = np.concatenate(parts)
        # Groups come in turn as they would by chance.
        return np.asarray(every[generator.permutation(len(every))] if len(parts) > 1 else every)


def next_whole(count: int, number: int, read: Callable[[int], Whole]) -> tuple[Whole, int, list[int]]:
    """Return what is read of an image, its number, and the numbers of broken ones in whose place it stands.

    Args:
        count: of the images.
        number: of the image that is asked for; after a broken one comes the next.
        read: raises `DataError` for a broken one.

    Raises:
        DataError: twenty in a row are broken.
    """
    broken: list[int] = []
    last: DataError | None = None
    for further in range(BROKEN_TRIES):
        place = (number + further) % count
        try:
            return read(place), place, broken
        except DataError as error:
            broken.append(place)
            last = error
    raise DataError(f"{BROKEN_TRIES} images in a row cannot be read; the last one: {last}")
