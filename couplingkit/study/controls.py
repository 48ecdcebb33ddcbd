"""A backbone and its first batch in, what the instrument's controls found out; what cannot be trusted is an error.

One look at a network does not show what it does later or in other company: so the batch is read again as it is, in
other company, and at the end of the run. That maps are where the picture is, `study.alignment` looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MeasurementError
from ..features.layered import LayeredBackbone
from ..features.regions import masked_mean
from ..metrics.angles import angle_between
from ..metrics.summary import RESOLUTION_RAD
from ..probes.triplet import Probe
from .region_features import RegionFeatures, grid_of, probe_weights

__all__ = ["NOTHING_READ", "ControlRecord", "FirstBatch", "alone_again", "check_again", "check_company", "joined"]

# How far angles may be moved by the company that an image has in its batch, rad.
OTHER_BATCH_RAD = {"float32": RESOLUTION_RAD, "bfloat16": 0.05}
# Probes that are read again in it.
COMPANY = 8


@dataclass(frozen=True)
class ControlRecord:
    """What the controls found.

    Attributes:
        probes: that were read again; with B left out, the rate was exactly 1 on each, at the beginning and at the end.
        other_batch_rad: by how much other company in the batch moved an angle at most.
        aligned: correlation of the map's answer with the cells of moved objects, least of the layers; below
            `alignment.LOCAL` where a map is cannot be told.
        offset_cells: how far beside the objects the map answers best, cells, most of the layers whose answer is local.
    """

    probes: int
    other_batch_rad: float
    aligned: float
    offset_cells: float


# Of a network none of whose regions can be read.
NOTHING_READ = ControlRecord(0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class FirstBatch:
    """What the first batch of a run gave, to be held against what it gives later.

    Attributes:
        numbers: of its probes.
        variant: which look of the probes.
        regions: per layer.
        at_once: whether all of its images went in one forward pass.
        limit: images that a pass could have then, since memory had run out; None where it had not.
    """

    numbers: range
    variant: int
    regions: list[RegionFeatures]
    at_once: bool = False
    limit: int | None = None


def joined(records: list[ControlRecord]) -> ControlRecord:
    """Return what the controls of several processes found, the worst of each."""
    return ControlRecord(
        probes=min(record.probes for record in records),
        other_batch_rad=max(record.other_batch_rad for record in records),
        aligned=min(record.aligned for record in records),
        offset_cells=max(record.offset_cells for record in records),
    )


def alone_again(backbone: LayeredBackbone, again: Probe, *, at_once: bool) -> list[Tensor]:
    """Return the feature of A alone, (n, D) per layer on the CPU, in the same company as the first time.

    Args:
        backbone: the network.
        again: the batch rendered anew.
        at_once: whether all of its images go in one forward pass; else those of A alone.
    """
    count = len(again.alone)
    maps = backbone(again.images.flatten(0, 1) if at_once else again.alone)
    found = []
    for layer, features in zip(backbone.layers, maps, strict=True):
        weights = probe_weights(again, layer.stride_px, grid=grid_of(features))[0]
        found.append(masked_mean(features[:count], weights).cpu())
    return found


def check_again(
    backbone: LayeredBackbone,
    again: Sequence[Tensor],
    first: FirstBatch,
    *,
    min_cells: float,
    when: str = "with B left out",
) -> None:
    """Raise `MeasurementError` unless A alone gives what it gave before, bit for bit, at every layer.

    Then the coupling rate with B left out of `I_A2` is exactly 1. (Where memory ran out in between, passes are of
    another size than before, and rounding is let through.)

    Args:
        backbone: the network.
        again: the feature of A alone, (n, D) per layer, read anew (`alone_again`).
        first: what the batch gave.
        min_cells: as in `MeasureSettings`.
        when: begins the sentence.
    """
    for layer, repeated, regions in zip(backbone.layers, again, first.regions, strict=True):
        same = (repeated == regions.alone).all(dim=1) | ~regions.readable(min_cells)
        if backbone.passes is not None and backbone.passes.most != first.limit:
            same |= angle_between(regions.alone, repeated) <= _rounding(backbone)
        if not same.all():
            at = int((~same).nonzero()[0])
            turned = float(angle_between(regions.alone[at], repeated[at]))
            raise MeasurementError(
                f"zero control of {layer.name} failed: {when} the feature of A in probe {first.numbers[at]} is "
                f"another one than before ({turned:.3g} rad away), so that the rate is not exactly 1; the network "
                "gives different features for the same image (is dropout on, or a kernel not deterministic?), and "
                "none of its rates can be trusted."
            )


def check_company(backbone: LayeredBackbone, again: Probe, first: FirstBatch, *, min_cells: float) -> float:
    """Raise `MeasurementError` unless angles stay in other company; return by how much they move.

    A alone comes in another order, in a batch of another size, and among images that show B, or both.

    Args:
        backbone: the network.
        again: the batch rendered anew.
        first: what it gave.
        min_cells: as in `MeasureSettings`.
    """
    count = min(len(again.alone), COMPANY)
    images = (again.alone[:count].flip(0), again.partner[:count], again.together[:count])
    mixed = torch.cat(images)  # (3 n, 3, H, W)
    # Every third image, so that no batch is of A alone; in batches of another size than before.
    order = torch.arange(3 * count, device=mixed.device).view(3, count).T.flatten()
    size = count - 1 if count > 3 else 3
    parts = [backbone(mixed[chosen]) for chosen in torch.split(order, size)]  # type: ignore[no-untyped-call]
    limit, farthest = _rounding(backbone), 0.0
    for index, (layer, regions) in enumerate(zip(backbone.layers, first.regions, strict=True)):
        features = torch.cat([part[index] for part in parts])[::3].flip(0)  # of A alone, in the first order
        weights = probe_weights(again, layer.stride_px, grid=grid_of(features))[0][:count]
        repeated, partner = masked_mean(features, weights).cpu(), regions.partner[:count]  # (n, D)
        before, after = (angle_between(vectors, partner) for vectors in (regions.alone[:count], repeated))
        known = regions.readable(min_cells)[:count] & ~before.isnan()
        # What had a direction and has none now has moved as far as can be.
        moved = torch.where(known, (before - after).abs().nan_to_num(torch.pi), 0.0)
        if float(moved.max()) > limit:
            at = int(moved.argmax())
            raise MeasurementError(
                f"zero control of {layer.name} failed: in other company in its batch the angle of A and B in probe "
                f"{first.numbers[at]} is {float(moved.max()):.3g} rad another one (up to {limit:g} is rounding); "
                "an image's features depend on the other images of its batch (batch norm by the batch's own "
                "statistics, or the batch's mean subtracted?), and none of its rates can be trusted."
            )
        farthest = max(farthest, float(moved.max()))
    return farthest


def _rounding(backbone: LayeredBackbone) -> float:
    """Return how far rounding may move an angle in the precision of a network's forward passes, rad."""
    return OTHER_BATCH_RAD.get(getattr(backbone.layers[0], "precision", "float32"), RESOLUTION_RAD)
