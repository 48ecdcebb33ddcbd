"""Folders of `evaluate` and `measure` in, the models that both say something of out, and how the two go together."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import DataError, MeasurementError, first_line, listed
from ..evaluation.relating import PairChange, RelatedModel, Relation, pairs_by_name, relation_of
from ..evaluation.scores import Evaluation
from ..evaluation.task import SCORES
from ..files import new_folder
from ..metrics.bootstrap import Estimate
from ..metrics.ranks import WithinFamilies
from ..study.measurement import Measurement
from ..typed_files import json_text, read_json
from .evaluation_files import EvaluationRun, is_evaluation, read_evaluations
from .models import CONTROL_ROW
from .reading import read_run
from .records import COUPLING, Run
from .writing import Writer, command_line

__all__ = [
    "QUANTITIES",
    "RelationRun",
    "coupling_of",
    "model_family",
    "read_both",
    "read_relation",
    "relate",
    "write_relation",
]

log = logging.getLogger(__name__)
# Never the first alone.
QUANTITIES = ("cr_mean", "specificity", "displacement")
MOST_CLIPPED = 0.05
PAIR = ("plain", "decoupled", "coupling", "score")


@dataclass(frozen=True)
class RelationRun:
    """How scores and coupling of some models go together.

    Attributes:
        models: that both are known of.
        relations: of each score with each quantity.
        data: name of the photos that scores are of.
    """

    models: tuple[RelatedModel, ...]
    relations: tuple[Relation, ...]
    data: str


def read_both(folders: Sequence[str | Path]) -> tuple[list[Measurement], list[Evaluation]]:
    """Return what folders of `measure` and of `evaluate` hold, and the coupling that was measured within the latter.

    Raises:
        DataError: a folder is neither, or holds a sweep.
    """
    measurements: list[Measurement] = []
    evaluations: list[Evaluation] = []
    for folder in dict.fromkeys(Path(one) for one in folders):
        inside = folder / COUPLING
        if is_evaluation(folder):
            evaluations += read_evaluations(folder).evaluations
        else:
            inside = folder
        if (inside / "summary.json").is_file() or inside == folder:
            run = read_run(inside)
            if run.swept:
                raise DataError(f"run {folder} is a sweep; relate takes runs of `measure` and of `evaluate`.")
            measurements += [one for one in run.measurements if one.name != CONTROL_ROW]
    return measurements, evaluations


def relate(
    measurements: Sequence[Measurement],
    evaluations: Sequence[Evaluation],
    *,
    pairs: Sequence[tuple[str, str]] = (),
    families: Mapping[str, str] | None = None,
    seed: int = 0,
) -> RelationRun:
    """Set scores against coupling, model by model: the same weights, layer and input size.

    Args:
        measurements: all on the same probes.
        evaluations: all on the same photos.
        pairs: (plain, decoupled) by name, besides those whose names say so (`pairs_by_name`).
        families: model -> its family, where its weights do not tell it.
        seed: of the resampling.

    Raises:
        MeasurementError: no model was both measured and scored, or they are of several sets of probes or photos.
    """
    _check_alike([one.provenance["probes"]["identity"] for one in measurements], "measurements", "probes")
    _check_alike([one.provenance["data"]["test"] for one in evaluations], "evaluations", "photos")
    measured: dict[tuple[Any, ...], Measurement] = {}
    for measurement in measurements:
        measured.setdefault(_key(measurement.provenance["model"]), measurement)
    joined: dict[str, RelatedModel] = {}
    left_out = []
    for one in evaluations:
        found = measured.get(_key(one.provenance["model"]))
        if found is None:
            left_out.append(one.name)
            continue
        known = joined.get(one.name) or _related(one, found, families or {})
        joined[one.name] = replace(known, scores={**known.scores, one.task: one.score})
    if not joined:
        raise MeasurementError(
            "no model was both measured and scored with the same weights, layer and input size: "
            f"measured {listed(one.name for one in measurements) or 'none'}, "
            f"scored {listed(dict.fromkeys(one.name for one in evaluations)) or 'none'}."
        )
    if left_out:
        log.warning("Left out, for their coupling is not known: %s.", listed(dict.fromkeys(left_out)))
    models = tuple(joined.values())
    together = list(dict.fromkeys([*pairs, *pairs_by_name(joined)]))
    _check_pairs(pairs, joined)
    tasks = [name for name in SCORES if any(name in one.scores for one in models)]
    relations = tuple(
        relation_of(models, task, quantity, together, seed=seed) for task in tasks for quantity in QUANTITIES
    )
    return RelationRun(models, relations, str(evaluations[0].provenance["data"]["name"]))


def _check_alike(values: Sequence[str], what: str, of: str) -> None:
    if len(set(values)) > 1:
        raise MeasurementError(f"{what} must all be of the same {of} to be set against each other, but are not.")


def _check_pairs(pairs: Sequence[tuple[str, str]], joined: Mapping[str, RelatedModel]) -> None:
    for name in {name for pair in pairs for name in pair}:
        if name not in joined:
            raise MeasurementError(f"pair names {name}, which is not among the models ({listed(joined)}).")


def _key(model: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what makes a network read in one way the same in two runs."""
    leak = model.get("planted_leak") or {}
    return (
        model.get("weights_sha256") or model.get("name"),
        str(model.get("layer")),
        tuple(model.get("image_size", ())),
        (leak.get("amount"), leak.get("reach_cells")),
    )


def _related(one: Evaluation, measurement: Measurement, families: Mapping[str, str]) -> RelatedModel:
    estimates = measurement.summary.estimates
    clipped = estimates["clipped_denominator"].value > MOST_CLIPPED
    coupling = {name: estimates[name] for name in QUANTITIES if name in estimates}
    family = families.get(one.name) or model_family(one.provenance["model"])
    return RelatedModel(one.name, family, {}, coupling, clipped)


def model_family(model: Mapping[str, Any]) -> str:
    """Return a model's family, by what its provenance says: its own word for it, or method and architecture.

    >>> model_family({"format": "couplingkit, ibot-d", "architecture": "vit_tiny_patch16_224"})
    'ibot vit_tiny_patch16_224'
    """
    if model.get("family"):
        return str(model["family"])
    method = str(model.get("format") or "").removeprefix("couplingkit, ").removesuffix("-d")
    if str(model.get("weights", "")).startswith("random"):
        method = "random"
    return f"{method or 'unknown'} {model.get('architecture') or model.get('name')}"


def relation_tables(run: RelationRun) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return one row per model, score and quantity; one per relation; and one per pair."""
    points, relations, pairs = [], [], []
    for relation in run.relations:
        by_name = {one.name: one for one in run.models}
        for name in relation.models:
            one = by_name[name]
            x, y = one.coupling[relation.quantity], one.scores[relation.task]
            points.append(
                {
                    "model": name, "family": one.family, "task": relation.task, "quantity": relation.quantity,
                    "coupling": x.value, "coupling_low": x.low, "coupling_high": x.high,
                    "score": y.value, "score_low": y.low, "score_high": y.high, "clipped": one.clipped,
                }
            )  # fmt: skip
        fewer, more = relation.signs
        relations.append(
            {
                "task": relation.task, "quantity": relation.quantity, "models": len(relation.models),
                "families": relation.families, "rho": relation.rho.value, "rho_low": relation.rho.low,
                "rho_high": relation.rho.high, "rho_within": relation.within.rho, "p_within": relation.within.p,
                "families_within": relation.within.families, "models_within": relation.within.models,
                "pairs": len(relation.pairs), "pairs_less_coupling_higher_score": fewer,
                "pairs_less_coupling_lower_score": more,
            }
        )  # fmt: skip
        pairs += [{"task": relation.task, "quantity": relation.quantity, **vars(pair)} for pair in relation.pairs]
    return pd.DataFrame(points), pd.DataFrame(relations), pd.DataFrame(pairs)


def write_relation(
    folder: Path, run: RelationRun, *, files: Mapping[str, Writer], text: str, overwrite: bool = False
) -> None:
    """Write points.csv, relations.csv, pairs.csv, table.md, summary.json and what `files` write; all of it or none."""
    points, relations, pairs = relation_tables(run)
    rows = [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in relations.to_dict(orient="records")
    ]
    document = {
        "command": command_line(),
        "data": run.data,
        "models": [{"name": one.name, "family": one.family, "clipped": one.clipped} for one in run.models],
        "relations": rows,
    }
    with new_folder(folder, overwrite=overwrite) as draft:
        points.to_csv(draft / "points.csv", index=False)
        relations.to_csv(draft / "relations.csv", index=False)
        pairs.to_csv(draft / "pairs.csv", index=False)
        (draft / "table.md").write_text(text, encoding="utf-8")
        (draft / "summary.json").write_text(json_text(document), encoding="utf-8")
        for name, write in files.items():
            write(draft / name)


def read_relation(folder: Path) -> RelationRun:
    """Return what the figure of a folder is drawn of: models, scores and pairs; correlations stay in relations.csv.

    Raises:
        DataError: the folder is not whole.
    """
    document = read_json(folder / "summary.json", dict, "summary")
    unknown = Estimate(math.nan, math.nan, math.nan)
    try:
        points = pd.read_csv(folder / "points.csv")
        text = (folder / "pairs.csv").read_text(encoding="utf-8").strip()
        pairs = pd.read_csv(folder / "pairs.csv").to_dict(orient="records") if text else []
        models: dict[str, RelatedModel] = {}
        named: dict[tuple[str, str], list[str]] = {}
        rows: Iterable[Any] = points.itertuples()
        for row in rows:
            one = models.setdefault(
                str(row.model), RelatedModel(str(row.model), str(row.family), {}, {}, bool(row.clipped))
            )
            x = Estimate(float(row.coupling), float(row.coupling_low), float(row.coupling_high))
            y = Estimate(float(row.score), float(row.score_low), float(row.score_high))
            coupling, scores = {**one.coupling, str(row.quantity): x}, {**one.scores, str(row.task): y}
            models[one.name] = replace(one, coupling=coupling, scores=scores)
            named.setdefault((str(row.task), str(row.quantity)), []).append(one.name)
        relations = tuple(
            Relation(
                task, quantity, unknown, 0, WithinFamilies(math.nan, math.nan, 0, 0),
                tuple(
                    PairChange(**{key: pair[key] for key in PAIR})
                    for pair in pairs
                    if (pair["task"], pair["quantity"]) == (task, quantity)
                ),
                tuple(names),
            )
            for (task, quantity), names in named.items()
        )  # fmt: skip
        return RelationRun(tuple(models.values()), relations, str(document.get("data", "")))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"relation {folder} cannot be read ({first_line(error)}); make it anew.") from error


def coupling_of(run: EvaluationRun) -> Run | None:
    """Return the coupling that was measured with an evaluation; None where it was not."""
    if run.coupling is not None or run.folder is None:
        return run.coupling
    inside = run.folder / COUPLING
    return read_run(inside) if (inside / "summary.json").is_file() else None
