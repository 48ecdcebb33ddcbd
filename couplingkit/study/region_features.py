"""A batch of probes through a backbone: the features of its regions, and the checks that they can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import MeasurementError
from ..features.layered import LayeredBackbone
from ..features.regions import cell_shares, masked_mean
from ..fetching import Fetching
from ..probes.shared_images import SharedImages
from ..probes.spec import ProbeSpec
from ..probes.triplet import ROLES, Probe

__all__ = [
    "OUTLIER",
    "Fetched",
    "HeldMaps",
    "RegionFeatures",
    "check_finite",
    "grid_of",
    "outlier_share",
    "probe_weights",
    "read_batch",
    "read_shared",
]

# A cell counts as an outlier above this many times the median norm of its region.
OUTLIER = 4.0


@dataclass(frozen=True)
class RegionFeatures:
    """Region features of a batch, on the device that read them until they are `Fetched`.

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

    def read(self) -> dict[str, Tensor]:
        """Return what a device gave, float32, by the names of attributes."""
        names = ("alone", "together", "control", "partner", "cells_a", "cells_b", "outliers")
        return {name: values for name in names if (values := getattr(self, name)) is not None}

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
        at_once: whether all images of a batch go in one forward pass, as a GPU likes it; else one role after another.
    """

    def __init__(self, backbone: LayeredBackbone, specs: Sequence[ProbeSpec], *, at_once: bool = False):
        self._backbone = backbone
        self._at_once = at_once
        self._uses = Counter(spec.pictured(role) for spec in specs for role in ROLES)
        self._held: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}

    def read(self, spec: ProbeSpec, images: Tensor) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
        """Yield role after role with one map per layer, kept only as long as a variant to come needs it.

        Args:
            spec: the look.
            images: (3 or 4, n, 3, H, W), in the order of `ROLES`.
        """
        roles = ROLES[: len(images)]
        if self._at_once:
            self._read_lacking(spec, images, roles)
        for index, role in enumerate(roles):
            key = spec.pictured(role)
            maps = self._held.pop(key) if key in self._held else self._backbone(images[index])
            self._uses[key] -= 1
            if self._uses[key]:
                self._held[key] = maps
            yield role, maps

    def _read_lacking(self, spec: ProbeSpec, images: Tensor, roles: Sequence[str]) -> None:
        lacking = [index for index, role in enumerate(roles) if spec.pictured(role) not in self._held]
        if not lacking:
            return
        shown = images if len(lacking) == len(images) else torch.stack([images[index] for index in lacking])
        maps = self._backbone(shown.flatten(0, 1))  # of each layer (lacking n, D, h, w)
        of_roles = zip(*(features.chunk(len(lacking)) for features in maps), strict=True)
        self._held |= {spec.pictured(roles[index]): of_role for index, of_role in zip(lacking, of_roles, strict=True)}


def read_batch(
    backbone: LayeredBackbone, probe: Probe, spec: ProbeSpec, held: HeldMaps | None = None
) -> list[RegionFeatures]:
    """Run the images of a batch through the network, each once, and pool A's and B's regions at every layer.

    Args:
        backbone: the network.
        probe: the batch.
        spec: its look.
        held: the maps of the batch's other variants; none of them are shared by default.

    Returns:
        What was read per layer, on the network's device: nothing is waited for (see `Fetched`).
    """
    vectors: list[dict[str, Tensor]] = [{} for _ in backbone.layers]
    weights: list[tuple[Tensor, Tensor]] = []
    outliers = []
    for role, maps in (held or HeldMaps(backbone, [spec])).read(spec, probe.images):
        if not weights:
            layers = zip(backbone.layers, maps, strict=True)
            weights = [probe_weights(probe, layer.stride_px, grid=grid_of(features)) for layer, features in layers]
            outliers = [outlier_share(features, own[0]) for features, own in zip(maps, weights, strict=True)]
        for found, features, (of_a, of_b) in zip(vectors, maps, weights, strict=True):
            found[role] = masked_mean(features, of_b if role == "partner" else of_a)
    return [
        RegionFeatures(
            alone=found["alone"],
            together=found["together"],
            control=found.get("control"),
            partner=found["partner"],
            cells_a=of_a.sum(dim=(-2, -1)),
            cells_b=of_b.sum(dim=(-2, -1)),
            outliers=share,
            distance_px=probe.distance_px,
        )
        for found, (of_a, of_b), share in zip(vectors, weights, outliers, strict=True)
    ]


def read_shared(backbone: LayeredBackbone, shared: SharedImages, *, most: int) -> list[RegionFeatures]:
    """Run the images that rows of rings share, each once, and pool the regions of each row; as `read_batch`.

    Args:
        backbone: the network.
        shared: the images.
        most: of them in a forward pass.
    """
    parts = [backbone(part) for part in torch.split(shared.images, most)]  # type: ignore[no-untyped-call]
    row = Probe(shared.images[:0], shared.row_masks(), shared.distance_px)
    found = []
    for index, layer in enumerate(backbone.layers):
        maps = torch.cat([part[index] for part in parts])
        of_a, of_b = probe_weights(row, layer.stride_px, grid=grid_of(maps))
        vectors: dict[str, Tensor] = {}
        for role in ROLES:
            features = shared.of_role(role, maps)
            vectors[role] = masked_mean(features, of_b if role == "partner" else of_a)
            if role == "alone":
                outliers = outlier_share(features, of_a)
        sizes = (of_a.sum(dim=(-2, -1)), of_b.sum(dim=(-2, -1)))
        found.append(
            RegionFeatures(
                **vectors, cells_a=sizes[0], cells_b=sizes[1], outliers=outliers, distance_px=shared.distance_px
            )
        )
    return found


class Fetched:
    """Region features of several batches on their way to the CPU: all of them in one copy, and one wait at the end.

    Args:
        batches: of each what `read_batch` gave, per layer (or per variant and layer).
    """

    def __init__(self, batches: Sequence[Sequence[RegionFeatures]]):
        self._batches = [list(batch) for batch in batches]
        every = [values for batch in batches for regions in batch for values in regions.read().values()]
        # A CPU has them already.
        on_device = every and every[0].device.type != "cpu"
        self._flat = Fetching(torch.cat([values.flatten() for values in every])) if on_device else None

    def result(self) -> list[list[RegionFeatures]]:
        """Return the batches on the CPU."""
        if self._flat is None:
            return self._batches
        flat, start = self._flat.result(), 0
        for batch in self._batches:
            for place, regions in enumerate(batch):
                moved = {}
                for name, values in regions.read().items():
                    moved[name] = flat[start : start + values.numel()].view(values.shape)
                    start += values.numel()
                batch[place] = replace(regions, **moved)
        return self._batches


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
    within = (shares > 0) & ~norms.isnan()
    # The lower median by sorting, for `nanmedian` has no deterministic kernel on a GPU.
    ordered = norms.masked_fill(~within, torch.inf).sort(dim=1).values
    middle = ((within.sum(dim=1, keepdim=True) - 1).clamp(min=0)) // 2
    median = ordered.gather(1, middle)
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
    # Pooled together: a cell with a pixel of B or of C is as good as gone for A.
    shares = cell_shares(probe.masks, stride_px=stride_px, grid=grid)  # (2 or 3, B, h, w)
    beside_a = (shares[1:] > 0).any(dim=0)
    return shares[0] * ~beside_a, shares[1] * (shares[0] == 0)


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
