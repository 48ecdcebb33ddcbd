"""Photos or probes, points and a backbone in, affinity maps out: one record per model, for figures and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError, MeasurementError
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone
from ..features.passes import BatchSize
from ..features.regions import masked_mean, region_weights
from ..metrics.affinity import check_point
from ..metrics.localization import inner_point
from ..pixels import Frame
from ..probes.probeset import ProbeSet
from ..probes.spec import UNITS
from .photo_features import CellMap, PhotoFeatures, read_photos

__all__ = ["AffinityMaps", "ProbeMaps", "Query", "affinity_maps", "map_arrays", "probe_maps", "probe_query"]


@dataclass(frozen=True)
class Query:
    """A point of a photo.

    Attributes:
        photo: its place in the list of photos.
        x, y: px of the photo; (0, 0) is the middle of the first pixel.
    """

    photo: int
    x: float
    y: float

    def check_inside(self, photo: NDArray[np.uint8], name: str) -> None:
        """Raise `ArgumentError` if the point lies outside its photo."""
        check_point(self.x, self.y, (photo.shape[0], photo.shape[1]), name)


@dataclass(frozen=True)
class AffinityMaps:
    """What one model says of some queries.

    Attributes:
        name: of the model.
        maps: one per query, in their order.
        provenance: of the model, as JSON values.
    """

    name: str
    maps: tuple[CellMap, ...]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class ProbeMaps:
    """What one model says of one query on A, without and with B.

    Attributes:
        name: of the model.
        alone: the map in the image of A alone.
        together: the map of the same point in the image of A beside B.
        on_a: mean affinity on A's region in the two images.
        on_b: mean affinity on B's region in the two images; in the first one it is empty canvas.
        provenance: of the model, as JSON values.
    """

    name: str
    alone: CellMap
    together: CellMap
    on_a: tuple[float, float]
    on_b: tuple[float, float]
    provenance: dict[str, Any]

    @property
    def difference(self) -> CellMap:
        """What B's presence changes: `together` minus `alone`."""
        return CellMap(self.together.cells - self.alone.cells, self.alone.frame, self.alone.stride_px)


def affinity_maps(
    backbone: DenseBackbone | LayeredBackbone,
    photos: Sequence[NDArray[np.uint8]],
    queries: Sequence[Query],
    *,
    fit: str = "stretch",
    batch_size: BatchSize = 32,
) -> list[AffinityMaps]:
    """Map the affinity of points of photos with a network.

    Args:
        backbone: the network.
        photos: uint8 (H, W, 3) each.
        queries: points of them, in any order.
        fit: `stretch` or `pad`; see `read_photos`.
        batch_size: photos per forward pass; changes speed and memory only.

    Returns:
        One record per layer of the backbone.

    Raises:
        ArgumentError: a point lies outside its photo.
        MeasurementError: features are not finite.
    """
    layered = backbone if isinstance(backbone, LayeredBackbone) else LayeredBackbone([backbone])
    for query in queries:
        query.check_inside(photos[query.photo], f"photo {query.photo}")
    used = sorted({query.photo for query in queries})
    found: list[list[CellMap | None]] = [[None] * len(queries) for _ in layered.layers]
    shown = read_photos(layered, [photos[number] for number in used], fit=fit, batch_size=batch_size)
    for number, of_layers in zip(used, shown, strict=True):
        places = [index for index, query in enumerate(queries) if query.photo == number]
        points = [(queries[place].x, queries[place].y) for place in places]
        for maps, features in zip(found, of_layers, strict=True):
            for place, cell_map in zip(places, features.affinity(points), strict=True):
                maps[place] = cell_map
    return [
        AffinityMaps(layer.name, tuple(cell_map for cell_map in maps if cell_map is not None), layer.provenance())
        for layer, maps in zip(layered.layers, found, strict=True)
    ]


def map_arrays(models: Sequence[AffinityMaps], queries: Sequence[Query]) -> dict[str, NDArray]:
    """Return raw maps as named arrays, for `numpy.savez`.

    `models` has the names, `queries` a row (photo, x, y) per query; of model m and query q `map_M_Q` has the cells
    (h, w) and `frame_M_Q` their place: height and width of the photo and of the input, then top, left, height and width
    of the photo within the input, then the stride (all px).
    """
    arrays: dict[str, NDArray] = {
        "models": np.array([model.name for model in models]),
        "queries": np.array([(query.photo, query.x, query.y) for query in queries], dtype=np.float64),
    }
    for m, model in enumerate(models):
        for q, cell_map in enumerate(model.maps):
            frame = cell_map.frame
            place = (*frame.photo, *frame.image, frame.top, frame.left, frame.height, frame.width, cell_map.stride_px)
            arrays |= {f"map_{m}_{q}": cell_map.cells, f"frame_{m}_{q}": np.array(place, dtype=np.int64)}
    return arrays


def probe_query(probes: ProbeSet, number: int) -> tuple[int, int]:
    """Return the point (x, y) deepest inside A of a probe, px of the 224 px canvas."""
    if not 0 <= number < len(probes):
        raise ArgumentError(f"probe must be between 0 and {len(probes) - 1}, but is {number}.")
    return inner_point(probes.render([number]).mask_a[0].numpy())


def probe_maps(backbone: DenseBackbone | LayeredBackbone, probes: ProbeSet, number: int) -> list[ProbeMaps]:
    """Map the affinity of one point of A in a probe's images without and with B.

    Args:
        backbone: the network; it is shown the probe at its own input size.
        probes: the set.
        number: of the probe.

    Returns:
        One record per layer of the backbone.

    Raises:
        MeasurementError: features are not finite.
    """
    layered = backbone if isinstance(backbone, LayeredBackbone) else LayeredBackbone([backbone])
    point = probe_query(probes, number)
    # The canvas of 224 px is to the network's input what a photo is: a square in its middle.
    frame = Frame.fitted((UNITS, UNITS), layered.size_px, fit="pad")
    probe = probes.render([number], size=layered.size_px, mean=layered.mean, device=layered.device)
    maps = []
    both = zip(layered.layers, *(layered(images) for images in (probe.alone, probe.together)), strict=True)
    for layer, *features in both:
        if not all(values.isfinite().all() for values in features):
            raise MeasurementError(f"{layer.name} gives features that are not finite in probe {number}.")
        alone, together = (
            PhotoFeatures(values[0].cpu(), frame, layer.stride_px).affinity([point])[0] for values in features
        )
        grid = (alone.cells.shape[0], alone.cells.shape[1])
        weights = [
            region_weights(*masks, stride_px=layer.stride_px, grid=grid)
            for masks in ((probe.mask_a, probe.mask_b), (probe.mask_b, probe.mask_a))
        ]
        on_a, on_b = ((_level(alone, region), _level(together, region)) for region in weights)
        maps.append(ProbeMaps(layer.name, alone, together, on_a, on_b, layer.provenance()))
    return maps


def _level(cell_map: CellMap, weights: Tensor) -> float:
    """Return the mean over a region; NaN where it is empty or undefined in a cell of the region."""
    region = weights.cpu()
    cells = torch.from_numpy(cell_map.cells).to(torch.float32)[None]
    # Undefined cells elsewhere are none of the region's business, but 0 times NaN is NaN.
    return float(masked_mean(torch.where(region > 0, cells, 0.0)[:, None], region)[0, 0])
