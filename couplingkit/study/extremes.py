"""A measurement and its network in, the probes of the highest and lowest rates out, with their affinity maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from ..features.backbone import LayeredBackbone
from ..probes.probeset import ProbeSet
from .affinity import probe_maps, probe_query
from .record import Measurement

__all__ = ["EXTREMES", "Extreme", "find_extremes", "pack_extremes", "read_extremes"]

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
    probe = probes[number]
    a, b, *_ = probes.categories(number)
    pictures = [
        (image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8) for image in (probe.alone, probe.together)
    ]
    shown = [one.pixels((MAP_PX, MAP_PX)) for one in (maps.alone, maps.together)]
    cells = np.stack(shown).astype(np.float32)
    rate = float(measurement.cr[number])
    return Extreme(
        measurement.name, number, rate, f"{a} beside {b}", np.stack(pictures), cells, probe_query(probes, number)
    )


def pack_extremes(extremes: Sequence[Extreme]) -> bytes:
    """Return them as the bytes of a compressed NumPy archive."""
    stream = io.BytesIO()
    arrays: dict[str, Any] = {
        "models": np.array([one.model for one in extremes]),
        "probes": np.array([one.probe for one in extremes], dtype=np.int64),
        "cr": np.array([one.cr for one in extremes]),
        "captions": np.array([one.caption for one in extremes]),
        "points": np.array([one.point for one in extremes], dtype=np.int64).reshape(-1, 2),
    }
    for place, one in enumerate(extremes):
        arrays |= {f"images_{place}": one.images, f"maps_{place}": one.maps}
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def read_extremes(path: Path) -> list[Extreme]:
    """Read what `pack_extremes` gave; none where there is no file.

    Raises:
        DataError: the file is not whole.
    """
    if not path.exists():
        return []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [
                Extreme(
                    str(arrays["models"][place]),
                    int(arrays["probes"][place]),
                    float(arrays["cr"][place]),
                    str(arrays["captions"][place]),
                    arrays[f"images_{place}"],
                    arrays[f"maps_{place}"],
                    (int(arrays["points"][place, 0]), int(arrays["points"][place, 1])),
                )
                for place in range(len(arrays["models"]))
            ]
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); measure again.") from error
