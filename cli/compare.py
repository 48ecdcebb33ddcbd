"""`couplingkit compare`: paired differences between runs on the same probes, in one table and one figure."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import format_option, out_options, seed_option

__all__ = ["compare"]


@click.command(short_help="Compare runs of `measure` on the same probes: paired differences.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--baseline", help="Run, or model, that the others are compared with. [default: the first]")
@seed_option
@click.option("--device", hidden=True, help="Nothing is computed by a network here.")
@format_option
@out_options("runs/comparison-DATE-TIME")
def compare(
    runs: tuple[Path, ...],
    baseline: str | None,
    seed: int,
    device: str | None,
    form: str,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Compare the models of finished runs with a baseline, probe by probe.

    A run is a folder that `measure` wrote, or `sweep` over --gap (all gaps together, and each). Runs on different
    probes are refused, with what differs. Intervals resample source photos; p-values are corrected for the number of
    models by Holm's procedure.

    \b
    Example:
      couplingkit compare runs/dino runs/ibot runs/ibot-d --baseline ibot --out comparison

    The folder of --out gets comparison.csv (one row a model and effect), groups.csv (by category pair, size, gap and
    direction), table.md, summary.json, and comparison.png/.pdf.
    """
    from ..figures.comparison_plots import comparison_figure, comparison_text, difference_table
    from ..figures.plots import save_figure
    from ..files import check_free, new_folder
    from ..study import compare_models, named_models, read_run
    from .session import command_line, default_out

    folder = out or default_out("comparison")
    check_free(folder, overwrite=overwrite)
    found = [read_run(run) for run in runs]
    models = named_models(found)
    for run in found:
        if run.swept:
            others = sorted({place["axis"] for place in run.places} - {"gap"})
            left = f"; {', '.join(others)} left out" if others else ""
            click.echo(f"{run.folder} is a sweep: its gaps count together, and one by one{left}.", err=True)
    # As it stands on the command line, with or without its folders.
    chosen = baseline if baseline is None or baseline in models else Path(baseline).name
    comparison = compare_models(models, baseline=chosen, seed=seed)
    overall = [one for one in comparison.differences if one.grouping == "all"]
    groups = [one for one in comparison.differences if one.grouping != "all"]
    document = {
        "command": command_line(),
        "baseline": comparison.baseline,
        "runs": [str(run) for run in runs],
        "probes": next(iter(comparison.models.values())).provenance["probes"],
        "differences": json.loads(difference_table(overall).to_json(orient="records")),
    }
    with new_folder(folder, overwrite=overwrite) as draft:
        difference_table(overall).to_csv(draft / "comparison.csv", index=False)
        difference_table(groups).to_csv(draft / "groups.csv", index=False)
        (draft / "table.md").write_text(comparison_text(comparison, "markdown") + "\n")
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        for suffix in ("png", "pdf"):
            save_figure(comparison_figure(comparison), draft / f"comparison.{suffix}")
    click.echo(f"Wrote comparison.csv, groups.csv, table.md, summary.json, comparison.png/.pdf to {folder}", err=True)
    click.echo(comparison_text(comparison, form))
