"""Work in, shares of it for several processes out, and one outcome that all of them agree on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from .errors import CouplingKitError, MeasurementError, first_line

__all__ = ["ALONE", "START_METHOD", "Processes", "follow_parent", "leave_signals_alone"]

# How workers come to be: never as a copy of a process that has threads; Windows has one way only.
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# How often a worker looks whether its parent is there.
WATCH_S = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def follow_parent(_worker: int = 0) -> None:
    """Let this process, a worker that loads data, end when the process that started it is gone, however it went.

    A worker whose parent was killed would else wait for ever: for somebody to read what it has to give.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def leave_signals_alone(_worker: int) -> None:
    """Let a process that reads images outlive Ctrl-C and SIGTERM, which go to all of them; it ends with its parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    follow_parent()


class Processes:
    """This process, and how many there are; alone, everything is a plain call.

    Args:
        index: of this process.
        count: of all.
    """

    def __init__(self, index: int = 0, count: int = 1):
        self.index = index
        self.count = count

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Return every `count`-th item, beginning at this process' own index."""
        return list(items[self.index :: self.count])

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in their order, to each of them.

        Raises:
            MeasurementError: one of them is gone.
        """
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(values, value)
        except (RuntimeError, EOFError) as error:
            raise MeasurementError(
                f"one of the {self.count} processes is gone ({first_line(error)}); what was measured is kept, and the "
                "same command goes on."
            ) from error
        return values

    def each(self, work: Callable[[], Result]) -> list[Result]:
        """Do some work in every process and return what all gave; what one refuses, all refuse."""
        found: Any = None
        refusal = None
        try:
            found = work()
        except CouplingKitError as error:
            refusal = error
        outcomes = self.gather((found, refusal))
        for _, other in outcomes:
            if other is not None:
                raise other
        return [result for result, _ in outcomes]

    def only_first(self, work: Callable[[], Result]) -> Result:
        """Do some work in the first process alone and return what it gave to all; what it refuses, all refuse."""
        return self.each(lambda: work() if self.first else None)[0]  # type: ignore[return-value]


ALONE = Processes()
