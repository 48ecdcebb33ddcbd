"""Steps that were made in, their lines in the log out, as soon as the device says what they gave."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import MeasurementError
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
        # By step: what was so when it was made.
        self._noted: dict[int, dict[str, float]] = {}
        self._pace: float | None = None
        self._waited = 0.0
        self._lost = False
        self._mark = self._since = time.perf_counter()

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Write what is still under way when something else goes wrong; a loss that is not finite goes before it."""
        if error is not None and not self._lost:
            with suppress(RuntimeError):
                self.settle()

    def begin(self) -> None:
        """Begin a step."""
        self._since = time.perf_counter()
        if not self._under_way:
            # What was done between the steps is none of the next one's time.
            self._mark = self._since

    def images_read(self) -> None:
        """Note that the images of the step are there."""
        self._waited = time.perf_counter() - self._since

    def add(self, outcome: Outcome) -> None:
        """Take a step that was made, whatever became of it."""
        self._under_way.append(outcome)
        self._noted[outcome.where.step] = {
            "broken": len(self._running.broken),
            "epoch": outcome.where.epoch,
            "memory_gib": peak_memory_gib(self._running.engine.device),
            "waited": self._waited,
        }

    def settle(self, behind: int = 0) -> bool:
        """Wait for all steps but the last `behind`, and write them; return whether a process was asked to stop.

        Raises:
            MeasurementError: a loss is not finite; the steps before are written.
        """
        stop = False
        while len(self._under_way) > behind:
            outcome = self._under_way.pop(0)
            try:
                losses, others, asked = outcome.settled(self._running.out)
            except MeasurementError:
                self._lost = True
                raise
            self._add_line(outcome, losses, others)
            stop = stop or asked
        return stop

    def _add_line(self, outcome: Outcome, losses: Mapping[str, float], others: Mapping[str, float]) -> None:
        """Write a step, which took as long as has passed since the one before it was there."""
        running, where = self._running, outcome.where
        now = time.perf_counter()
        seconds, self._mark = max(now - self._mark, 1e-9), now
        self._pace = seconds if self._pace is None else 0.95 * self._pace + 0.05 * seconds
        line = {
            **{"step": where.step, **losses, **others, **self._noted.pop(where.step)},
            **{"seconds": seconds, "images_per_s": running.job.run.batch_size / seconds},
            "left_s": self._pace * (where.steps - where.step - 1),
        }
        self._write(line)
        if running.engine.is_main_process:
            running.watch.line(line)
        shown = {name: f"{value:.3f}" for name, value in losses.items()} | {"images/s": f"{line['images_per_s']:.0f}"}
        if line["memory_gib"]:
            shown["GiB"] = f"{line['memory_gib']:.1f}"
        self._bar.update()
        self._bar.set_postfix(shown)
