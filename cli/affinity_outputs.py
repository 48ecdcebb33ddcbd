"""What a run of `couplingkit affinity` writes: the figure, or a folder of everything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .session import command_line

if TYPE_CHECKING:
    from ..study import AffinityMaps, Localization

__all__ = ["decimals", "document", "look", "write"]


def decimals(value: float) -> str:
    """Return a level as it is printed."""
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def look(options: dict[str, Any]) -> dict[str, Any]:
    """Return what --width, --upsampling and --range ask of a figure."""
    from ..figures.plots import COLUMN_IN, PAGE_IN

    width = PAGE_IN if options["width"] == "page" else COLUMN_IN
    return {"width_in": width, "how": options["how"], "colour_range": options["colours"]}


def document(models: list[AffinityMaps], options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what summary.json says, after printing the notes that belong to it."""
    for model in models:
        for note in model.provenance.get("notes", ()):
            click.echo(f"Note on {model.name}: {note}", err=True)
    # A probe is drawn at the model's own size, and nothing is fitted.
    asked = ("how", "seed") if "probe" in more else ("fit", "how", "seed")
    settings = {key: options[key] for key in asked}
    return {
        "command": command_line(),
        "models": [{"name": model.name, "provenance": model.provenance} for model in models],
        "settings": settings,
        **more,
    }


def write(
    figure: Any,
    folder: Path | None,
    options: dict[str, Any],
    arrays: dict[str, Any],
    summary: dict[str, Any],
    scores: list[Localization] | None = None,
) -> None:
    """Write the figure, or a folder of everything."""
    import numpy as np
    import pandas as pd

    from ..figures.plots import save_figure
    from ..files import new_file, new_folder

    if folder is None:
        with new_file(options["out"], overwrite=options["overwrite"]) as draft:
            save_figure(figure, draft)
        click.echo(f"Wrote {options['out']}", err=True)
        return
    with new_folder(folder, overwrite=options["overwrite"]) as draft:
        for suffix in ("png", "pdf"):
            save_figure(figure, draft / f"affinity.{suffix}")
        np.savez_compressed(draft / "maps.npz", **arrays)
        (draft / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        if scores:
            pd.concat([model.rows for model in scores]).to_csv(draft / "rows.csv", index=False)
            categories = [model.categories.assign(model=model.name) for model in scores]
            pd.concat(categories).to_csv(draft / "categories.csv", index=False)
    click.echo(f"Wrote affinity.png/.pdf, maps.npz and tables to {folder}", err=True)
