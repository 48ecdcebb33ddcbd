"""What X and X-D gave in, the folder of their comparison out: numbers of runs, differences, the rows behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..files import new_folder
from ..probes.probeset import ProbeSet
from ..study.rows import file_rows
from ..training.recipe import recipe_toml
from ..typed_files import json_text
from .pair_differences import PairDifference
from .pairs import PairRun
from .trained_models import TrainedModel
from .writing import Writer, command_line

__all__ = ["difference_table", "run_table", "write_pair"]


def run_table(models: Sequence[TrainedModel]) -> pd.DataFrame:
    """Return one row a run: its numbers with their bounds (`NAME`, `NAME_low`, `NAME_high`)."""
    rows = []
    for model in models:
        summary = model.measurement.summary
        objects = {"accuracy": model.objects.accuracy, "linear": model.linear.accuracy}
        row: dict[str, object] = {"method": model.method, "seed": model.seed}
        for name, estimate in {**summary.estimates, **objects}.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        counts = {"probes": summary.probes, "measured": summary.measured, "objects": len(model.objects.rows)}
        rows.append(row | counts | {"chance": model.objects.chance, "steps_per_s": model.steps_per_s})
    return pd.DataFrame(rows)


def difference_table(differences: Sequence[PairDifference]) -> pd.DataFrame:
    """Return one row a difference."""
    return pd.DataFrame(
        [
            {
                "first": difference.first,
                "second": difference.second,
                "quantity": difference.quantity,
                "seed": difference.seeds,
                **vars(difference.estimate),
                "scenes_low": difference.scenes.low,
                "scenes_high": difference.scenes.high,
                "count": difference.count,
            }
            for difference in differences
        ]
    )


def write_pair(folder: Path, pair: PairRun, probes: ProbeSet, files: Mapping[str, Writer]) -> None:
    """Write the runs' numbers, the differences, the rows behind them, and what `files` write; all of it or none."""
    with new_folder(folder, overwrite=True) as draft:
        run_table(pair.models).to_csv(draft / "runs.csv", index=False)
        difference_table(pair.differences).to_csv(draft / "differences.csv", index=False)
        pd.concat([file_rows(model.measurement.rows, model.measurement.eps) for model in pair.models]).to_csv(
            draft / "rows.csv", index=False
        )
        objects = [
            model.objects.rows.assign(
                model=model.objects.name,
                **{f"linear_{name}": model.linear.rows[name] for name in ("fold", "predicted", "correct")},
            )
            for model in pair.models
        ]
        pd.concat(objects).to_csv(draft / "objects.csv", index=False)
        for recipe in pair.recipes[:2]:
            (draft / f"{recipe.name.replace(':', '.')}.toml").write_text(recipe_toml(recipe), encoding="utf-8")
        (draft / "probes.json").write_text(probes.manifest().text(), encoding="utf-8")
        facts = [{"measured": m.measurement.provenance, "classified": m.objects.provenance} for m in pair.models]
        (draft / "provenance.json").write_text(
            json_text({"command": command_line(), "models": facts}), encoding="utf-8"
        )
        for name, write in files.items():
            write(draft / name)
