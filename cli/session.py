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
from .choices import Choice, each_choice

if TYPE_CHECKING:
    from ..features.backbone import LayeredBackbone
    from ..probes.probeset import ProbeSet
    from ..study import Measurement

__all__ = [
    "command_line",
    "default_out",
    "describe",
    "differences_to_first",
    "each_model",
    "write_run",
]

Result = TypeVar("Result")


def command_line() -> str:
    """Return what the user typed."""
    return shlex.join(["couplingkit", *sys.argv[1:]])


def default_out(kind: str) -> Path:
    """Return a folder of its own for this run."""
    return Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"


def each_model(
    names: tuple[str, ...], backbone_options: dict[str, Any], work: Callable[[LayeredBackbone], list[Result]]
) -> tuple[list[Result], list[str]]:
    """Load models of the same options one after another and do some work with each; see `each_choice`."""
    choices = [Choice(name, backbone_options) for name in names]
    found, failures = each_choice(choices, work, alone=len(names) == 1)
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
    from ..study import CONTROL_ROW, compare

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
    more: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write rows, summary, manifest and figure of a run, all of them or none.

    Args:
        folder: where they go.
        measurements: of all models.
        probes: what they were shown.
        differences: paired differences, for the summary.
        overwrite: whether other results may be replaced.
        figures: further ones by their names.
        more: keys of the summary besides.
        files: further files by their names.
    """
    import json

    import pandas as pd

    from ..figures.plots import coupling_figure, save_figure
    from ..figures.tables import summary_document
    from ..files import new_folder

    document = summary_document(measurements, differences=differences, command=command_line()) | dict(more or {})
    with new_folder(folder, overwrite=overwrite) as draft:
        pd.concat([measurement.rows for measurement in measurements]).to_csv(draft / "rows.csv", index=False)
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        (draft / "probes.json").write_text(probes.manifest().text())
        for name, content in (files or {}).items():
            (draft / name).write_bytes(content)
        drawn = {"coupling": coupling_figure(measurements), **(figures or {})}
        for name, figure in drawn.items():
            for suffix in ("png", "pdf"):
                save_figure(figure, draft / f"{name}.{suffix}")
    pictures = " and ".join(f"{name}.png/.pdf" for name in drawn)
    besides = "".join(f", {name}" for name in files or {})
    click.echo(f"Wrote rows.csv, summary.json, probes.json{besides}, {pictures} to {folder}", err=True)
