"""What a batch of probes gave in, one row a probe out; and such rows on their way to a file and back, unchanged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import DataError, OutputError, first_line
from ..metrics.coupling import coupling_rate
from ..probes.probeset import ProbeSet
from .readings import Reading

__all__ = ["ROW_COLUMNS", "Parts", "mean_feature", "rates_table", "read_rows", "rows_of"]

ROW_COLUMNS = [
    *("model", "probe", "annotation_a", "annotation_b", "annotation_c", "image_a", "image_b", "image_c"),
    *("category_a", "category_b", "area_a", "gap", "direction"),
    *("cells_a", "cells_b", "outliers_a", "numerator", "denominator", "cr", "cr_control", "displacement"),
    *("clipped_numerator", "clipped_denominator", "measured"),
]
WHOLE = ("probe", "annotation_a", "annotation_b", "image_a", "image_b", "area_a", "gap")
TYPES: dict[str, Any] = {
    **dict.fromkeys(("model", "category_a", "category_b", "direction"), "str"),
    **dict.fromkeys(WHOLE, "int64"),
    **dict.fromkeys(("annotation_c", "image_c"), "Int64"),
    **dict.fromkeys(("cells_a", "cells_b", "outliers_a"), "float32"),
    **dict.fromkeys(("numerator", "denominator", "cr", "cr_control", "displacement"), "float64"),
    **dict.fromkeys(("clipped_numerator", "clipped_denominator"), "boolean"),
    "measured": "bool",
    # Of a sweep.
    "axis": "str",
    "value": "str",
}


def mean_feature(readings: Sequence[Reading], min_cells: float) -> Tensor:
    """Return the mean of all z_A1 and z_B that can be read, float64 (D,)."""
    kept = [torch.cat([one.alone, one.partner])[one.readable(min_cells).repeat(2)] for one in readings]
    return torch.cat(kept).to(torch.float64).mean(dim=0)


def rates_table(reading: Reading, *, shift: Tensor | None, eps: float, min_cells: float) -> pd.DataFrame:
    """Return a batch's rates as a table; rows that cannot be read are NaN.

    Args:
        reading: of the batch.
        shift: float64 (D,) that is subtracted from every feature first.
        eps: as in `measure`.
        min_cells: as in `measure`.
    """

    def ready(vectors: Tensor) -> Tensor:
        centered = vectors if shift is None else vectors.to(torch.float64) - shift
        return torch.where(readable[:, None], centered, torch.nan)

    readable = reading.readable(min_cells)
    alone, partner = ready(reading.alone), ready(reading.partner)
    rates = coupling_rate(alone, ready(reading.together), partner, eps=eps)
    control = np.full(len(readable), np.nan)
    if reading.control is not None:
        control = coupling_rate(alone, ready(reading.control), partner, eps=eps).cr
    measured = ~np.isnan(rates.cr) & (~np.isnan(control) | (reading.control is None))
    columns = {**vars(rates), "cr_control": control}
    table = pd.DataFrame({name: pd.Series(values, dtype=TYPES[name]) for name, values in columns.items()})
    # A direction may be undefined (a feature of length 0) in one image only; then nothing of the row counts.
    table.loc[~measured] = pd.NA
    regions = {"cells_a": reading.cells_a, "cells_b": reading.cells_b, "outliers_a": reading.outliers}
    return table.assign(**{name: values.numpy() for name, values in regions.items()}, measured=measured)


def rows_of(name: str, probes: ProbeSet, numbers: Sequence[int], table: pd.DataFrame) -> pd.DataFrame:
    """Return the rates of some probes with what the probes are made of, columns `ROW_COLUMNS`."""
    pairs = [probes.pairs[number] for number in numbers]
    categories = [probes.categories(number) for number in numbers]
    images = [[probes.index.image_of(key) for key in pair.members()] for pair in pairs]
    described = table.assign(
        model=name,
        probe=[pair.number for pair in pairs],
        annotation_a=[pair.annotation_a for pair in pairs],
        annotation_b=[pair.annotation_b for pair in pairs],
        annotation_c=pd.array([pair.annotation_c for pair in pairs], dtype="Int64"),
        image_a=[photos[0] for photos in images],
        image_b=[photos[1] for photos in images],
        image_c=pd.array([photos[2] if len(photos) > 2 else None for photos in images], dtype="Int64"),
        category_a=[names[0] for names in categories],
        category_b=[names[1] for names in categories],
        area_a=[probes.store.record(pair.annotation_a).area for pair in pairs],
        gap=probes.spec.gap,
        direction=[pair.direction for pair in pairs],
    )
    return described[ROW_COLUMNS]


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table of rows as it was written, every digit of it.

    Raises:
        DataError: it cannot be read, or is no such table.
    """
    try:
        table = pd.read_csv(path, float_precision="round_trip", dtype=TYPES, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"rows {path} cannot be read ({first_line(error)}).") from error
    lacking = [name for name in ROW_COLUMNS if name not in table]
    if lacking:
        raise DataError(f"rows {path} lack the column {lacking[0]}; were they written by an older couplingkit?")
    return table


class Parts:
    """The rows of a run while it is under way: one file per chunk of probes, each there whole or not at all.

    Args:
        folder: of the files; made when the first one is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def done(self) -> list[int]:
        """Return the numbers of the chunks that are there."""
        return sorted(int(path.stem.removeprefix("chunk-")) for path in self.folder.glob("chunk-*.csv"))

    def read(self, chunk: int) -> pd.DataFrame:
        """Return the rows of a chunk."""
        return read_rows(self._path(chunk))

    def write(self, chunk: int, rows: pd.DataFrame) -> None:
        """Keep the rows of a chunk.

        Raises:
            OutputError: the disk refuses.
        """
        path = self._path(chunk)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("w") as stream:
                rows.to_csv(stream, index=False)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise OutputError(
                f"out {self.folder} cannot be written: {error.strerror or error}; the chunks before are kept, and the "
                "same command goes on."
            ) from error

    def _path(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:06d}.csv"
