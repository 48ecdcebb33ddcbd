"""A comparison of runs in, its folder out: differences overall and by group, and what was compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DataError, first_line
from ..files import new_folder
from ..metrics.bootstrap import Estimate
from ..study.comparing import Comparison, Difference
from ..typed_files import json_text, read_json
from .records import Run
from .writing import Writer, command_line

__all__ = ["difference_table", "read_comparison", "write_comparison"]


def difference_table(differences: Sequence[Difference]) -> pd.DataFrame:
    """Return one row a difference: every field as a column."""
    return pd.DataFrame(
        [
            {
                "model": difference.model,
                "effect": difference.effect,
                "grouping": difference.grouping,
                "group": difference.group,
                "difference": difference.estimate.value,
                "low": difference.estimate.low,
                "high": difference.estimate.high,
                "probes": difference.probes,
                "p": difference.p,
                "p_holm": difference.p_holm,
            }
            for difference in differences
        ]
    )


def write_comparison(
    folder: Path,
    comparison: Comparison,
    runs: Sequence[Run],
    *,
    files: Mapping[str, Writer],
    table: str,
    overwrite: bool = False,
) -> None:
    """Write comparison.csv, groups.csv, table.md, summary.json and what `files` write; all of it or none.

    Args:
        folder: where they go.
        comparison: of the models.
        runs: that they come from.
        files: name -> what writes it.
        table: for people.
        overwrite: whether an older comparison may be replaced.
    """
    overall = [difference for difference in comparison.differences if difference.grouping == "all"]
    groups = [difference for difference in comparison.differences if difference.grouping != "all"]
    records = difference_table(overall).to_dict(orient="records")
    document = {
        "command": command_line(),
        "baseline": comparison.baseline,
        "runs": [str(run.folder) for run in runs],
        "across": dict(comparison.across),
        "probes": comparison.models[comparison.baseline].provenance["probes"],
        "differences": [
            {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}
            for record in records
        ],
    }
    with new_folder(folder, overwrite=overwrite) as draft:
        difference_table(overall).to_csv(draft / "comparison.csv", index=False)
        difference_table(groups).to_csv(draft / "groups.csv", index=False)
        (draft / "table.md").write_text(table, encoding="utf-8")
        (draft / "summary.json").write_text(json_text(document), encoding="utf-8")
        for name, write in files.items():
            write(draft / name)


def read_comparison(folder: Path) -> Comparison:
    """Return the differences that a folder holds, without the models' own measurements, which stay in their folders.

    Raises:
        DataError: the folder is not whole.
    """
    document = read_json(folder / "summary.json", dict, "summary")
    try:
        table = pd.concat(
            [pd.read_csv(folder / name, dtype={"group": str}) for name in ("comparison.csv", "groups.csv")]
        )
        rows: Iterable[Any] = table.itertuples()
        differences = tuple(
            Difference(
                str(row.model), str(row.effect), str(row.grouping), str(row.group),
                Estimate(float(row.difference), float(row.low), float(row.high)),
                int(row.probes), float(row.p), float(row.p_holm),
            )
            for row in rows
        )  # fmt: skip
        return Comparison(str(document["baseline"]), {}, differences, dict(document["across"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"comparison {folder} cannot be read ({first_line(error)}); make it anew.") from error
