"""What `couplingkit train-pair` leaves: numbers of the runs, paired differences, rows, figures; all of it or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.pairs import PairDifference, TrainedModel
    from ..probes.probeset import ProbeSet
    from ..training.recipe import Recipe

__all__ = ["write_comparison"]

SHOWN_PROBE = 3


def write_comparison(
    out: Path, recipes: list[Recipe], annotations: Path, images: Path, device: str, options: dict[str, Any]
) -> None:
    """Measure all runs on the same probes and objects, print the table, and write OUT/comparison."""
    from ..data.coco import read_instances
    from ..evaluation.pairs import evaluate_run, pair_differences
    from ..probes.probeset import ProbeSet

    probes = ProbeSet.from_coco(annotations, images, count=options["probes"], seed=0)
    index = read_instances(annotations)
    models = [
        evaluate_run(
            out / recipe.name / f"seed-{recipe.run.seed}",
            probes,
            index,
            images,
            method=recipe.name,
            seed=recipe.run.seed,
            objects=options["objects"],
            device=device,
            progress=True,
        )
        for recipe in recipes
    ]
    differences = pair_differences(models[::2], models[1::2])
    text = comparison_text(models, differences)
    _write(out, recipes, models, differences, probes, text)
    click.echo(text)
    click.echo(f"Wrote {out / 'comparison'}.", err=True)


def comparison_text(models: list[TrainedModel], differences: list[PairDifference]) -> str:
    """Return the two tables as markdown."""
    import pandas as pd

    from ..figures.tables import as_text, estimate_text

    runs = pd.DataFrame([_run_words(model) for model in models])
    gaps = pd.DataFrame(
        [
            {"X-D minus X": one.quantity, "seed": one.seeds, "[95%]": estimate_text(one.estimate), "n": str(one.count)}
            for one in differences
        ]
    )
    return f"{as_text(runs, 'markdown')}\n\n{as_text(gaps, 'markdown')}"


def _run_words(model: TrainedModel) -> dict[str, str]:
    from ..figures.tables import estimate_text
    from ..metrics.summary import CLIPPED_LIMIT

    summary = model.measurement.summary
    found, mark = summary.estimates, " (!)" if summary.clipped_denominator > CLIPPED_LIMIT else ""
    return {
        "method": model.method,
        "seed": str(model.seed),
        "cr_mean [95%]": estimate_text(found["cr_mean"]) + mark,
        "geomean": f"{summary.cr_geomean:.3f}",
        "of means": f"{summary.cr_of_means:.3f}",
        "specificity": estimate_text(found.get("specificity")),
        "clipped": f"{summary.clipped_denominator:.1%}",
        "1-NN accuracy": estimate_text(model.objects.accuracy),
        "steps/s": f"{model.steps_per_s:.2f}",
    }


def _write(
    out: Path,
    recipes: list[Recipe],
    models: list[TrainedModel],
    differences: list[PairDifference],
    probes: ProbeSet,
    text: str,
) -> None:
    import pandas as pd

    from ..evaluation.pairs import difference_table, run_table
    from ..figures.pair_plots import pair_figure
    from ..figures.plots import save_figure
    from ..files import new_folder
    from ..training.recipe import recipe_toml
    from .session import command_line

    table = run_table(models)
    with new_folder(out / "comparison", overwrite=True) as draft:
        (draft / "table.md").write_text(text + "\n")
        table.to_csv(draft / "runs.csv", index=False)
        difference_table(differences).to_csv(draft / "differences.csv", index=False)
        pd.concat([model.measurement.rows for model in models]).to_csv(draft / "rows.csv", index=False)
        objects = [model.objects.rows.assign(model=model.objects.name) for model in models]
        pd.concat(objects).to_csv(draft / "objects.csv", index=False)
        for recipe in recipes[:2]:
            (draft / f"{recipe.name}.toml").write_text(recipe_toml(recipe))
        (draft / "probes.json").write_text(probes.manifest().text())
        facts = [{"measured": m.measurement.provenance, "classified": m.objects.provenance} for m in models]
        (draft / "provenance.json").write_text(json.dumps({"command": command_line(), "models": facts}, indent=1))
        figures = {
            "pair": pair_figure(table),
            "curves": _curves(out, recipes),
            "affinity": _affinity(out, probes, table),
        }
        for name, figure in figures.items():
            for suffix in ("png", "pdf") if figure is not None else ():
                save_figure(figure, draft / f"{name}.{suffix}")


def _curves(out: Path, recipes: list[Recipe]) -> Any:
    """Return the figure of the coupling over training; None unless every run was looked at, with the same probes."""
    from ..figures.training_plots import coupling_curves
    from ..study.learning import common_probes, read_curve

    curves: dict[str, list[Any]] = {}
    for recipe in recipes:
        curves.setdefault(recipe.name, []).append(read_curve(out / recipe.name / f"seed-{recipe.run.seed}"))
    every = [curve for of_method in curves.values() for curve in of_method]
    if not any(every):
        return None
    steps = [set.intersection(*({line["step"] for line in curve} for curve in part)) for part in curves.values()]
    if not all(steps) or not common_probes(every):
        click.echo("No curves.png: not all runs were looked at with the same probes after common steps.", err=True)
        return None
    return coupling_curves(curves)


def _affinity(out: Path, probes: ProbeSet, table: pd.DataFrame) -> Any:
    """Return the figure of what a point of A is similar to, without and with B, for the first X and X-D."""
    from ..features.loading import load_backbone
    from ..study import probe_maps
    from .affinity_runs import probe_picture

    maps = []
    for row in table.head(2).to_dict("records"):
        backbone = load_backbone(str(out / row["method"] / f"seed-{row['seed']}"), device="cpu")
        backbone.name = row["method"]
        maps += probe_maps(backbone, probes, SHOWN_PROBE)
    return probe_picture(probes, SHOWN_PROBE, maps)
