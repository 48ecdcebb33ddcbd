"""Photos, queries and affinity maps in, the figures that papers print out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..errors import ArgumentError, check_range
from ..evaluation.affinity import AffinityMaps, ProbeMaps, Query
from ..evaluation.photo_features import CellMap
from ..runs.affinity import AffinityRun
from .labels import short_labels
from .map_grid import GridRow, Panel, Scale, map_grid
from .style import MAPS, PAGE_IN, check_colour_map

__all__ = ["ColourRange", "MapLook", "affinity_figure", "probe_figure", "run_figure"]

ColourRange = str | tuple[float, float]
RANGES = ("all", "model", "row", "panel")
# The longest side at which maps are compared for their common range; finer steps would not show.
RANGE_PX = 200


@dataclass(frozen=True)
class MapLook:
    """How maps are drawn.

    Attributes:
        width_in: of the figure, inches; `COLUMN_IN` or `PAGE_IN`.
        how: `bicubic` or `nearest`; see `upsample`.
        colour_range: of which maps the ends of the colours are: of `all` of the figure, of each `model`'s (its column),
            of each `row`'s, or of each `panel` by itself (then each says its own); or two limits.
        cmap: one of `MAPS`, whose lightness goes one way.
        overlay: how much of a map is seen over the photo in gray, in (0, 1]; 1 shows the map alone.

    Raises:
        ArgumentError: one of them is none of these.
    """

    width_in: float = PAGE_IN
    how: str = "bicubic"
    colour_range: ColourRange = "all"
    cmap: str = MAPS[0]
    overlay: float = 1.0

    def __post_init__(self) -> None:
        check_colour_map(self.cmap)
        check_range("overlay", self.overlay, 0.05, 1.0)
        if isinstance(self.colour_range, tuple):
            low, high = self.colour_range
            if not (np.isfinite([low, high]).all() and low < high):
                raise ArgumentError(f"range must go up, but is {low:g} to {high:g}; give LOW,HIGH like 0,1.")
        elif self.colour_range not in RANGES:
            now = {"shared": "all", "per-panel": "panel"}.get(self.colour_range)
            raise ArgumentError(
                f"range must be {', '.join(RANGES)} or two numbers, not {self.colour_range!r}"
                f"{f', which is called {now} now' if now else ''}."
            )


def affinity_figure(
    photos: Sequence[NDArray[np.uint8]],
    queries: Sequence[Query],
    models: Sequence[AffinityMaps],
    *,
    captions: Sequence[str] | None = None,
    outlines: Sequence[NDArray[np.bool_]] | None = None,
    labels: Sequence[str] | None = None,
    look: MapLook = MapLook(),
) -> Figure:
    """Draw affinity maps: a row per query, a column per model, the photo on the left.

    Args:
        photos: uint8 (H, W, 3) each.
        queries: points of them.
        models: their maps, one per query each.
        captions: of the rows; the point's coordinates by default.
        outlines: masks (H, W) whose outline each row shows.
        labels: above the columns; the models' names without their folders by default.
        look: how the maps are drawn.

    Raises:
        ArgumentError: no query or no model, or a range that is none.
    """
    if not queries or not models:
        raise ArgumentError("models and queries must not be empty; a figure needs one of each.")
    scales = _scales([model.maps for model in models], look)
    rows = [
        GridRow(
            picture=photos[query.photo],
            size=(photos[query.photo].shape[0], photos[query.photo].shape[1]),
            point=(query.x, query.y),
            caption=f"{query.x:g}, {query.y:g}" if captions is None else captions[index],
            panels=[
                Panel(partial(_drawn, model.maps[index], look.how), scales[column][index], look.how == "bicubic")
                for column, model in enumerate(models)
            ],
            outline=None if outlines is None else outlines[index],
        )
        for index, query in enumerate(queries)
    ]
    return map_grid(rows, labels or short_labels([model.name for model in models]), width_in=look.width_in)


def probe_figure(
    alone: NDArray,
    together: NDArray,
    point: tuple[int, int],
    models: Sequence[ProbeMaps],
    *,
    captions: tuple[str, str],
    labels: Sequence[str] | None = None,
    look: MapLook = MapLook(),
) -> Figure:
    """Draw what B changes: the maps of a query on A alone, of the same query beside B, and their difference.

    Args:
        alone: the picture of A alone, float (H, W, 3) in [0, 1].
        together: of A beside B.
        point: x, y of the query, px of the pictures.
        models: their maps.
        captions: of the two pictures.
        labels: above the columns.
        look: how the maps are drawn; the range of colours is that of the first two rows.
    """
    how = look.how
    # Below the columns there is the bar of the changes, so that the maps' own range is one for all, or each panel's.
    shared = (
        look
        if isinstance(look.colour_range, tuple) or look.colour_range == "panel"
        else replace(look, colour_range="all")
    )
    scale = _scales([(model.alone, model.together) for model in models], shared)[0][0]
    ends = [end for model in models if (end := _extremes(model.difference, how)) is not None]
    reach = max([abs(value) for end in ends for value in end] + [1e-3])
    change = Scale("RdBu_r", (-reach, reach), "change")
    content = (
        (alone, captions[0], [(model.alone, scale) for model in models]),
        (together, captions[1], [(model.together, scale) for model in models]),
        (None, "difference", [(model.difference, change) for model in models]),
    )
    rows = [
        GridRow(
            picture=picture,
            size=(alone.shape[0], alone.shape[1]),
            point=point,
            caption=text,
            panels=[Panel(partial(_drawn, cell_map, how), colours, how == "bicubic") for cell_map, colours in maps],
        )
        for picture, text, maps in content
    ]
    headings = labels or short_labels([model.name for model in models])
    return map_grid(rows, headings, width_in=look.width_in, first="probe")


def run_figure(run: AffinityRun, *, labels: Sequence[str] | None = None, look: MapLook = MapLook()) -> Figure:
    """Draw what `couplingkit affinity` found: maps of queries, or what B changes in a probe."""
    if run.probe:
        alone, together = run.photos
        point, captions = (int(run.queries[0].x), int(run.queries[0].y)), (run.captions[0], run.captions[1])
        return probe_figure(alone, together, point, run.probe, captions=captions, labels=labels, look=look)
    return affinity_figure(
        run.photos,
        run.queries,
        run.maps,
        captions=run.captions or None,
        outlines=run.outlines or None,
        labels=labels,
        look=look,
    )


def _drawn(cell_map: CellMap, how: str, size: tuple[int, int]) -> NDArray[np.float64]:
    return cell_map.pixels(size, how=how)


def _scales(maps: Sequence[Sequence[CellMap]], look: MapLook) -> list[list[Scale]]:
    """Return the scale of each map, by column and row: maps that share a range share a scale."""
    chosen = look.colour_range
    shared: dict[tuple[int | None, int | None], Scale] = {}
    found: list[list[Scale]] = []
    for column, of_model in enumerate(maps):
        found.append([])
        for row, _ in enumerate(of_model):
            group = (column if chosen == "model" else None, row if chosen == "row" else None)
            if group not in shared:
                members = [
                    cell_map
                    for other, of_other in enumerate(maps)
                    for place, cell_map in enumerate(of_other)
                    if group[0] in (None, other) and group[1] in (None, place)
                ]
                limits = _limits(members, look.how, chosen)
                every = members if chosen == "row" else [cell_map for of_other in maps for cell_map in of_other]
                shared[group] = Scale(look.cmap, limits, _label(every, chosen), group[0], look.overlay)
            found[-1].append(shared[group])
    return found


def _limits(maps: Sequence[CellMap], how: str, colour_range: ColourRange) -> tuple[float, float] | None:
    if isinstance(colour_range, tuple):
        return colour_range
    if colour_range == "panel":
        return None
    ends = [end for cell_map in maps if (end := _extremes(cell_map, how)) is not None]
    low, high = min((end[0] for end in ends), default=0.0), max((end[1] for end in ends), default=1.0)
    return (low, high) if low < high else (low - 0.01, low + 0.01)


def _extremes(cell_map: CellMap, how: str) -> tuple[float, float] | None:
    """Return the lowest and highest value of a map as it is drawn; None where it is undefined everywhere."""
    scale = RANGE_PX / max(cell_map.frame.photo)
    height, width = (max(1, round(side * scale)) for side in cell_map.frame.photo)
    values = cell_map.pixels((height, width), how=how)
    if np.isnan(values).all():
        return None
    return float(np.nanmin(values)), float(np.nanmax(values))


def _label(maps: Sequence[CellMap], colour_range: ColourRange) -> str:
    # Short, where there are several bars.
    text = {"row": "cosine", "model": "cosine, a range per model"}.get(str(colour_range), "affinity (cosine)")
    if colour_range == "panel":
        text += ", each panel its own range"
    elif isinstance(colour_range, tuple) and any(
        np.nanmin(cell_map.cells) < colour_range[0] or np.nanmax(cell_map.cells) > colour_range[1]
        for cell_map in maps
        if not np.isnan(cell_map.cells).all()
    ):
        text += ", clipped"
    return f"{text}; gray: undefined" if any(np.isnan(cell_map.cells).any() for cell_map in maps) else text
