"""Affinity maps of models in, their folder out; and such a folder in, what its figure is drawn of out."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError
from ..evaluation.affinity import AffinityMaps, ProbeMaps, Query, map_arrays
from ..evaluation.photo_features import CellMap
from ..files import new_folder
from ..pixels import Frame
from ..typed_files import json_text
from .affinity import AffinityRun
from .writing import Writer, dropped_files

__all__ = ["is_affinity", "map_files", "read_affinity", "write_affinity"]

MAPS, PICTURES = "maps.npz", "pictures.npz"
# Of a photo's longer side: no figure shows more.
MOST_PX = 1000
UNKNOWN = (float("nan"), float("nan"))


def write_affinity(folder: Path, run: AffinityRun, *, files: Mapping[str, Writer], overwrite: bool = False) -> None:
    """Write a folder: raw maps, the photos as figures show them, summary.json, the scores, and what `files` write."""
    with new_folder(folder, overwrite=overwrite) as draft:
        for name, write in {**files, **map_files(run), **dropped_files(run.faults)}.items():
            write(draft / name)
        (draft / "summary.json").write_text(json_text(run.document), encoding="utf-8")
        if run.scores:
            pd.concat([model.rows for model in run.scores]).to_csv(draft / "rows.csv", index=False)
            categories = [model.categories.assign(model=model.name) for model in run.scores]
            pd.concat(categories).to_csv(draft / "categories.csv", index=False)


def map_files(run: AffinityRun) -> dict[str, Writer]:
    """Return what writes the raw maps, and the photos as figures show them."""
    maps: dict[str, Any] = map_arrays(run.maps, run.queries)
    return {
        MAPS: lambda path: np.savez_compressed(path, **maps),
        PICTURES: lambda path: np.savez_compressed(path, **_picture_arrays(run)),
    }


def _picture_arrays(run: AffinityRun) -> dict[str, Any]:
    """Return the photos, the points and the outlines, all of them as much smaller as the photo is, and the captions."""
    arrays: dict[str, Any] = {"captions": np.array(list(run.captions), dtype=str), "probe": np.array(bool(run.probe))}
    factors = [max(1, -(-max(photo.shape[:2]) // MOST_PX)) for photo in run.photos]
    for number, (photo, factor) in enumerate(zip(run.photos, factors, strict=True)):
        pixels = photo if photo.dtype == np.uint8 else np.round(photo * 255).astype(np.uint8)
        arrays[f"photo_{number}"] = _smaller(pixels, factor)
    points = [
        (query.photo, *((side + 0.5) / factors[query.photo] - 0.5 for side in (query.x, query.y)))
        for query in run.queries
    ]
    arrays["points"] = np.array(points, dtype=np.float64).reshape(-1, 3)
    for number, outline in enumerate(run.outlines):
        factor = factors[run.queries[number].photo]
        arrays[f"outline_{number}"] = _smaller(outline[..., None].astype(np.uint8) * 255, factor)[..., 0] > 127
    return arrays


def _smaller(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return means of blocks; the last pixels that fill no block are left out."""
    height, width = (side // factor for side in pixels.shape[:2])
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    found: NDArray[np.uint8] = blocks.mean(axis=(1, 3), dtype=np.float32).round().astype(np.uint8)
    return found


def is_affinity(folder: Path) -> bool:
    """Return whether a folder holds affinity maps and their photos."""
    return (folder / MAPS).is_file() and (folder / PICTURES).is_file()


def read_affinity(folder: Path) -> AffinityRun:
    """Return what the figure of a folder is drawn of; the photos are as large as figures show them.

    Raises:
        DataError: a file is missing or broken.
    """
    try:
        with (
            np.load(folder / MAPS, allow_pickle=False) as held,
            np.load(folder / PICTURES, allow_pickle=False) as shown,
        ):
            maps = _maps(held)
            queries = [Query(int(photo), float(x), float(y)) for photo, x, y in shown["points"]]
            count = len([name for name in shown.files if name.startswith("photo_")])
            photos = [shown[f"photo_{number}"] for number in range(count)]
            outlines = [shown[f"outline_{number}"] for number in range(len(queries)) if f"outline_{number}" in shown]
            captions = [str(caption) for caption in shown["captions"]]
            is_probe = bool(shown["probe"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"affinity maps of {folder} cannot be read ({error}); make them anew.") from error
    run = AffinityRun(photos, queries, maps, {}, captions, outlines)
    if not is_probe:
        return run
    probe = [ProbeMaps(one.name, one.maps[0], one.maps[1], UNKNOWN, UNKNOWN, {}) for one in maps]
    return replace(run, photos=[photo / 255 for photo in photos], probe=probe)


def _maps(held: Any) -> list[AffinityMaps]:
    count = len(held["queries"])
    found = []
    for m, name in enumerate(held["models"]):
        cells = []
        for q in range(count):
            (*sides, stride) = (int(side) for side in held[f"frame_{m}_{q}"])
            frame = Frame((sides[0], sides[1]), (sides[2], sides[3]), *sides[4:])
            cells.append(CellMap(held[f"map_{m}_{q}"], frame, stride))
        found.append(AffinityMaps(str(name), tuple(cells), {}))
    return found
