"""The run of `couplingkit measure`: its place, the models one after another, what is written and said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from .choices import Choice, stamp
from .session import command_line, differences_to_first, write_run
from .study_session import measure_models, study_session

if TYPE_CHECKING:
    from ..probes.probeset import ProbeSet
    from ..study import Measurement, Processes, RunFolder

__all__ = ["identity_of", "measure_run"]

SETTINGS = ("batch_size", "eps", "min_cells", "center")


def identity_of(choices: Sequence[Choice], probes: ProbeSet, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what decides a run's results, as JSON values; files by their content."""
    return {
        "couplingkit": __version__,
        "models": [[choice.name, choice.label, choice.options, stamp(choice.name)] for choice in choices],
        "probes": [len(probes), probes.seed, vars(probes.spec), vars(probes.index.eligibility)],
        "objects": probes.checked().identity(),
        "fingerprint": probes.promised,
        "annotations": probes.index.sha256,
        # A fingerprint that is promised holds the photos to it, wherever they lie.
        "images": None if probes.promised else probes.photos_stamp(),
        "settings": {key: options[key] for key in SETTINGS if key in options},
        **more,
    }


def measure_run(
    processes: Processes,
    folder: Path,
    choices: Sequence[Choice],
    probes: ProbeSet,
    options: dict[str, Any],
    *,
    form: str,
    overwrite: bool,
) -> None:
    """Measure models on probes, write the run's folder and print the table; exit code 2 where a model failed."""
    from ..figures.tables import render
    from ..study import EXTREMES, pack_extremes

    identity = identity_of(choices, probes, options)
    settings = {key: options[key] for key in SETTINGS}
    with study_session(folder, identity, overwrite=overwrite, processes=processes) as run:
        if run.finished:
            click.echo(f"{folder} holds the results of this very run: nothing to do. (--overwrite makes them anew.)")
            return
        click.echo(f"{len(probes.index.objects)} eligible objects; {probes.index.what_was_dropped()}", err=True)
        found = measure_models(choices, probes, settings, run=run, processes=processes)
        if not processes.first:
            return
        differences = differences_to_first(found.measurements, seed=options["seed"])
        # To disk first: a reader of standard output may hang up.
        write_run(
            folder,
            found.measurements,
            probes,
            differences,
            overwrite=overwrite or folder.exists(),
            more={"run": identity, "failures": found.failures},
            files={EXTREMES: pack_extremes(found.extremes)},
        )
        _close(run, found.failures)
        click.echo(render(found.measurements, form, differences=differences, command=command_line()))
        _say(found.measurements, found.failures, len(choices))


def _close(run: RunFolder, failures: list[str]) -> None:
    if not failures:
        run.close()


def _say(measurements: Sequence[Measurement], failures: list[str], models: int) -> None:
    for measurement in measurements:
        for warning in measurement.warnings:
            click.echo(f"Note on {measurement.name}: {warning}", err=True)
    zero = measurements[0].provenance["zero_control"]
    click.echo(
        f"Zero control: with B left out, CR is exactly 1 on each model's first {zero['probes']} probes.",
        err=True,
    )
    if failures:
        click.echo(
            f"{len(failures)} of {models} models failed: {'; '.join(failures)} The same command tries them again.",
            err=True,
        )
        raise SystemExit(2)
