"""Steps that were made in, their lines in the log out, as soon as the device says what they gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from .engine import LogLine, peak_memory_gib
from .outcome import Outcome
from .step import Running

__all__ = ["StepLog"]


class StepLog:
    """Keeps the steps that are under way, and writes those that are settled.

    The wait for the images counts: what a user sees is images per second of the whole.

    Args:
        running: the run.
        write: takes a line.
        bar: shows how far the run is.
    """

    def __init__(self, running: Running, write: Callable[[LogLine], None], bar: Any):
        self._running, self._write, self._bar = running, write, bar
        self._under_way: list[Outcome] = []
        self._times: dict[int, tuple[float, float]] = {}
        self._pace: float | None = None
        self._waited = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin a step."""
        self._since = time.perf_counter()

    def images_read(self) -> None:
        """Note that the images of the step are there."""
        self._waited = time.perf_counter() - self._since

    def add(self, outcome: Outcome) -> None:
        """Take a step that was made, whatever became of it."""
        self._under_way.append(outcome)

    def settle(self, behind: int = 0) -> bool:
        """Wait for all steps but the last `behind`, and write them; return whether a process was asked to stop.

        Raises:
            MeasurementError: a loss is not finite; the steps before are written.
        """
        stop = False
        while len(self._under_way) > behind:
            outcome = self._under_way.pop(0)
            losses, others, asked = outcome.settled(self._running.out)
            if not self._under_way:
                self._clock(outcome)
            self._add_line(outcome, losses, others)
            stop = stop or asked
        if self._under_way:
            self._clock(self._under_way[-1])
        return stop

    def _clock(self, outcome: Outcome) -> None:
        """Note how long the newest step took: until it or, where a device is ahead, the one before it was there."""
        seconds = time.perf_counter() - self._since
        self._pace = seconds if self._pace is None else 0.95 * self._pace + 0.05 * seconds
        self._times[outcome.where.step] = (seconds, self._waited)

    def _add_line(self, outcome: Outcome, losses: Mapping[str, float], others: Mapping[str, float]) -> None:
        running, where = self._running, outcome.where
        seconds, waited = self._times.pop(where.step)
        line = {
            **{"step": where.step, **losses, **others},
            **{"broken": len(running.broken), "epoch": where.epoch},
            "memory_gib": peak_memory_gib(running.engine.device),
            **{"seconds": seconds, "waited": waited, "images_per_s": running.recipe.run.batch_size / seconds},
            "left_s": (self._pace or seconds) * (where.steps - where.step - 1),
        }
        self._write(line)
        if running.engine.is_main_process:
            running.watch.line(line)
        shown = {name: f"{value:.3f}" for name, value in losses.items()} | {"images/s": f"{line['images_per_s']:.0f}"}
        if line["memory_gib"]:
            shown["GiB"] = f"{line['memory_gib']:.1f}"
        self._bar.update()
        self._bar.set_postfix(shown)
