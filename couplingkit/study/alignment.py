"""A backbone and some objects in, whether its map is where the picture is out: not turned, not shifted, no constant.

A map that is transposed, flipped or shifted gives numbers that look right. So objects are moved over an empty canvas,
and the length of each cell's answer (its feature minus that of the empty canvas) is held against the share of the cell
that the object covers. From both, the mean of each cell over all pictures and the mean of each picture over all cells
are taken away: what a network does at a place whatever stands there, and what it does to the whole picture, say nothing
of where its cells are. A network whose answer is hardly local (some with random weights) is not refused for that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CouplingKitError, MeasurementError
from ..features.backbone import RUN_ERRORS
from ..features.layered import LayeredBackbone
from ..features.regions import region_weights
from ..pixels import full_canvas
from ..probes.moving import move_objects, moves_within
from ..probes.triplet import Probe
from ..streams import Stream
from .region_features import grid_of

__all__ = ["LOCAL", "OBJECTS", "PLACES", "check_maps"]

Array = NDArray[Any]
OBJECTS, PLACES = 4, 8
# Correlations: from where on an answer is local at all; by how much another orientation has to explain it better; from
# where on it is sharp enough to tell a shift.
LOCAL, CLEARER, SHARP = 0.3, 0.1, 0.6
# Convolutions of stride 2 that are padded alike on both sides answer half a cell beside; a whole cell is a mistake if
# it explains the answer better than chance does (the map of an untrained ResNet of 8 x 8 cells is no sharper in place).
SHIFTED_CELLS, CLEARER_SHIFT, PLAIN_SHIFT = 0.8, 0.05, 0.8
OFFSETS = np.arange(-2, 2.01, 0.5)


def check_maps(backbone: LayeredBackbone, probe: Probe, *, batch_size: int) -> tuple[float, float]:
    """Raise `MeasurementError` unless every layer's map is of the picture: not constant, not turned, not shifted.

    Args:
        backbone: the network.
        probe: at most `OBJECTS` probes; their A are moved to `PLACES` places each.
        batch_size: images per forward pass.

    Returns:
        `aligned` and `offset_cells` of `ControlRecord`.
    """
    count = min(OBJECTS, len(probe.mask_a))
    size = (probe.alone.shape[-2], probe.alone.shape[-1])
    shown, masks = _moved(probe.alone[:count], probe.mask_a[:count], backbone.empty)
    images = torch.cat([full_canvas(backbone.empty, 1, size, shown.device), shown])  # the empty canvas first
    parts = [backbone(part) for part in torch.split(images, batch_size)]  # type: ignore[no-untyped-call]
    maps = [torch.cat([part[index] for part in parts]).to(torch.float32) for index in range(len(backbone.layers))]
    aligned, offsets = [], [0.0]
    for layer, features in zip(backbone.layers, maps, strict=True):
        _check_varies(layer.name, features)
        answer = (features[1:] - features[:1]).norm(dim=1).cpu().numpy()  # (pictures, h, w)
        right = _covered(masks, layer.stride_px, grid_of(features))
        aligned.append(_check_orientation(layer.name, answer, right))
        offset, sharpness = _best_offset(answer, masks, layer.stride_px)
        # On fine grids a cell changes little, but then an answer is sharp.
        told = sharpness >= (SHARP if sharpness > aligned[-1] + CLEARER_SHIFT else PLAIN_SHIFT)
        if told:
            offsets.append(max(map(abs, offset)))
        if told and max(map(abs, offset)) >= SHIFTED_CELLS:
            raise MeasurementError(
                f"alignment control of {layer.name} failed: its map answers to objects as if it were shifted by "
                f"{offset[0]:g} cells down and {offset[1]:g} to the right (correlation {sharpness:.2f}, and "
                f"{aligned[-1]:.2f} where they are); its cells are not where they are taken to be."
            )
    _check_size_follows(backbone, size, maps)
    return min(aligned), max(offsets)


def _moved(images: Tensor, masks: Tensor, colour: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Return each object at `PLACES` places drawn over the whole canvas, and its masks there."""
    every_image, every_mask = images.repeat_interleave(PLACES, dim=0), masks.repeat_interleave(PLACES, dim=0)
    moves = []
    for number, own in enumerate(moves_within(every_mask, 1)):
        stream = Stream(0).child("alignment", number)
        limits = zip(("down", "right"), own, strict=True)
        down, right = (least + stream.child(name).below(most - least + 1) for name, (least, most) in limits)
        moves.append((down, right))
    return move_objects(every_image, every_mask, moves, colour=colour)


def _covered(masks: Tensor, stride: int, grid: tuple[int, int], down: float = 0.0, right: float = 0.0) -> Array:
    """Return the shares of cells that objects cover, (pictures, h, w), with the objects moved by so many cells."""
    moved, (rows, columns) = torch.zeros_like(masks), masks.shape[1:]
    y, x = round(down * stride), round(right * stride)
    moved[:, max(y, 0) : rows + min(y, 0), max(x, 0) : columns + min(x, 0)] = masks[
        :, max(-y, 0) : rows - max(y, 0), max(-x, 0) : columns - max(x, 0)
    ]
    shares: Array = region_weights(moved, torch.zeros_like(moved), stride_px=stride, grid=grid).cpu().numpy()
    return shares


def _correlation(first: Array, second: Array) -> float:
    """Return the correlation of two sets of maps (pictures, h, w), the means of cells and of pictures taken away."""
    one, other = (_centred(part.astype(np.float64)) for part in (first, second))
    length = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / length) if length > 0 else 0.0


def _centred(maps: Array) -> Array:
    of_cells = maps - maps.mean(axis=0, keepdims=True)
    centred: Array = of_cells - of_cells.mean(axis=(1, 2), keepdims=True)
    return centred


def _check_orientation(name: str, answer: Array, right: Array) -> float:
    """Return the correlation of answers with the cells of objects; no other orientation may explain them better."""
    wrong = {
        "flipped left to right": right[:, :, ::-1],
        "flipped upside down": right[:, ::-1],
        "turned by 180 degrees": right[:, ::-1, ::-1],
    }
    if right.shape[1] == right.shape[2]:
        turned = right.transpose(0, 2, 1)
        wrong |= {
            "transposed": turned,
            "turned by 90 degrees": turned[:, ::-1],
            "turned by 270 degrees": turned[:, :, ::-1],
            "transposed across the other diagonal": turned[:, ::-1, ::-1],
        }
    found = _correlation(answer, right)
    for what, cells in wrong.items():
        other = _correlation(answer, cells)
        if other >= LOCAL and other > found + CLEARER:
            raise MeasurementError(
                f"alignment control of {name} failed: its map answers to objects as if it were {what} (correlation "
                f"{other:.2f} with their cells, and {found:.2f} where they are); its cells are not where they are "
                "taken to be."
            )
    return found


def _best_offset(answer: Array, masks: Tensor, stride: int) -> tuple[tuple[float, float], float]:
    """Return how many cells down and to the right of the objects a map answers best, and the correlation there."""
    grid = (answer.shape[1], answer.shape[2])

    def score(down: float, right: float) -> float:
        return _correlation(answer, _covered(masks, stride, grid, down, right))

    down = right = 0.0
    for _ in range(2):  # along one axis, along the other, and once more
        right = max(OFFSETS, key=lambda offset: score(down, float(offset)))
        down = max(OFFSETS, key=lambda offset: score(float(offset), right))
    return (float(down), float(right)), score(float(down), float(right))


def _check_varies(name: str, features: Tensor) -> None:
    if not torch.isfinite(features).all():
        return  # said of the probes themselves, with the one that shows it
    largest = features.abs().amax()
    if largest == 0:
        raise MeasurementError(f"{name} gives a map of zeros whatever it is shown; check its weights and its layer.")
    if bool((features - features[:1]).abs().amax() <= 1e-7 * largest):
        raise MeasurementError(
            f"{name} gives the same map whatever it is shown, an object here, there or none; check its weights."
        )
    within = features[1:].flatten(2)
    if bool((within.amax(dim=2) - within.amin(dim=2)).amax() <= 1e-6 * largest):
        raise MeasurementError(
            f"{name} gives the same vector in every cell of its map, which is no dense map: there is no region to "
            "read; choose another `layer`."
        )


def _check_size_follows(backbone: LayeredBackbone, size: tuple[int, int], maps: list[Tensor]) -> None:
    """Hold the map at a larger input against the one at the network's own; what takes one size only is not asked."""
    grown = tuple(side + 2 * max(layer.stride_px for layer in backbone.layers) for side in size)
    try:
        larger = backbone(full_canvas(backbone.empty, 1, (grown[0], grown[1]), backbone.device))
    except (CouplingKitError, *RUN_ERRORS):
        return
    for layer, before, after in zip(backbone.layers, maps, larger, strict=True):
        if grid_of(before) == grid_of(after):
            raise MeasurementError(
                f"{layer.name} gives {before.shape[-2]} x {before.shape[-1]} cells for images of {size[0]} x {size[1]} "
                f"and of {grown[0]} x {grown[1]} px alike: its map does not follow its input (is it resized, or pooled "
                "to a fixed size?), so that its cells have no place in the image."
            )
