"""What commands share that use several models: load one after another, measure, print the table, write the folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import CouplingKitError

if TYPE_CHECKING:
    from ..features.backbone import LayeredBackbone
    from ..probes.probeset import ProbeSet
    from ..study import Measurement

__all__ = [
    "CONTROL_ROW",
    "command_line",
    "default_out",
    "describe",
    "differences_to_first",
    "each_model",
    "measure_models",
    "write_run",
]

CONTROL_ROW = "control:cell"
Result = TypeVar("Result")


def command_line() -> str:
    """Return what the user typed."""
    return shlex.join(["couplingkit", *sys.argv[1:]])


def default_out(kind: str) -> Path:
    """Return a folder of its own for this run."""
    return Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"


def measure_models(
    names: tuple[str, ...], probes: ProbeSet, backbone_options: dict[str, Any], settings: dict[str, Any]
) -> tuple[list[Measurement], list[str]]:
    """Measure one model after another, and the control row at the end; a model that fails does not stop the others.

    Returns:
        The measurements, and a sentence for each model that failed.
    """
    from ..study import measure_layers

    def work(backbone: LayeredBackbone) -> list[Measurement]:
        return measure_layers(backbone, probes, progress=True, **settings)

    measurements, failures = each_model(names, backbone_options, work)
    if CONTROL_ROW not in names:
        options = {key: backbone_options[key] for key in ("device", "precision")}
        try:
            measurements += each_model((CONTROL_ROW,), options, work, quiet=True)[0]
        except CouplingKitError as error:
            # The models' numbers stand without it; that it is missing must be said.
            failures.append(f"{CONTROL_ROW}: {error}")
    return measurements, failures


def each_model(
    names: tuple[str, ...],
    backbone_options: dict[str, Any],
    work: Callable[[LayeredBackbone], list[Result]],
    *,
    quiet: bool = False,
) -> tuple[list[Result], list[str]]:
    """Load one model after another and do some work with it; a model that fails does not stop the others.

    Returns:
        What the work gave, and a sentence for each model that failed.
    """
    from ..features.loading import load_layers

    found: list[Result] = []
    failures = []
    for name in names:
        try:
            backbone = load_layers(name, **backbone_options)
            for layer in () if quiet else backbone.layers:
                click.echo(describe(layer.provenance()), err=True)
            found += work(backbone)
        except CouplingKitError as error:
            if len(names) == 1:
                raise
            failures.append(f"{name}: {error}")
            click.echo(f"Skipped: {failures[-1]}", err=True)
    if not found:
        raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
    return found, failures


def describe(provenance: dict[str, Any]) -> str:
    """Return one line on how a model is read: the defaults that came from its weights, and what was chosen."""
    mean, std = (",".join(f"{value:g}" for value in provenance[key]) for key in ("mean", "std"))
    height, width = provenance["image_size"]
    read = "".join(f"{provenance[key]}, " for key in ("format", "branch") if provenance.get(key))
    return (
        f"{provenance['name']}: {read}input {height} x {width} px, stride {provenance['stride_px']} px, "
        f"{provenance['channels']} channels, layer {provenance.get('layer', 'last')}, "
        f"norm {provenance.get('norm', 'none')}, mean {mean}, std {std} "
        f"({provenance.get('normalisation', 'as built')}), {provenance['precision']} on {provenance['device']}"
    )


def differences_to_first(measurements: list[Measurement], *, seed: int) -> list[Any]:
    """Return the paired difference of every model to the first, the control row and strangers left out."""
    from ..study import compare

    first, *others = measurements
    found = []
    for other in others:
        # At very different strides two models may have no measured probe in common; there is nothing to pair then.
        common = first.rows["measured"].to_numpy() & other.rows["measured"].to_numpy()
        if other.name != CONTROL_ROW and common.any():
            found.append((other.name, first.name, *compare(other, first, seed=seed)))
    return found


def write_run(
    folder: Path,
    measurements: list[Measurement],
    probes: ProbeSet,
    differences: list[Any],
    *,
    overwrite: bool,
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Write rows, summary, manifest and figure of a run, and `figures` by their names; all of them or none."""
    import json

    import pandas as pd

    from ..figures.plots import coupling_figure, save_figure
    from ..figures.tables import summary_document
    from ..files import new_folder

    document = summary_document(measurements, differences=differences, command=command_line())
    with new_folder(folder, overwrite=overwrite) as draft:
        pd.concat([measurement.rows for measurement in measurements]).to_csv(draft / "rows.csv", index=False)
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        (draft / "probes.json").write_text(probes.manifest().text())
        drawn = {"coupling": coupling_figure(measurements), **(figures or {})}
        for name, figure in drawn.items():
            for suffix in ("png", "pdf"):
                save_figure(figure, draft / f"{name}.{suffix}")
    pictures = " and ".join(f"{name}.png/.pdf" for name in drawn)
    click.echo(f"Wrote rows.csv, summary.json, probes.json, {pictures} to {folder}", err=True)
