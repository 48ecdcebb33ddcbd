"""What cutouts leave of objects in, its numbers with intervals and its rows out."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.coco import CocoIndex
from ..errors import DataError
from ..files import new_folder
from ..metrics.localization import summarize_scores
from ..streams import Stream
from ..training.survival import Survival
from ..typed_files import json_text
from .records import EstimateEntry
from .writing import Writer, command_line

__all__ = ["VISIBLE", "read_visible", "survival_document", "write_survival"]

# The share that each mask leaves of each object, which curves are drawn of.
VISIBLE = "visible.npz"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def survival_document(parts: Sequence[Survival], index: CocoIndex, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what summary.json says: of each strategy and ratio the share that is left, and that is erased."""
    data = {"annotations": str(index.path), "annotations_sha256": index.sha256, "dropped": index.dropped}
    records = [_statistics(part, int(settings["seed"])) for part in parts]
    return {"command": command_line(), "settings": dict(settings), "data": data, "masks": records}


def _statistics(part: Survival, seed: int) -> dict[str, Any]:
    """Return the numbers of a setting; intervals resample photos, whose objects share their masks."""
    columns = {"visible": part.visible.mean(axis=1), "erased": part.erased}
    estimates = summarize_scores(columns, part.images, Stream(seed).child("bootstrap", "masks"))
    bounds = {name: EstimateEntry.of(estimate) for name, estimate in estimates.items()}
    return {
        "strategy": part.strategy,
        "ratio": part.ratio,
        "objects": len(part.annotations),
        "cut": part.cut,
        **{name: {"value": one.value, "low": one.low, "high": one.high} for name, one in bounds.items()},
        "quantiles": {f"{level:g}": float(np.quantile(part.visible, level)) for level in QUANTILES},
    }


def write_survival(
    folder: Path,
    parts: Sequence[Survival],
    document: Mapping[str, Any],
    *,
    files: Mapping[str, Writer],
    overwrite: bool = False,
) -> None:
    """Write rows.csv (one row an object and setting), visible.npz, summary.json and what `files` write."""
    with new_folder(folder, overwrite=overwrite) as draft:
        pd.concat([_rows(part) for part in parts]).to_csv(draft / "rows.csv", index=False)
        shares: dict[str, Any] = {f"{part.strategy} {part.ratio!r}": part.visible for part in parts}
        np.savez_compressed(draft / VISIBLE, **shares)
        (draft / "summary.json").write_text(json_text(document), encoding="utf-8")
        for name, write in files.items():
            write(draft / name)


def _rows(part: Survival) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "strategy": part.strategy,
            "ratio": part.ratio,
            "annotation": part.annotations,
            "image": part.images,
            "category": part.categories,
            "visible_mean": part.visible.mean(axis=1),
            "visible_min": part.visible.min(axis=1),
            "erased": part.erased,
        }
    )


def read_visible(folder: Path) -> dict[tuple[str, float], NDArray[np.float64]]:
    """Return (strategy, ratio) -> what masks leave of objects, (objects, draws).

    Raises:
        DataError: the file is missing or broken.
    """
    try:
        with np.load(folder / VISIBLE, allow_pickle=False) as held:
            keys = {name: name.rsplit(" ", 1) for name in held.files}
            return {(strategy, float(ratio)): held[name] for name, (strategy, ratio) in keys.items()}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder / VISIBLE} cannot be read ({error}); make the folder anew.") from error
