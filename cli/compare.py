"""`couplingkit compare`: paired differences between runs on the same probes, in one table and one figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .asked import claim, default_out
from .command import Command
from .options import (
    across_option,
    format_option,
    label_option,
    new_eps_option,
    no_device_option,
    out_options,
    runs_argument,
    seed_option,
)
from .words import terminal_width

__all__ = ["compare"]


@click.command(cls=Command, short_help="Compare runs of `measure` on the same probes: paired differences.")
@runs_argument
@click.option("--baseline", help="Run, or model, that the others are compared with. [default: the first]")
@across_option
@new_eps_option
@label_option
@seed_option
@no_device_option
@format_option
@out_options("runs/comparison-DATE-TIME")
def compare(
    runs: tuple[Path, ...], baseline: str | None, form: str, out: Path | None, overwrite: bool, **options: Any
) -> None:
    """Compare the models of finished runs with a baseline, probe by probe.

    A run is a folder that `measure` wrote, or `sweep` over --gap (all gaps together, and each); or all are folders of
    `evaluate`, whose scores are compared photo by photo (comparison.csv, table.md, summary.json). Runs on different
    probes, or with other settings than --across names, are refused, with what differs. Intervals resample source
    photos; p-values, from 30 photos on, are corrected for the number of models by Holm's procedure. A difference below
    the resolution of the arithmetic is called that.

    \b
    Example:
      couplingkit compare runs/dino runs/ibot runs/ibot-d --baseline ibot --out comparison
      couplingkit compare runs/dino-224 runs/dino-448 --across image_size --out sizes

    The folder of --out gets comparison.csv (one row a model and effect), groups.csv (by category pair, size, gap and
    direction), table.md, summary.json, and comparison.png/.pdf.
    """
    from ..figures.comparison_plots import comparison_figure, comparison_text
    from ..figures.plots import figure_files
    from ..runs.comparing import write_comparison
    from ..runs.concluding import concluded_again, relabelled
    from ..runs.reading import named_models, read_run
    from ..study.comparing import compare_models

    folder = out or default_out("comparison")
    claim(folder, overwrite=overwrite)
    if _are_evaluations(runs):
        _compare_scores(runs, baseline, form, folder, overwrite=overwrite)
        return
    read = relabelled([read_run(run) for run in runs], options["labels"])
    if options["eps"] is not None:
        read = [concluded_again(run, eps=options["eps"]) for run in read]
    models = named_models(read, labelled=bool(options["labels"]))
    for run in read:
        if run.swept:
            others = sorted({place[0] for place in run.places if place is not None} - {"gap"})
            left = f"; {', '.join(others)} left out" if others else ""
            click.echo(f"{run.folder} is a sweep: its gaps count together, and one by one{left}.", err=True)
    # As it stands on the command line, with or without its folders.
    chosen = baseline if baseline is None or baseline in models else Path(baseline).name
    comparison = compare_models(models, baseline=chosen, across=options["across"] or (), seed=options["seed"])
    files = figure_files({"comparison": comparison_figure(comparison)})
    table = comparison_text(comparison, "markdown") + "\n"
    write_comparison(folder, comparison, read, files=files, table=table, overwrite=overwrite)
    click.echo(f"Wrote comparison.csv, groups.csv, table.md, summary.json, comparison.png/.pdf to {folder}", err=True)
    click.echo(comparison_text(comparison, form, width=terminal_width()))


def _are_evaluations(runs: tuple[Path, ...]) -> bool:
    """Return whether all folders are of `evaluate`; refuse some of each."""
    from ..errors import DataError
    from ..runs.evaluation_files import is_evaluation

    kinds = {run: is_evaluation(run) for run in runs}
    if len(set(kinds.values())) > 1:
        scored = next(run for run, is_one in kinds.items() if is_one)
        raise DataError(
            f"run {scored} is of `evaluate` and others are not; `couplingkit relate` sets the two together."
        )
    return all(kinds.values())


def _compare_scores(runs: tuple[Path, ...], baseline: str | None, form: str, folder: Path, *, overwrite: bool) -> None:
    from ..figures.evaluation_tables import gap_table, gaps_text
    from ..figures.plots import figure_files
    from ..figures.score_plots import score_figure
    from ..runs.evaluation_files import read_evaluations
    from ..runs.score_comparing import compare_evaluations, write_score_comparison

    read = [read_evaluations(run) for run in runs]
    gaps = compare_evaluations(read, baseline=baseline)
    files = figure_files({"scores": score_figure([one for run in read for one in run.evaluations])})
    text = gaps_text(gaps, "markdown") + "\n"
    write_score_comparison(folder, gap_table(gaps), read, files=files, text=text, overwrite=overwrite)
    click.echo(f"Wrote comparison.csv, table.md, summary.json, scores.png/.pdf to {folder}", err=True)
    click.echo(gaps_text(gaps, form, width=terminal_width()))
