"""`couplingkit tables`: runs in the form of the paper's tables, with what is published beside."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from .command import Command
from .options import format_option, no_device_option, no_seed_option, runs_argument
from .words import terminal_width

__all__ = ["tables"]


@click.command(cls=Command, short_help="Show runs of `finetune` as the paper's tables.")
@runs_argument
@click.option("--as", "paper", type=click.Choice(["paper"]), default="paper", show_default=True, help="Whose tables.")
@no_device_option
@no_seed_option
@format_option
def tables(runs: tuple[Path, ...], paper: str, form: str) -> None:
    """Show what models score in RUN... (folders of `finetune`) in the columns of the paper's tables: VOC detection,
    COCO detection and instance segmentation, ADE20K segmentation; published values stand beside in brackets.

    A model is the paper's method whose name its label has (--label iBOT-D of `finetune`; bundled:ibot-d is one, too);
    others get rows of their own, and other data columns of their own. Folders of other commands are passed over.

    \b
    Example:
      couplingkit tables runs/* --as paper --format latex
    """
    from ..errors import DataError
    from ..figures.paper_tables import paper_notes, paper_table
    from ..figures.text_tables import as_text
    from ..runs.evaluation_files import is_evaluation, read_evaluations
    from ..runs.published import read_published

    read = [read_evaluations(run) for run in runs if run.is_dir() and is_evaluation(run)]
    tuned = [run for run in read if any("recipe" in one.provenance["settings"] for one in run.evaluations)]
    if not tuned:
        raise DataError(f"none of the {len(runs)} folders is a finished run of `finetune`; give one.")
    published = read_published(paper)
    table = paper_table(tuned, published)
    if form in ("csv", "json"):
        click.echo(table.to_csv(index=False).rstrip() if form == "csv" else table.to_json(orient="records", indent=1))
        return
    click.echo(as_text(table, form, width=terminal_width(), lead=2))
    if form == "table":
        wide = terminal_width() or 10_000
        click.echo("\n" + "\n".join(line for note in paper_notes(published) for line in textwrap.wrap(note, wide)))
