"""`couplingkit report`: everything that runs found, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .asked import claim
from .command import Command
from .options import (
    across_option,
    label_option,
    new_eps_option,
    no_device_option,
    no_seed_option,
    out_options,
    runs_argument,
)

if TYPE_CHECKING:
    from ..runs.evaluation_files import EvaluationRun
    from ..runs.records import Run

__all__ = ["report"]

MARK = b'name="generator" content="couplingkit"'


@click.command(cls=Command, short_help="Put runs on one self-contained HTML page.")
@runs_argument
@new_eps_option
@label_option
@across_option
@click.option("--title", default="Coupling", show_default=True, help="Of the page.")
@no_seed_option
@no_device_option
@out_options("report.html")
def report(
    runs: tuple[Path, ...],
    title: str,
    eps: float | None,
    labels: tuple[str, ...],
    across: tuple[str, ...] | None,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Write one HTML file on finished runs of `measure`, `sweep` and `evaluate`.

    It has a table that a click sorts, the figures, each model's probes of the highest and the lowest coupling rate with
    their affinity maps, notes, controls, settings and provenance. It needs no server and no network, reads on a phone
    and prints. Folders that hold no finished run are left out and named. Runs on the same probes but with other
    settings than --across names are refused, with what differs.

    \b
    Example:
      couplingkit report runs/* --out report.html
    """
    from ..errors import ArgumentError, CouplingKitError, DataError
    from ..figures.report import report_page
    from ..files import new_file
    from ..runs.concluding import concluded_again, relabelled
    from ..runs.evaluation_files import is_evaluation, read_evaluations
    from ..runs.extremes import EXTREMES, read_extremes, refreshed
    from ..runs.reading import read_run
    from ..runs.relating import coupling_of

    path = out or Path("report.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"out {path} must end in .html.")
    claim(path, overwrite=overwrite, folder=False, mark=MARK)
    read: list[Run] = []
    scored: list[EvaluationRun] = []
    extremes: dict[str, Any] = {}
    failures: list[str] = []
    for folder in dict.fromkeys(runs):
        try:
            evaluation = read_evaluations(folder) if is_evaluation(folder) else None
            run = read_run(folder) if evaluation is None else coupling_of(evaluation)
            scored += [] if evaluation is None else [evaluation]
            if run is not None:
                extremes[str(run.folder)] = read_extremes(Path(str(run.folder)) / EXTREMES)
                read.append(run)
        except DataError as error:
            failures.append(str(error))
    if not read and not scored:
        raise CouplingKitError(f"no run could be read: {' '.join(failures)}")
    shown = relabelled([run if eps is None else concluded_again(run, eps=eps) for run in read], labels)
    for before, after in zip(read, shown, strict=True):
        found = extremes[str(before.folder)]
        extremes[str(before.folder)] = refreshed(found, before.measurements, after.measurements)
    page = report_page(shown, extremes, title=title, across=across or (), evaluations=scored)
    with new_file(path, overwrite=overwrite, mark=MARK) as draft:
        draft.write_text(page, encoding="utf-8")
    models, count = sum(len(run.measurements) for run in read), len(set(runs)) - len(failures)
    size = len(page.encode()) / 1e6
    click.echo(f"Wrote {path} ({size:.1f} MB, {count} runs, {models} measurements)", err=True)
    if failures:
        click.echo(f"{len(failures)} left out: {' '.join(failures)}", err=True)
        raise SystemExit(2)
