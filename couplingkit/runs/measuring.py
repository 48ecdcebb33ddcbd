"""Names of models and probes in, a run out: one model after another, kept as it comes, written when it is whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, CouplingKitError, DataError, OutputError, listed
from ..features.layered import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..processes import ALONE, Processes
from ..study.measurement import Measurement
from ..study.measuring import measure_layers, share_digests
from ..study.settings import MeasureSettings
from ..version import __version__
from .concluding import concluded, concluded_again
from .extremes import EXTREMES, Extreme, find_extremes, read_extremes, refreshed, write_extremes
from .models import CONTROL_ROW, ModelChoice, check_models, each_model
from .reading import read_run, written_identity
from .records import Run
from .session import stoppable
from .workspace import Workspace, open_workspace
from .writing import Writer, dropped_files, write_run

__all__ = ["RunPlace", "as_asked", "as_choices", "identity_of", "measure_models", "taken_place"]

log = logging.getLogger(__name__)
# A run in, further files of its folder out: name -> what writes it.
Drawing = Callable[[Run], Mapping[str, Writer]]


def _nothing(_run: Run) -> Mapping[str, Writer]:
    return {}


@dataclass(frozen=True)
class RunPlace:
    """Where a run goes.

    Attributes:
        out: its folder.
        overwrite: whether other results there may be replaced.
        draw: what else is written beside its rows: figures, ...
        retable: whether tables of a finished run are made anew where another eps is asked for; else they stay.
    """

    out: Path
    overwrite: bool = False
    draw: Drawing = _nothing
    retable: bool = True


def measure_models(
    models: Sequence[str | ModelChoice],
    probes: ProbeSet,
    settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    *,
    place: RunPlace | None = None,
    processes: Processes = ALONE,
    progress: bool = False,
) -> Run:
    """Measure models on the same probes, and the row of `control:cell` at the end, as `couplingkit measure` does.

    A model that fails does not stop the others. With a place, rows are kept in OUT.unfinished as they come: whoever
    calls it again with the same models, probes and settings goes on where it stopped, and a finished run is read back.

    Args:
        models: names as `load_backbone` takes them, or choices with options and labels of their own.
        probes: that all of them are shown.
        settings: of the measurement.
        place: where the run is written; without one it is not.
        processes: that share the work; `join_processes` gives those of torchrun.
        progress: whether to show bars.

    Raises:
        CouplingKitError: not one model could be measured, or the place is taken.
    """
    choices = as_choices(models)
    work = partial(_measured, choices, probes, settings, processes=processes, progress=progress)
    if place is None:
        return concluded(*work(workspace=None)[:2])
    identity = identity_of(choices, probes, settings)
    with taken_place(place, identity, processes) as taken:
        if isinstance(taken, Run):
            return as_asked(taken, settings, probes, place, processes)
        log.info("%d eligible objects; %s", len(probes.index.objects), probes.index.what_was_dropped())
        measurements, failures, extremes = work(workspace=taken)
        run = replace(concluded(measurements, failures), identity=identity)
        return _written(run, probes, place, taken, processes, {EXTREMES: partial(write_extremes, extremes)})


def as_asked(run: Run, settings: MeasureSettings, probes: ProbeSet, place: RunPlace, processes: Processes) -> Run:
    """Return a finished run as it lies there; where another eps is asked for, with tables made anew from its rows."""
    before = run.measurements[0].provenance["settings"]
    changed = {name: value for name, value in asdict(settings).items() if before[name] != value}
    if not changed or not place.retable:
        return run
    log.info("The rows are there; only what is made of them is made anew.")
    again = concluded_again(run, **changed)
    if processes.first:
        files = {**place.draw(again), **dropped_files(probes.index.faults)}
        if (place.out / EXTREMES).exists():
            kept = refreshed(read_extremes(place.out / EXTREMES), run.measurements, again.measurements)
            files[EXTREMES] = partial(write_extremes, kept)
        write_run(place.out, again, probes.manifest(), files=files, overwrite=True)
    return replace(again, folder=place.out)


def as_choices(models: Sequence[str | ModelChoice]) -> list[ModelChoice]:
    """Return models as choices; refuse what cannot be one, and two of one name."""
    choices = [ModelChoice(model) if isinstance(model, str) else model for model in models]
    if not choices:
        raise ArgumentError("models must not be empty; name what is to be measured.")
    check_models(choices, lenient=len(choices) > 1)
    return choices


def identity_of(
    choices: Sequence[ModelChoice], probes: ProbeSet, settings: MeasureSettings, **more: Any
) -> dict[str, Any]:
    """Return what decides a run's results, as JSON values; files by their content."""
    said = {
        "couplingkit": __version__,
        "models": [choice.identity() for choice in choices],
        "probes": [len(probes), probes.seed, probes.spec.stored(), probes.index.eligibility.stored()],
        "objects": probes.checked().identity(),
        "fingerprint": probes.promised,
        "annotations": probes.index.sha256,
        # A fingerprint that is promised holds the photos to it, wherever they lie.
        "images": None if probes.promised else probes.photos_stamp(),
        # What is made of the rows (eps, ...) decides a table, not a run.
        "settings": settings.of_rows(),
        **more,
    }
    # As it is read back: without tuples, for one.
    plain: dict[str, Any] = json.loads(json.dumps(said))
    return plain


@contextmanager
def taken_place(
    place: RunPlace, identity: dict[str, Any], processes: Processes, read: Callable[[Path], Any] = read_run
) -> Iterator[Any]:
    """Give the workspace of a run, for all processes together; of one that is finished and whole, the run itself.

    Args:
        place: of the run.
        identity: everything that decides its results.
        processes: that do it together.
        read: how a finished one is read.
    """
    again = False

    def finished() -> Any:
        nonlocal again
        if place.overwrite or not place.out.exists():
            return None
        try:
            previous = read(place.out)
        except DataError as error:
            # Not whole: of this very run it is made anew, and of any other it stays.
            again = written_identity(place.out) == identity
            if again:
                log.warning("%s It is measured anew.", error)
            return None
        again = previous.identity == identity
        if not again:
            differing = sorted(
                key for key in {*previous.identity, *identity} if previous.identity.get(key) != identity.get(key)
            )
            raise OutputError(
                f"out {place.out} exists and holds another run (other {listed(differing)}); choose another `out`, or "
                "replace it with `overwrite`."
            )
        return previous if again and not previous.failures else None

    whole = processes.only_first(finished)
    if whole is not None:
        yield whole
        return
    space = open_workspace(place.out, identity, overwrite=place.overwrite, again=again, processes=processes)
    with space as workspace, stoppable():
        try:
            yield workspace
        except KeyboardInterrupt:
            if workspace.begun():
                log.warning("Stopped. What was measured is kept in %s; the same command goes on.", workspace.work)
            raise


def _measured(
    choices: Sequence[ModelChoice],
    probes: ProbeSet,
    settings: MeasureSettings,
    *,
    workspace: Workspace | None,
    processes: Processes,
    progress: bool,
) -> tuple[list[Measurement], list[str], list[Extreme]]:
    """Return measurements, a sentence for each model that failed, and the probes that stand out."""
    extremes: list[Extreme] = []

    def work(backbone: LayeredBackbone) -> list[Measurement]:
        parts = None
        if workspace is not None and not settings.center:
            look = (probes.manifest().identity(), probes.fingerprint())
            parts = workspace.parts(described(backbone), look, settings.of_rows())
        found = measure_layers(backbone, probes, settings, processes=processes, parts=parts, progress=progress)
        if workspace is not None and processes.first and backbone.name != CONTROL_ROW:
            extremes.extend(find_extremes(backbone, probes, found))
        return found

    share_digests(probes, processes, progress=progress)
    measurements, failures = each_model(choices, work, alone=len(choices) == 1, processes=processes)
    if not measurements:
        raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
    if CONTROL_ROW not in [choice.name for choice in choices]:
        common = choices[0].options
        control = ModelChoice(CONTROL_ROW, replace(type(common)(), device=common.device, seed=common.seed))
        # The models' numbers stand without it; that it is missing must be said.
        row, lost = each_model([control], work, processes=processes, quiet=True)
        measurements, failures = measurements + row, failures + lost
    return measurements, failures, extremes


def described(backbone: LayeredBackbone) -> list[dict[str, Any]]:
    """Return what decides a network's features; which of several GPUs it runs on, and what fits into it, does not."""
    described = [{**layer.provenance(), "device": layer.device.type} for layer in backbone.layers]
    return [{key: value for key, value in facts.items() if key != "images_per_pass"} for facts in described]


def _written(
    run: Run,
    probes: ProbeSet,
    place: RunPlace,
    workspace: Workspace,
    processes: Processes,
    files: Mapping[str, Writer],
) -> Run:
    """Write a run in the first process. To disk before anything is said: a reader of standard output may hang up."""
    if processes.first:
        overwrite = place.overwrite or workspace.replaces
        more = {**files, **place.draw(run), **dropped_files(probes.index.faults)}
        write_run(place.out, run, probes.manifest(), files=more, overwrite=overwrite)
        if not run.failures:
            workspace.close()
    return replace(run, folder=place.out)
