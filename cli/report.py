"""`couplingkit report`: everything that runs found, on one page."""

from __future__ import annotations

from pathlib import Path

import click

from .options import out_options

__all__ = ["report"]


@click.command(short_help="Put runs on one self-contained HTML page.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--title", default="Coupling", show_default=True, help="Of the page.")
@click.option("--seed", hidden=True, help="Nothing is drawn here.")
@click.option("--device", hidden=True, help="Nothing is computed by a network here.")
@out_options("report.html")
def report(
    runs: tuple[Path, ...], title: str, seed: str | None, device: str | None, out: Path | None, overwrite: bool
) -> None:
    """Write one HTML file on finished runs of `measure` and `sweep`.

    It has a table that a click sorts, the figures, each model's probes of the highest and the lowest coupling rate with
    their affinity maps, notes, controls, settings and provenance. It needs no server and no network, reads on a phone
    and prints. Folders that hold no finished run are left out and named.

    \b
    Example:
      couplingkit report runs/* --out report.html
    """
    from ..errors import ArgumentError, CouplingKitError, DataError
    from ..figures.report import report_page
    from ..files import check_free, new_file
    from ..study import EXTREMES, Run, read_extremes, read_run

    path = out or Path("report.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"out {path} must end in .html.")
    check_free(path, overwrite=overwrite, folder=False)
    found: list[Run] = []
    failures = []
    for folder in dict.fromkeys(runs):
        try:
            found.append(read_run(folder))
        except DataError as error:
            failures.append(str(error))
    if not found:
        raise CouplingKitError(f"no run could be read: {' '.join(failures)}")
    extremes = {str(run.folder): read_extremes(run.folder / EXTREMES) for run in found}
    page = report_page(found, extremes, title=title)
    with new_file(path, overwrite=overwrite) as draft:
        draft.write_text(page, encoding="utf-8")
    models = sum(len(run.measurements) for run in found)
    click.echo(f"Wrote {path} ({len(page.encode()) / 1e6:.1f} MB, {len(found)} runs, {models} measurements)", err=True)
    if failures:
        click.echo(f"{len(failures)} left out: {' '.join(failures)}", err=True)
        raise SystemExit(2)
