"""What a batch of probes gave in, one row a probe out; and such rows on their way to a file and back, unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, first_line
from ..files import new_file
from ..metrics.coupling import SEEN, coupling_rate, derived_columns
from ..metrics.quantities import Columns
from ..probes.probeset import ProbeSet
from ..probes.spec import DIRECTIONS
from .region_features import RegionFeatures

__all__ = [
    "ROW_COLUMNS",
    "Parts",
    "check_rows",
    "columns_of",
    "file_rows",
    "images_of",
    "mean_feature",
    "probe_table",
    "read_rows",
    "rows_of",
    "seen_table",
    "without_rates",
]

ROW_COLUMNS = [
    *("model", "probe", "annotation_a", "annotation_b", "annotation_c", "image_a", "image_b", "image_c"),
    *("category_a", "category_b", "area_a", "area_match", "gap", "distance_px", "direction"),
    *("cells_a", "cells_b", "outliers_a", *SEEN, "position", "measured"),
]
# As files have them: with each probe's rate at the run's eps, for whoever reads them by hand; it is checked against the
# angles, and nothing else derives from it.
FILE_COLUMNS = [*ROW_COLUMNS[:-1], "cr", "measured"]
WHOLE = ("probe", "annotation_a", "annotation_b", "image_a", "image_b", "area_a", "gap")
# Of a third object, or of A at other places: there where they were asked for.
OF_CONTROL, OF_POSITION = ("theta_a3_b", "toward_c"), ("position",)
TYPES: dict[str, Any] = {
    **dict.fromkeys(("model", "category_a", "category_b", "direction"), "str"),
    **dict.fromkeys(WHOLE, "int64"),
    **dict.fromkeys(("annotation_c", "image_c"), "Int64"),
    **dict.fromkeys(("cells_a", "cells_b", "outliers_a"), "float32"),
    **dict.fromkeys(("area_match", "distance_px", *SEEN, "position", "cr"), "float64"),
    "measured": "bool",
    # Of a sweep.
    "axis": "str",
    "value": "str",
}
# Column -> the least and the most it can be where a probe is measured.
RANGES = {
    "probe": (0, np.inf),
    "area_a": (1, np.inf),
    "area_match": (1e-6, 1e6),
    "gap": (0, 10_000),
    "distance_px": (0, 1e6),
    "cells_a": (0, np.inf),
    "cells_b": (0, np.inf),
    "outliers_a": (0, 1.001),
    **dict.fromkeys(("theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2"), (0, np.pi + 1e-9)),
    **dict.fromkeys(("toward_b", "toward_c"), (-1e12, 1e12)),
    "position": (-1e-9, 2 + 1e-9),
}
# Stated of every probe, measured or not.
OF_PROBE = (*WHOLE, "area_match", "distance_px", "cells_a", "cells_b", "outliers_a")


def mean_feature(batches: Sequence[RegionFeatures], min_cells: float) -> Tensor:
    """Return the mean of all z_A1 and z_B that can be read, float64 (D,)."""
    kept = [torch.cat([batch.alone, batch.partner])[batch.readable(min_cells).repeat(2)] for batch in batches]
    return torch.cat(kept).to(torch.float64).mean(dim=0)


def seen_table(batches: Sequence[RegionFeatures], *, shift: Tensor | None, min_cells: float) -> pd.DataFrame:
    """Return what was seen of some batches as a table, columns `SEEN` and sizes; rows that cannot be read are NaN.

    Batch by batch, for the last digit of a sum depends on how many rows there are; but as one table, for each costs
    pandas milliseconds.

    Args:
        batches: in the order of their probes.
        shift: float64 (D,) that is subtracted from every feature first.
        min_cells: as in `MeasureSettings`.
    """
    of_batches = [_seen(regions, shift, min_cells) for regions in batches]
    return pd.DataFrame({name: np.concatenate([seen[name] for seen in of_batches]) for name in of_batches[0]})


def _seen(regions: RegionFeatures, shift: Tensor | None, min_cells: float) -> dict[str, NDArray[Any]]:
    def ready(vectors: Tensor) -> Tensor:
        centered = vectors if shift is None else vectors.to(torch.float64) - shift
        return torch.where(readable[:, None], centered, torch.nan)

    readable = regions.readable(min_cells)
    control = None if regions.control is None else ready(regions.control)
    rates = coupling_rate(ready(regions.alone), ready(regions.together), ready(regions.partner), control)
    seen = {name: getattr(rates, name) for name in SEEN}
    needed = [values for name, values in seen.items() if regions.control is not None or name not in OF_CONTROL]
    # A direction may be undefined (a feature of length 0) in one image only; then nothing of the row counts.
    measured = ~np.isnan(np.stack(needed)).any(axis=0)
    position = np.full(len(readable), np.nan) if regions.position is None else regions.position.numpy()
    numbers = {name: np.where(measured, values, np.nan) for name, values in {**seen, "position": position}.items()}
    sizes = {"cells_a": regions.cells_a, "cells_b": regions.cells_b, "outliers_a": regions.outliers}
    sizes["distance_px"] = regions.distance_px
    return {**numbers, **{name: values.numpy() for name, values in sizes.items()}, "measured": measured}


def probe_table(probes: ProbeSet) -> pd.DataFrame:
    """Return what the probes of a set are made of, a row each: the columns of `ROW_COLUMNS` that no network changes."""
    pairs = probes.pairs
    categories = [probes.categories(number) for number in range(len(pairs))]
    images = [[probes.index.image_of(key) for key in pair.members()] for pair in pairs]
    return pd.DataFrame(
        {
            "probe": [pair.number for pair in pairs],
            "annotation_a": [pair.annotation_a for pair in pairs],
            "annotation_b": [pair.annotation_b for pair in pairs],
            "annotation_c": pd.array([pair.annotation_c for pair in pairs], dtype="Int64"),
            "image_a": [photos[0] for photos in images],
            "image_b": [photos[1] for photos in images],
            "image_c": pd.array([photos[2] if len(photos) > 2 else None for photos in images], dtype="Int64"),
            "category_a": [names[0] for names in categories],
            "category_b": [names[1] for names in categories],
            "area_a": [probes.store.record(pair.annotation_a).area for pair in pairs],
            "area_match": [probes.area_match(number) for number in range(len(pairs))],
            "gap": probes.spec.gap,
            "direction": [pair.direction for pair in pairs],
        }
    )


def rows_of(name: str, made_of: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Return rows, columns `ROW_COLUMNS`.

    Args:
        name: of the network.
        made_of: some rows of a `probe_table`.
        seen: what was seen of these probes (see `seen_table`).
    """
    whole = pd.concat([made_of.reset_index(drop=True), seen], axis=1)
    whole["model"] = name
    return whole[ROW_COLUMNS]


def file_rows(rows: pd.DataFrame, eps: float) -> pd.DataFrame:
    """Return rows as a file has them, columns `FILE_COLUMNS`: with each probe's rate at `eps` rad."""
    return rows.assign(cr=columns_of(rows, eps)["cr"])[FILE_COLUMNS]


def without_rates(rows: pd.DataFrame, eps: float, what: str) -> pd.DataFrame:
    """Return rows of a file without their rates, which must be those of their angles.

    Raises:
        DataError: a rate is another one; the sentence begins with `what`.
    """
    stated, derived = rows["cr"].to_numpy(dtype=np.float64), columns_of(rows, eps)["cr"]
    wrong = np.flatnonzero(~np.isclose(stated, derived, rtol=1e-9, atol=0, equal_nan=True))
    if wrong.size:
        raise DataError(
            f"{what} has cr {stated[wrong[0]]:g} for probe {rows['probe'].iloc[wrong[0]]}, but its angles give "
            f"{derived[wrong[0]]:g} at eps {eps:g} rad; measure again."
        )
    return rows.drop(columns="cr")


def columns_of(rows: pd.DataFrame, eps: float) -> Columns:
    """Return what quantities are made of: numbers of rows and what derives from them, float64 (N,), NaN if unmeasured.

    Args:
        rows: columns `ROW_COLUMNS`.
        eps: rad.
    """
    seen = {name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in (*SEEN, "position")}
    return derived_columns(seen, eps)


def images_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the ids of the photos that each row was made of: int64 (N, 3), or (N, 2) without a control."""
    columns = ["image_a", "image_b", *([] if rows["image_c"].isna().any() else ["image_c"])]
    return rows[columns].to_numpy(dtype=np.int64)


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table of rows as it was written, every digit of it.

    Raises:
        DataError: it cannot be read, is no such table, or holds rows that cannot be.
    """
    try:
        table = pd.read_csv(
            path, float_precision="round_trip", dtype=TYPES, keep_default_na=False, na_values=[""], encoding="utf-8"
        )
    except (OSError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"rows {path} cannot be read ({first_line(error)}).") from error
    lacking = [name for name in FILE_COLUMNS if name not in table]
    if lacking:
        raise DataError(f"rows {path} lack the column {lacking[0]}; were they written by an older couplingkit?")
    check_rows(table, f"rows {path}")
    return table


def check_rows(table: pd.DataFrame, what: str) -> None:
    """Raise `DataError` unless rows can be those of a measurement: one a model and probe, numbers in their ranges.

    Args:
        table: columns `ROW_COLUMNS` or `FILE_COLUMNS`, of one model or several (and of a sweep's values).
        what: begins the sentence.
    """
    keys = [name for name in ("model", "axis", "value", "probe") if name in table]
    double = table.duplicated(keys)
    if double.any():
        first = table[double].iloc[0]
        raise DataError(f"{what} have probe {first['probe']} of {first['model']} twice; measure again.")
    strange = ~table["direction"].isin(DIRECTIONS)
    if strange.any():
        raise DataError(f"{what} have the direction {table[strange].iloc[0]['direction']!r}; measure again.")
    measured = table["measured"].to_numpy()
    for name, (low, high) in RANGES.items():
        values = table[name].to_numpy(dtype=np.float64, na_value=np.nan)
        needed = np.ones_like(measured) if name in OF_PROBE else measured
        optional = name in (*OF_CONTROL, *OF_POSITION, "area_match")
        lacking = needed & np.isnan(values) & (not optional)
        outside = ~np.isnan(values) & ~((values >= low) & (values <= high) & np.isfinite(values))
        wrong = np.flatnonzero(lacking | outside | (~needed & ~np.isnan(values)))
        if wrong.size:
            shown = table[name].iloc[wrong[0]]
            raise DataError(
                f"{what} have {name} {shown} for probe {table['probe'].iloc[wrong[0]]}, which cannot be; measure again."
            )
    for _, own in table[measured].groupby("model"):
        third = own[list(OF_CONTROL)].isna().to_numpy()
        if third.any() and not third.all():
            raise DataError(f"{what} have a third object in some probes only; measure again.")


class Parts:
    """The rows of a run while it is under way: one file per chunk of probes, each there whole or not at all.

    Args:
        folder: of the files; made when the first one is written.
        size: probes per file, at least; whole batches.
    """

    def __init__(self, folder: Path, *, size: int = 64):
        self.folder = folder
        self.size = size

    def done(self) -> list[int]:
        """Return the numbers of the chunks that are there."""
        names = [path.stem.removeprefix("chunk-") for path in self.folder.glob("chunk-*.csv")]
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def read(self, chunk: int) -> pd.DataFrame:
        """Return the rows of a chunk."""
        return read_part(self._path(chunk))

    def write(self, chunk: int, rows: pd.DataFrame) -> None:
        """Keep the rows of a chunk.

        Raises:
            OutputError: the disk refuses; the chunks before are kept.
        """
        with new_file(self._path(chunk), mark=None, durable=True) as draft:
            rows.to_csv(draft, index=False)

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:06d}.csv"


def read_part(path: Path) -> pd.DataFrame:
    """Read the rows of a chunk: of several variants and layers, which are told apart by columns of their own.

    Raises:
        DataError: as in `read_rows`.
    """
    try:
        table = pd.read_csv(path, float_precision="round_trip", dtype=TYPES, keep_default_na=False, na_values=[""])
        for _, own in table.groupby(["variant", "layer"]):
            check_rows(own, f"rows {path}")
    except (OSError, ValueError, KeyError, OverflowError) as error:
        raise DataError(f"rows {path} cannot be read ({first_line(error)}).") from error
    return table
