"""What a study is made in: processes that agree, a folder that keeps rows as they come, models one after another."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CouplingKitError
from .choices import Choice, each_choice

if TYPE_CHECKING:
    from ..features.backbone import LayeredBackbone
    from ..probes.probeset import ProbeSet
    from ..study import Extreme, Measurement, Processes, RunFolder

__all__ = ["Measured", "described", "entered", "join", "measure_models", "study_session"]

Result = TypeVar("Result")


def join() -> Processes:
    """Return the processes that torchrun started, connected; only the first of them speaks."""
    from ..study import join_processes

    processes = join_processes()
    if not processes.first:
        # What is unexpected is still said: Python prints it where the error stream was at first.
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        sys.excepthook = lambda *error: traceback.print_exception(*error, file=sys.__stderr__)
    return processes


@contextmanager
def entered(processes: Processes, manager: AbstractContextManager[Result]) -> Iterator[Result]:
    """Enter a block in every process; what one refuses, all refuse."""
    with ExitStack() as stack:
        found: list[Result] = []
        processes.each(lambda: found.append(stack.enter_context(manager)))
        yield found[0]


@contextmanager
def study_session(out: Path, identity: dict[str, Any], *, overwrite: bool, processes: Processes) -> Iterator[RunFolder]:
    """Open a run's folder, for all processes together. A run that is stopped says where its rows are."""
    from ..study import leave_processes, open_run

    with open_run(out, identity, overwrite=overwrite, processes=processes) as run:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield run
        except KeyboardInterrupt:
            if run.begun():
                click.echo(f"Stopped. What was measured is kept in {run.work}; the same command goes on.", err=True)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    leave_processes()


@dataclass(frozen=True)
class Measured:
    """What several models gave: measurements, a sentence for each model that failed, and the probes that stand out."""

    measurements: list[Measurement]
    failures: list[str]
    extremes: list[Extreme]


def measure_models(
    choices: Sequence[Choice],
    probes: ProbeSet,
    settings: dict[str, Any],
    *,
    run: RunFolder | None = None,
    processes: Processes | None = None,
) -> Measured:
    """Measure one model after another, and the control row at the end; a model that fails does not stop the others.

    Args:
        choices: the models.
        probes: that all of them are shown.
        settings: of `measure_layers`.
        run: where rows are kept as they come.
        processes: that share the work.

    Raises:
        CouplingKitError: not one model could be measured.
    """
    from ..study import ALONE, CONTROL_ROW, find_extremes, measure_variants, share_digests

    extremes: list[Extreme] = []

    def work(backbone: LayeredBackbone) -> list[Measurement]:
        parts = None
        if run is not None and not settings.get("center"):
            parts = run.parts(described(backbone), probes.manifest().identity(), probes.fingerprint(), settings)
        together: dict[str, Any] = {"processes": processes or ALONE, "parts": parts, "progress": True}
        (found,) = measure_variants(backbone, [probes], **settings, **together)
        if run is not None and together["processes"].first and backbone.name != CONTROL_ROW:
            extremes.extend(find_extremes(backbone, probes, found))
        return found

    share_digests(probes, processes or ALONE, progress=True)
    measurements, failures = each_choice(choices, work, alone=len(choices) == 1, processes=processes)
    if not measurements:
        raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
    if CONTROL_ROW not in [choice.name for choice in choices]:
        options: dict[str, Any] = {
            key: choices[0].options[key] for key in ("device", "precision") if key in choices[0].options
        }
        # The models' numbers stand without it; that it is missing must be said.
        control, lost = each_choice([Choice(CONTROL_ROW, options)], work, processes=processes, quiet=True)
        measurements, failures = measurements + control, failures + lost
    return Measured(measurements, failures, extremes)


def described(backbone: LayeredBackbone) -> list[dict[str, Any]]:
    """Return what decides a network's features; which of several GPUs it runs on does not."""
    return [{**layer.provenance(), "device": layer.device.type} for layer in backbone.layers]
