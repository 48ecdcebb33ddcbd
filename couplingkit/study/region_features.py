"""A batch of probes through a backbone: the features of its regions, and the checks that they can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import MeasurementError
from ..features.backbone import LayeredBackbone
from ..features.regions import masked_mean, region_weights
from ..probes.spec import ProbeSpec
from ..probes.triplet import Probe

__all__ = [
    "OUTLIER",
    "HeldMaps",
    "RegionFeatures",
    "check_finite",
    "grid_of",
    "outlier_share",
    "probe_weights",
    "read_batch",
]

# A cell counts as an outlier above this many times the median norm of its region.
OUTLIER = 4.0
ROLES = ("alone", "together", "partner", "control")


@dataclass(frozen=True)
class RegionFeatures:
    """Region features of a batch, on the CPU.

    Attributes:
        alone: z_A1 (n, D) float32.
        together: z_A2 (n, D).
        control: z_A3 (n, D); None without a control.
        partner: z_B (n, D).
        cells_a: size of A's region, in cells (n,).
        cells_b: of B's.
        outliers: share of A's region in cells whose norm is above `OUTLIER` times the region's median, (n,).
        distance_px: between the nearest pixels of A and B, (n,) float64.
        position: 1 - mean cosine of A's feature with itself at other places, (n,) float64; None unless asked for.
    """

    alone: Tensor
    together: Tensor
    control: Tensor | None
    partner: Tensor
    cells_a: Tensor
    cells_b: Tensor
    outliers: Tensor
    distance_px: Tensor
    position: Tensor | None = None

    def readable(self, min_cells: float) -> Tensor:
        """Return which probes can be measured, bool (n,): both regions keep at least `min_cells`."""
        # A region of 0 cells has no mean, even where the limit is 0.
        return (self.cells_a >= min_cells) & (self.cells_b >= min_cells) & (self.cells_a * self.cells_b > 0)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (what an image shows, its region features)."""
        yield from (("A alone", self.alone), ("A beside B", self.together), ("B alone", self.partner))
        if self.control is not None:
            yield "A beside C", self.control


class HeldMaps:
    """The feature maps of a batch's images, each run once however many variants of the probes show it.

    Args:
        backbone: the network.
        specs: looks of all variants; what an image depends on tells which of them share it.
    """

    def __init__(self, backbone: LayeredBackbone, specs: Sequence[ProbeSpec]):
        self._backbone = backbone
        self._uses = Counter(spec.pictured(role) for spec in specs for role in ROLES)
        self._held: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}

    def read(self, spec: ProbeSpec, role: str, images: Tensor) -> tuple[Tensor, ...]:
        """Return one map per layer; kept only as long as a variant to come needs it."""
        key = spec.pictured(role)
        maps = self._held.pop(key) if key in self._held else self._backbone(images)
        self._uses[key] -= 1
        if self._uses[key]:
            self._held[key] = maps
        return maps


def read_batch(
    backbone: LayeredBackbone, probe: Probe, spec: ProbeSpec, held: HeldMaps | None = None
) -> list[RegionFeatures]:
    """Run the images of a batch through the network, each once, and pool A's and B's regions at every layer.

    Args:
        backbone: the network.
        probe: the batch.
        spec: its look.
        held: the maps of the batch's other variants; none of them are shared by default.
    """
    maps = held or HeldMaps(backbone, [spec])
    of_a = maps.read(spec, "alone", probe.alone)
    layers = zip(backbone.layers, of_a, strict=True)
    weights = [probe_weights(probe, layer.stride_px, grid=grid_of(features)) for layer, features in layers]
    alone = [masked_mean(features, pair[0]).cpu() for features, pair in zip(of_a, weights, strict=True)]
    outliers = [outlier_share(features, pair[0]).cpu() for features, pair in zip(of_a, weights, strict=True)]
    del of_a

    def pooled(role: str, images: Tensor, region: int) -> list[Tensor]:
        read = maps.read(spec, role, images)
        return [masked_mean(features, pair[region]).cpu() for features, pair in zip(read, weights, strict=True)]

    together, partner = pooled("together", probe.together, 0), pooled("partner", probe.partner, 1)
    control = None if probe.control is None else pooled("control", probe.control, 0)
    return [
        RegionFeatures(
            alone=alone[layer],
            together=together[layer],
            control=None if control is None else control[layer],
            partner=partner[layer],
            cells_a=weights_a.sum(dim=(-2, -1)).cpu(),
            cells_b=weights_b.sum(dim=(-2, -1)).cpu(),
            outliers=outliers[layer],
            distance_px=probe.distance_px,
        )
        for layer, (weights_a, weights_b) in enumerate(weights)
    ]


def outlier_share(features: Tensor, weights: Tensor) -> Tensor:
    """Return which share of a region lies in cells of far larger norm than the rest of it.

    The mean of a region is not robust to them; ViTs without register tokens are known to have a few.

    Args:
        features: float32 (B, D, h, w).
        weights: float32 (B, h, w), the region.

    Returns:
        float32 (B,) in [0, 1]; 0 for an empty region.
    """
    norms = features.norm(dim=1).flatten(1)
    shares = weights.flatten(1)
    median = norms.masked_fill(shares == 0, torch.nan).nanmedian(dim=1, keepdim=True).values
    total = shares.sum(dim=1)
    return torch.where(total > 0, (shares * (norms > OUTLIER * median)).sum(dim=1) / total.clamp(min=1e-9), 0.0)


def grid_of(features: Tensor) -> tuple[int, int]:
    """Return (h, w) of a map (B, D, h, w)."""
    return features.shape[-2], features.shape[-1]


def probe_weights(probe: Probe, stride_px: int, *, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Return the regions of A and of B that are read: the shares of the cells, two of float32 (B, h, w).

    B's and C's cells see them directly; leaving both out gives z_A1, z_A2 and z_A3 the same cells.

    Args:
        probe: a batch.
        stride_px: px per cell.
        grid: (h, w), where a map has more or less cells than whole ones fit.
    """
    beside_a = probe.mask_b if probe.mask_c is None else probe.mask_b | probe.mask_c
    return (
        region_weights(probe.mask_a, beside_a, stride_px=stride_px, grid=grid),
        region_weights(probe.mask_b, probe.mask_a, stride_px=stride_px, grid=grid),
    )


def check_finite(name: str, regions: RegionFeatures, numbers: range, min_cells: float) -> None:
    """Raise `MeasurementError` if a map that was read holds a NaN or an infinite value."""
    readable = regions.readable(min_cells)
    for shown, vectors in regions.named():
        # Cells of weight 0 take part in the sum, so one NaN anywhere in a map shows here.
        broken = readable & ~torch.isfinite(vectors).all(dim=1)
        if broken.any():
            raise MeasurementError(
                f"{name} gives NaN or infinite features for probe {numbers[int(broken.nonzero()[0])]} ({shown}); "
                "check its weights, or measure with `precision=float32`."
            )
