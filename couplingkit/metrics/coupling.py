"""Region features of probes in, one coupling rate per probe out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import check_range
from .angles import angle_between

__all__ = ["CouplingRates", "coupling_rate"]


@dataclass(frozen=True)
class CouplingRates:
    """One row per probe; each field is (N,), NaN (or False) where the rate is undefined.

    Attributes:
        cr: the coupling rate, numerator / denominator.
        numerator: max(pi/2 - theta(z_A2, z_B), eps), rad: the similarity biased by what leaks from B.
        denominator: max(pi/2 - theta(z_A1, z_B), eps), rad: the true correlation of the two objects.
        clipped_numerator: whether eps took the place of the numerator.
        clipped_denominator: whether eps took the place of the denominator.
        displacement: theta(z_A1, z_A2), rad: how far A's feature moved in any direction.
    """

    cr: NDArray[np.float64]
    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]
    clipped_numerator: NDArray[np.bool_]
    clipped_denominator: NDArray[np.bool_]
    displacement: NDArray[np.float64]


def coupling_rate(alone: Tensor, together: Tensor, partner: Tensor, *, eps: float = 1e-2) -> CouplingRates:
    """Return the coupling rate of each probe (Qiu et al., ICLR 2024; section 4 of the measurement's definition).

        CR = max(pi/2 - theta(z_A2, z_B), eps) / max(pi/2 - theta(z_A1, z_B), eps)

    CR = 1: nothing of B reaches A. CR > 1: A's feature moves towards B's.

    Args:
        alone: z_A1 (N, D), A's feature with A alone on the canvas.
        together: z_A2 (N, D), A's feature with B beside it.
        partner: z_B (N, D), B's feature with B alone.
        eps: rad, above 0.

    >>> import torch
    >>> a, b = torch.tensor([[1.0, 0.2]]), torch.tensor([[0.2, 1.0]])
    >>> coupling_rate(a, a, b).cr.tolist(), bool(coupling_rate(a, a + 0.1 * b, b).cr > 1)
    ([1.0], True)
    """
    check_range("eps", eps, 1e-6, 1)
    biased = math.pi / 2 - angle_between(together, partner).cpu().numpy()
    true = math.pi / 2 - angle_between(alone, partner).cpu().numpy()
    undefined = np.isnan(biased) | np.isnan(true)
    numerator = np.where(undefined, np.nan, np.maximum(biased, eps))
    denominator = np.where(undefined, np.nan, np.maximum(true, eps))
    return CouplingRates(
        cr=numerator / denominator,
        numerator=numerator,
        denominator=denominator,
        clipped_numerator=biased < eps,
        clipped_denominator=true < eps,
        displacement=np.where(undefined, np.nan, angle_between(alone, together).cpu().numpy()),
    )
