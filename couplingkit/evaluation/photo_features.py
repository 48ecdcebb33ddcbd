"""Photos and a backbone in, features with their place on the photo out, in batches and once per photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ahead import ahead
from ..data.photos import resize_photo
from ..errors import ArgumentError, MeasurementError
from ..features.layered import LayeredBackbone
from ..features.passes import BatchSize, check_batch_size
from ..metrics.affinity import affinity_at_points, upsample
from ..pixels import Frame, place_photo

__all__ = ["CellMap", "Fit", "PhotoFeatures", "read_photos"]

Fit = Literal["stretch", "pad"]


@dataclass(frozen=True)
class CellMap:
    """One number per cell of a feature map, and where the cells lie on the photo.

    Attributes:
        cells: float64 (h, w).
        frame: where the photo lies in the network's input.
        stride_px: px of the input per cell.
    """

    cells: NDArray[np.float64]
    frame: Frame
    stride_px: int

    def pixels(self, size: tuple[int, int] | None = None, *, how: str = "bicubic") -> NDArray[np.float64]:
        """Return the map over the photo, (H, W): `size` px, or the photo's own; see `upsample`."""
        maps = torch.from_numpy(self.cells)[None]
        return upsample(maps, frame=self.frame, stride_px=self.stride_px, size=size, how=how)[0].numpy()


@dataclass(frozen=True)
class PhotoFeatures:
    """What one layer of a network says of one photo.

    Attributes:
        cells: float32 (D, h, w), on the CPU.
        frame: where the photo lies in the network's input.
        stride_px: px of the input per cell.
    """

    cells: Tensor
    frame: Frame
    stride_px: int

    def affinity(self, points: Sequence[tuple[float, float]]) -> list[CellMap]:
        """Return the affinity map of each point (x, y) of the photo; see `affinity_at_points`."""
        where = torch.tensor(points, dtype=torch.float64)
        maps = affinity_at_points(self.cells, where, frame=self.frame, stride_px=self.stride_px)
        return [CellMap(of_point, self.frame, self.stride_px) for of_point in maps.numpy()]


def _batches(
    photos: Iterable[NDArray[np.uint8]], count: int, backbone: LayeredBackbone, fit: str
) -> Iterator[tuple[list[Frame], Tensor]]:
    """Yield where photos lie in the network's input, and the inputs: float32 (n, 3, H, W)."""
    waiting = iter(photos)
    while batch := list(islice(waiting, count)):
        frames = [Frame.fitted((len(photo), photo.shape[1]), backbone.size_px, fit=fit) for photo in batch]
        inputs = [
            place_photo(torch.from_numpy(resize_photo(photo, (frame.height, frame.width))), frame, backbone.mean)
            for photo, frame in zip(batch, frames, strict=True)
        ]
        yield frames, torch.stack(inputs)


def read_photos(
    backbone: LayeredBackbone, photos: Iterable[NDArray[np.uint8]], *, fit: str = "stretch", batch_size: BatchSize = 32
) -> Iterator[tuple[PhotoFeatures, ...]]:
    """Yield the features of each photo, one per layer of the backbone; each photo is shown once.

    Args:
        backbone: the network and its layers.
        photos: uint8 (H, W, 3) each, of any sizes; asked for by a thread of their own, a batch before they are needed.
        fit: how a photo becomes an input of the backbone's size: `stretch` fills it, `pad` keeps the photo's aspect and
            leaves the colour around it that the backbone's normalisation sends to 0.
        batch_size: photos per forward pass; changes speed and memory only.

    Raises:
        MeasurementError: features are not finite.
    """
    check_batch_size(batch_size)
    if fit not in get_args(Fit):
        raise ArgumentError(f"fit must be one of {', '.join(get_args(Fit))}, not {fit!r}.")
    count = backbone.images_per_pass(batch_size)
    # The next photos are decoded and resized while the network reads these.
    for frames, inputs in ahead(_batches(photos, count, backbone, fit)):
        maps = [features.cpu() for features in backbone(inputs.to(backbone.device))]
        for layer, features in zip(backbone.layers, maps, strict=True):
            if not features.isfinite().all():
                raise MeasurementError(
                    f"{layer.name} gives features that are not finite; try `precision=float32`, or check the weights."
                )
        for row, frame in enumerate(frames):
            yield tuple(
                PhotoFeatures(features[row], frame, layer.stride_px)
                for layer, features in zip(backbone.layers, maps, strict=True)
            )
