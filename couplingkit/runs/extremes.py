"""A measurement and its network in, the probes of the highest and lowest rates out, with their affinity maps."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..evaluation.affinity import probe_maps, probe_query
from ..features.layered import LayeredBackbone
from ..probes.probeset import ProbeSet
from ..study.measurement import Measurement

__all__ = ["EXTREMES", "Extreme", "find_extremes", "read_extremes", "refreshed", "write_extremes"]

EXTREMES = "extremes.npz"
OF_EACH = 3
MAP_PX = 56


@dataclass(frozen=True)
class Extreme:
    """One probe that stands out.

    Attributes:
        model: its name.
        probe: the probe's number.
        cr: its coupling rate.
        caption: categories of A and B.
        images: uint8 (2, H, W, 3): A alone, A beside B.
        maps: float32 (2, 56, 56): affinity to a point of A in the two images, over the whole of them.
        point: x and y of the point, px of the images.
    """

    model: str
    probe: int
    cr: float
    caption: str
    images: NDArray[np.uint8]
    maps: NDArray[np.float32]
    point: tuple[int, int]


def find_extremes(
    backbone: LayeredBackbone, probes: ProbeSet, measurements: Sequence[Measurement], *, of_each: int = OF_EACH
) -> list[Extreme]:
    """Return the probes of the highest and the lowest coupling rates of each layer, highest first.

    Args:
        backbone: what was measured.
        probes: what it was shown.
        measurements: one per layer.
        of_each: how many of the highest, and of the lowest.
    """
    found = []
    for layer, measurement in enumerate(measurements):
        defined = np.flatnonzero(~np.isnan(measurement.cr))
        order = defined[np.argsort(-measurement.cr[defined], kind="stable")]
        for number in dict.fromkeys([*order[:of_each], *order[-of_each:]]):
            found.append(_extreme(backbone, probes, measurement, layer, int(number)))
    return found


def _extreme(backbone: LayeredBackbone, probes: ProbeSet, measurement: Measurement, layer: int, number: int) -> Extreme:
    maps = probe_maps(backbone, probes, number)[layer]
    # As the network saw it, but for the size.
    probe = probes.render([number], mean=backbone.mean)
    a, b, *_ = probes.categories(number)
    pictures = [
        (image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8) for image in (probe.alone[0], probe.together[0])
    ]
    shown = [one.pixels((MAP_PX, MAP_PX)) for one in (maps.alone, maps.together)]
    cells = np.stack(shown).astype(np.float32)
    rate = float(measurement.cr[number])
    return Extreme(
        measurement.name, number, rate, f"{a} beside {b}", np.stack(pictures), cells, probe_query(probes, number)
    )


def refreshed(
    extremes: Sequence[Extreme], before: Sequence[Measurement], after: Sequence[Measurement]
) -> list[Extreme]:
    """Return the probes that stood out, with the names and the rates that their models have now.

    Args:
        extremes: as they were found.
        before: the measurements that they were found in.
        after: the same ones, in the same order, under other names or with another eps.
    """
    now = {old.name: new for old, new in zip(before, after, strict=True)}
    return [
        replace(extreme, model=now[extreme.model].name, cr=float(now[extreme.model].cr[extreme.probe]))
        for extreme in extremes
        if extreme.model in now and extreme.probe < len(now[extreme.model].cr)
    ]


def write_extremes(extremes: Sequence[Extreme], path: Path) -> None:
    """Write them as a compressed NumPy archive."""
    arrays: dict[str, Any] = {
        "models": np.array([extreme.model for extreme in extremes], dtype=np.str_),
        "probes": np.array([extreme.probe for extreme in extremes], dtype=np.int64),
        "cr": np.array([extreme.cr for extreme in extremes], dtype=np.float64),
        "captions": np.array([extreme.caption for extreme in extremes], dtype=np.str_),
        "points": np.array([extreme.point for extreme in extremes], dtype=np.int64).reshape(-1, 2),
    }
    for index, extreme in enumerate(extremes):
        arrays |= {f"images_{index}": extreme.images, f"maps_{index}": extreme.maps}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_extremes(path: Path) -> list[Extreme]:
    """Read what `write_extremes` wrote; none where there is no file.

    Raises:
        DataError: the file is not whole.
    """
    if not path.exists():
        return []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [_read(arrays, place) for place in range(_count(arrays))]
    except (
        OSError,
        KeyError,
        ValueError,
        EOFError,
        IndexError,
        TypeError,
        NotImplementedError,
        BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); measure again.") from error


def _read(arrays: Any, place: int) -> Extreme:
    images, maps = arrays[f"images_{place}"], arrays[f"maps_{place}"]
    x, y = (int(side) for side in arrays["points"][place])
    rate = float(arrays["cr"][place])
    pictures = images.ndim == 4 and images.shape[0] == 2 and images.shape[-1] == 3 and images.dtype == np.uint8
    if not pictures or maps.shape != (2, MAP_PX, MAP_PX) or maps.dtype != np.float32 or not rate > 0:
        raise ValueError(f"probe {place} is not whole")
    if not (0 <= x < images.shape[2] and 0 <= y < images.shape[1]):
        raise ValueError(f"the point of probe {place} lies outside it")
    number = int(arrays["probes"][place])
    name, caption = str(arrays["models"][place]), str(arrays["captions"][place])
    return Extreme(name, number, rate, caption, images, maps, (x, y))


def _count(arrays: Any) -> int:
    """Return how many probes an archive holds; its columns must agree."""
    count = len(arrays["probes"])
    kinds = {"probes": ("i", (count,)), "cr": ("f", (count,)), "points": ("i", (count, 2))}
    kinds |= {"models": ("U", (count,)), "captions": ("U", (count,))}
    for name, (kind, shape) in kinds.items():
        if arrays[name].dtype.kind != kind or arrays[name].shape != shape:
            raise ValueError(f"its {name} are of another kind")
    return count
