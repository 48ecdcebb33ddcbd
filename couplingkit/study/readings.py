"""A batch of probes through a backbone: the features of its regions, and the checks that they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import MeasurementError
from ..features.backbone import DenseBackbone
from ..features.regions import masked_mean, region_weights
from ..metrics.coupling import coupling_rate
from ..probes.triplet import Probe

__all__ = ["Reading", "check_finite", "check_zero_control", "read_batch"]


@dataclass(frozen=True)
class Reading:
    """Region features of a batch, on the CPU.

    Attributes:
        alone: z_A1 (n, D) float32.
        together: z_A2 (n, D).
        control: z_A3 (n, D); None without a control.
        partner: z_B (n, D).
        cells_a: size of A's region, in cells (n,).
        cells_b: of B's.
    """

    alone: Tensor
    together: Tensor
    control: Tensor | None
    partner: Tensor
    cells_a: Tensor
    cells_b: Tensor

    def readable(self, min_cells: float) -> Tensor:
        """Return which probes can be measured, bool (n,): both regions keep at least `min_cells`."""
        # A region of 0 cells has no mean, even where the limit is 0.
        return (self.cells_a >= min_cells) & (self.cells_b >= min_cells) & (self.cells_a * self.cells_b > 0)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield (what an image shows, its region features)."""
        yield from (("A alone", self.alone), ("A beside B", self.together), ("B alone", self.partner))
        if self.control is not None:
            yield "A beside C", self.control


def read_batch(backbone: DenseBackbone, probe: Probe) -> Reading:
    """Run the images of a batch through the network, each once, and pool A's and B's regions."""
    of_a = backbone(probe.alone)
    weights_a, weights_b = _region_weights(backbone, probe, of_a)

    def pooled(images: Tensor, weights: Tensor) -> Tensor:
        return masked_mean(backbone(images), weights).cpu()

    return Reading(
        alone=masked_mean(of_a, weights_a).cpu(),
        together=pooled(probe.together, weights_a),
        control=None if probe.control is None else pooled(probe.control, weights_a),
        partner=pooled(probe.partner, weights_b),
        cells_a=weights_a.sum(dim=(-2, -1)).cpu(),
        cells_b=weights_b.sum(dim=(-2, -1)).cpu(),
    )


def _region_weights(backbone: DenseBackbone, probe: Probe, features: Tensor) -> tuple[Tensor, Tensor]:
    # B's and C's cells see them directly; leaving both out gives z_A1, z_A2 and z_A3 the same cells.
    beside_a = probe.mask_b if probe.mask_c is None else probe.mask_b | probe.mask_c
    grid = (features.shape[-2], features.shape[-1])
    return (
        region_weights(probe.mask_a, beside_a, stride_px=backbone.stride_px, grid=grid),
        region_weights(probe.mask_b, probe.mask_a, stride_px=backbone.stride_px, grid=grid),
    )


def check_finite(name: str, reading: Reading, numbers: range, min_cells: float) -> None:
    """Raise `MeasurementError` if a map that was read holds a NaN or an infinite value."""
    readable = reading.readable(min_cells)
    for shown, vectors in reading.named():
        # Cells of weight 0 take part in the sum, so one NaN anywhere in a map shows here.
        broken = readable & ~torch.isfinite(vectors).all(dim=1)
        if broken.any():
            raise MeasurementError(
                f"{name} gives NaN or infinite features for probe {numbers[int(broken.nonzero()[0])]} ({shown}); "
                "check its weights, or measure with --precision float32."
            )


def check_zero_control(
    backbone: DenseBackbone, again: Probe, reading: Reading, numbers: range, *, eps: float, min_cells: float
) -> None:
    """Raise `MeasurementError` unless the coupling rate is exactly 1 with B left out of `I_A2`.

    Args:
        backbone: the network.
        again: the batch rendered anew; of it, A alone is shown.
        reading: what the batch gave.
        numbers: of its probes.
        eps: as in the measurement.
        min_cells: as in the measurement.
    """
    features = backbone(again.alone)
    repeated = masked_mean(features, _region_weights(backbone, again, features)[0]).cpu()
    rates = coupling_rate(reading.alone, repeated, reading.partner, eps=eps)
    wrong = np.flatnonzero(reading.readable(min_cells).numpy() & ~np.isnan(rates.cr) & (rates.cr != 1))
    if wrong.size:
        raise MeasurementError(
            f"zero control of {backbone.name} failed: with B left out the coupling rate of probe {numbers[wrong[0]]} "
            f"is {rates.cr[wrong[0]]:.9g} and must be exactly 1; the network gives different features for the same "
            "image (is dropout on, or a kernel not deterministic?), so none of its rates can be trusted."
        )
