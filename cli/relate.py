"""`couplingkit relate`: scores of `evaluate` against coupling of `measure`, model by model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .asked import claim, default_out
from .command import Command
from .options import format_option, no_device_option, out_options, runs_argument, seed_option
from .words import terminal_width

__all__ = ["relate"]


def _equal(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read `A=B`, several times."""
    pairs = []
    for value in values:
        first, equals, second = value.partition("=")
        if not (first and equals and second):
            raise click.BadParameter(f"{value[:60]!r} is not of the form A=B.")
        pairs.append((first, second))
    return pairs


@click.command(cls=Command, short_help="Set scores of `evaluate` against coupling of `measure`.")
@runs_argument
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    callback=_equal,
    metavar="PLAIN=DECOUPLED",
    help="Two models that differ in decoupling alone. [default: those whose names differ in a -d]",
)
@click.option(
    "--family",
    "families",
    multiple=True,
    callback=_equal,
    metavar="MODEL=FAMILY",
    help="Method and architecture of a model, where its weights do not tell; also `family` in a file of --models.",
)
@seed_option
@no_device_option
@format_option
@out_options("runs/relation-DATE-TIME")
def relate(
    runs: tuple[Path, ...],
    pairs: list[tuple[str, str]],
    families: list[tuple[str, str]],
    seed: int,
    form: str,
    out: Path | None,
    overwrite: bool,
    **_options: Any,
) -> None:
    """Draw what models score over how coupled they are.

    RUN is a folder of `evaluate` or of `measure`; models are joined by their weights, layer and input size. Three
    numbers, never one alone: the rank correlation of all models (its interval resamples families; fewer than five
    allow no inference), what is left of it within families, and what changes from X to X-D.

    \b
    Example:
      couplingkit evaluate knn-seg,linear-seg bundled:ibot bundled:ibot-d --data scenes:300+300 \\
          --coupling scenes_500 --out runs/eval
      couplingkit relate runs/eval --out relation

    The folder of --out gets points.csv, relations.csv, pairs.csv, table.md, summary.json, relation.png/.pdf.
    """
    from ..errors import DataError
    from ..figures.plots import figure_files
    from ..figures.relation_plots import relation_figure, relation_text
    from ..runs.relating import read_both, relate, write_relation

    folder = out or default_out("relation")
    claim(folder, overwrite=overwrite)
    measurements, evaluations = read_both(runs)
    if not evaluations or not measurements:
        missing = "scores (`couplingkit evaluate`)" if not evaluations else "coupling (`measure`, or --coupling)"
        raise DataError(f"the runs hold no {missing}; relate sets the two against each other.")
    run = relate(measurements, evaluations, pairs=pairs, families=dict(families), seed=seed)
    text = relation_text(run, "markdown") + "\n"
    files = figure_files({"relation": relation_figure(run)})
    write_relation(folder, run, files=files, text=text, overwrite=overwrite)
    wrote = "points.csv, relations.csv, pairs.csv, table.md, summary.json, relation.png/.pdf"
    click.echo(f"Wrote {wrote} to {folder}", err=True)
    click.echo(relation_text(run, form, width=terminal_width()))
