"""A backbone and its first batch in, what the instrument's controls found out; what cannot be trusted is an error.

One look at a network does not show what it does later or in other company: so the batch is read again as it is, in
another order and size of batch, and at the end of the run. And a map that is transposed, flipped or shifted gives
numbers that look right: so objects are moved over an empty canvas, and the map has to follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CouplingKitError, MeasurementError
from ..features.backbone import RUN_ERRORS, LayeredBackbone
from ..features.regions import masked_mean, region_weights
from ..metrics.angles import angle_between
from ..metrics.summary import RESOLUTION_RAD
from ..pixels import full_canvas
from ..probes.moving import move_objects, moves_within
from ..probes.triplet import Probe
from .region_features import RegionFeatures, grid_of, probe_weights

Array = NDArray[Any]

__all__ = ["ControlRecord", "FirstBatch", "check_again", "check_maps", "check_order", "joined"]

# How far angles may be moved by the company that an image has in its batch, rad.
OTHER_BATCH_RAD = {"float32": RESOLUTION_RAD, "bfloat16": 0.05}
MOVED = 8
# A convolutional network's cell has its centre up to half a cell beside what it stands for; a cell beside it may
# explain its response as well, but not better than by this much (correlation).
BESIDE = 0.1


@dataclass(frozen=True)
class ControlRecord:
    """What the controls found.

    Attributes:
        probes: that were read again; with B left out, the rate was exactly 1 on each, at the beginning and at the end.
        other_batch_rad: by how much another order and size of batch moved an angle at most.
        follows: correlation of the response to moved objects with the response moved likewise, least of the layers;
            NaN where no object has room to move.
        aligned: correlation of the response with the objects' cells, least of the layers.
    """

    probes: int
    other_batch_rad: float
    follows: float
    aligned: float


@dataclass(frozen=True)
class FirstBatch:
    """What the first batch of a run gave, to be held against what it gives later.

    Attributes:
        numbers: of its probes.
        variant: which look of the probes.
        regions: per layer.
    """

    numbers: range
    variant: int
    regions: list[RegionFeatures]


def joined(records: list[ControlRecord]) -> ControlRecord:
    """Return what the controls of several processes found, the worst of each."""
    return ControlRecord(
        probes=min(record.probes for record in records),
        other_batch_rad=max(record.other_batch_rad for record in records),
        follows=min(record.follows for record in records),
        aligned=min(record.aligned for record in records),
    )


def check_again(
    backbone: LayeredBackbone, again: Probe, first: FirstBatch, *, min_cells: float, when: str = "with B left out"
) -> None:
    """Raise `MeasurementError` unless A alone gives what it gave before, bit for bit, at every layer.

    Then the coupling rate with B left out of `I_A2` is exactly 1.

    Args:
        backbone: the network.
        again: the batch rendered anew; of it, A alone is shown.
        first: what the batch gave.
        min_cells: as in `MeasureSettings`.
        when: begins the sentence.
    """
    for layer, features, regions in zip(backbone.layers, backbone(again.alone), first.regions, strict=True):
        repeated = _pooled(features, again, layer.stride_px)
        same = (repeated == regions.alone).all(dim=1) | ~regions.readable(min_cells)
        if not same.all():
            at = int((~same).nonzero()[0])
            turned = float(angle_between(regions.alone[at], repeated[at]))
            raise MeasurementError(
                f"zero control of {layer.name} failed: {when} the feature of A in probe {first.numbers[at]} is "
                f"another one than before ({turned:.3g} rad away), so that the rate is not exactly 1; the network "
                "gives different features for the same image (is dropout on, or a kernel not deterministic?), and "
                "none of its rates can be trusted."
            )


def check_order(
    backbone: LayeredBackbone, again: Probe, first: FirstBatch, *, min_cells: float, precision: str
) -> float:
    """Raise `MeasurementError` unless angles stay in another order and size of batch; return by how much they move.

    Args:
        backbone: the network.
        again: the batch rendered anew.
        first: what it gave.
        min_cells: as in `MeasureSettings`.
        precision: of the forward passes: float32 or bfloat16.
    """
    count = len(again.alone)
    order = torch.arange(count - 1, -1, -1)
    if count == 1:
        order = torch.tensor([0, 0])
    size = max(count // 2 + 1, 1) if count > 1 else 2
    chunks = torch.split(order.to(again.alone.device), size)  # type: ignore[no-untyped-call]
    parts = [backbone(again.alone[chosen]) for chosen in chunks]
    farthest = 0.0
    for index, (layer, regions) in enumerate(zip(backbone.layers, first.regions, strict=True)):
        features = torch.cat([part[index] for part in parts])[-count:].flip(0)
        repeated = _pooled(features, again, layer.stride_px)
        readable = regions.readable(min_cells)
        before, after = (angle_between(vectors, regions.partner) for vectors in (regions.alone, repeated))
        moved = torch.where(readable, (before - after).abs(), 0.0).nan_to_num(0.0)
        limit = OTHER_BATCH_RAD.get(precision, RESOLUTION_RAD)
        if float(moved.max()) > limit:
            at = int(moved.argmax())
            raise MeasurementError(
                f"zero control of {layer.name} failed: in another order and size of batch the angle of A and B in "
                f"probe {first.numbers[at]} is {float(moved.max()):.3g} rad another one (up to {limit:g} is rounding); "
                "an image's features depend on the other images of its batch (batch norm by the batch's own "
                "statistics, or the batch's mean subtracted?), and none of its rates can be trusted."
            )
        farthest = max(farthest, float(moved.max()))
    return farthest


def _pooled(features: Tensor, probe: Probe, stride_px: int) -> Tensor:
    return masked_mean(features, probe_weights(probe, stride_px, grid=grid_of(features))[0]).cpu()  # (n, D)


def check_maps(backbone: LayeredBackbone, probe: Probe) -> tuple[float, float]:
    """Raise `MeasurementError` unless every layer's map is of the picture: not constant, and where the objects are.

    Args:
        backbone: the network.
        probe: a batch; its A are moved over an empty canvas.

    Returns:
        `follows` and `aligned` of `ControlRecord`.
    """
    count = min(MOVED, len(probe.mask_a))
    images, masks = probe.alone[:count], probe.mask_a[:count]
    size = (images.shape[-2], images.shape[-1])
    empty = full_canvas(backbone.mean, 1, size, images.device)
    follows, aligned = [], []
    by_stride: dict[int, tuple[list[tuple[int, int]], tuple[Tensor, ...], Tensor]] = {}
    for index, layer in enumerate(backbone.layers):
        stride = layer.stride_px
        if stride not in by_stride:
            moves = [_far_move(mask, stride, row % 2) for row, mask in enumerate(masks)]
            still, where = move_objects(images, masks, [(0, 0)] * count, colour=backbone.mean)
            moved, where_moved = move_objects(images, masks, moves, colour=backbone.mean)
            by_stride[stride] = moves, backbone(torch.cat([empty, still, moved])), torch.cat([where, where_moved])
        moves, maps, shown = by_stride[stride]
        features = maps[index].to(torch.float32)
        _check_varies(layer.name, features)
        response = (features[1:] - features[:1]).norm(dim=1).cpu().numpy()  # (2 n, h, w)
        weights = region_weights(shown, torch.zeros_like(shown), stride_px=stride, grid=grid_of(features)).cpu().numpy()
        follows.append(_check_follows(layer.name, response, [(y // stride, x // stride) for y, x in moves]))
        aligned.append(_check_aligned(layer.name, response, weights))
    _check_size_follows(backbone, size, maps)
    return float(np.nanmin(follows)) if not np.isnan(follows).all() else float("nan"), min(aligned)


def _far_move(mask: Tensor, stride: int, axis: int) -> tuple[int, int]:
    """Return the farthest move of an object down or up (axis 0), or sideways, in whole strides."""
    limits = moves_within(mask, stride)
    farthest = [max(pair, key=abs) for pair in limits]
    # Where there is no room on this axis, there may be on the other one.
    chosen = axis if farthest[axis] else 1 - axis
    return (farthest[0], 0) if chosen == 0 else (0, farthest[1])


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
    shown = features[1:]
    within = shown.flatten(2)
    if bool((within.amax(dim=2) - within.amin(dim=2)).amax() <= 1e-6 * largest):
        raise MeasurementError(
            f"{name} gives the same vector in every cell of its map, which is no dense map: there is no region to "
            "read; choose another `layer`."
        )


def _check_size_follows(backbone: LayeredBackbone, size: tuple[int, int], maps: tuple[Tensor, ...]) -> None:
    """Hold the map at a larger input against the one at the network's own; what takes one size only is not asked."""
    grown = tuple(side + 2 * max(layer.stride_px for layer in backbone.layers) for side in size)
    try:
        larger = backbone(full_canvas(backbone.mean, 1, (grown[0], grown[1]), backbone.device))
    except (CouplingKitError, *RUN_ERRORS):
        return
    for layer, before, after in zip(backbone.layers, maps, larger, strict=True):
        if grid_of(before) == grid_of(after):
            raise MeasurementError(
                f"{layer.name} gives {before.shape[-2]} x {before.shape[-1]} cells for images of {size[0]} x {size[1]} "
                f"and of {grown[0]} x {grown[1]} px alike: its map does not follow its input (is it resized, or pooled "
                "to a fixed size?), so that its cells have no place in the image."
            )


def _check_follows(name: str, response: Array, moves: list[tuple[int, int]]) -> float:
    """Return the correlation of responses before and after moves, in cells; it must be that of the move as it was."""
    count = len(moves)
    before, after = response[:count], response[count:]
    able = [row for row, move in enumerate(moves) if move != (0, 0)]
    if not able:
        return float("nan")
    ways = {
        way: [_overlap_correlation(before[row], after[row], _told(way, moves[row])) for row in able]
        for way in ("moved", "unmoved", "flipped", "transposed", "turned")
    }
    found = {way: float(np.mean(correlations)) for way, correlations in ways.items()}
    best = max(found, key=lambda way: found[way])
    if best != "moved":
        raise MeasurementError(
            f"alignment control of {name} failed: when objects move over an empty canvas, its map answers as if it "
            f"were {best} (correlation {found[best]:.2f}, and {found['moved']:.2f} with the map moved as they were); "
            "its cells are not where they are taken to be."
        )
    return found["moved"]


def _told(way: str, move: tuple[int, int]) -> tuple[int, int]:
    """Return how a map that is read in some way moves when the object moves down and to the right."""
    down, right = move
    return {
        "moved": (down, right),
        "unmoved": (0, 0),
        "flipped": (-down, -right),
        "transposed": (right, down),
        "turned": (-right, -down),
    }[way]


def _overlap_correlation(before: Array, after: Array, move: tuple[int, int]) -> float:
    """Return the correlation of `after` with `before` moved by whole cells, where the two overlap; 0 without any."""
    rows, columns = before.shape
    down, right = move
    if abs(down) >= rows or abs(right) >= columns:
        return 0.0
    of_before = before[max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)]
    of_after = after[max(down, 0) : rows - max(-down, 0), max(right, 0) : columns - max(-right, 0)]
    return _correlation(of_before, of_after)


def _correlation(first: Array, second: Array) -> float:
    one, other = (part.astype(np.float64) - part.mean() for part in (first, second))
    length = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / length) if length > 0 else 0.0


def _check_aligned(name: str, response: Array, weights: Array) -> float:
    """Return the correlation of responses with the cells that objects cover; no other place may explain them better."""
    square = response.shape[1] == response.shape[2]
    wrong = {
        "flipped left to right": weights[:, :, ::-1],
        "flipped upside down": weights[:, ::-1],
        "turned by 180 degrees": weights[:, ::-1, ::-1],
    }
    if square:
        wrong |= {
            "transposed": weights.transpose(0, 2, 1),
            "turned by 90 degrees": weights.transpose(0, 2, 1)[:, ::-1],
            "turned by 270 degrees": weights.transpose(0, 2, 1)[:, :, ::-1],
        }
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if (down, right) != (0, 0):
                wrong[f"shifted by {down} cells down and {right} to the right"] = _shifted(weights, down, right)

    def score(expected: Array) -> float:
        return float(np.mean([_correlation(own, where) for own, where in zip(response, expected, strict=True)]))

    right_one = score(weights)
    for what, expected in wrong.items():
        found = score(expected)
        if found > right_one + (BESIDE if what.startswith("shifted") else 0.0):
            raise MeasurementError(
                f"alignment control of {name} failed: its map answers to objects as if it were {what} (correlation "
                f"{found:.2f} with their cells, and {right_one:.2f} where they are); its cells are not where they are "
                "taken to be."
            )
    return right_one


def _shifted(weights: Array, down: int, right: int) -> Array:
    moved = np.zeros_like(weights)
    rows, columns = weights.shape[1:]
    moved[:, max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = weights[
        :, max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)
    ]
    return moved
