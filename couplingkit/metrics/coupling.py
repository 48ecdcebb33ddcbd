"""Region features of probes in, three angles and two shares per probe out; rates derive from them and eps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import check_range
from .angles import angle_between

__all__ = ["SEEN", "CouplingRates", "coupling_rate", "derived_columns"]

Array = NDArray[np.float64]
# What rows keep of each probe: everything that is reported derives from these columns and eps.
SEEN = ("theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2", "toward_b", "toward_c")


@dataclass(frozen=True)
class CouplingRates:
    """What was seen of each probe, each field (N,) and NaN where it is undefined; and the rates that derive from it.

    Attributes:
        theta_a1_b: angle of z_A1 and z_B, rad in [0, pi].
        theta_a2_b: of z_A2 and z_B.
        theta_a3_b: of z_A3 and z_B; NaN without a control.
        theta_a1_a2: of z_A1 and z_A2: how far A's feature moved in any direction.
        toward_b: <z_A2 - z_A1, z_B - z_A1> / |z_B - z_A1|^2: the share of the way from A to B that A's feature went.
        toward_c: the same with z_A3 for z_A2; NaN without a control.
        eps: rad; a similarity below it counts as it in rates (not in anything else).
    """

    theta_a1_b: Array
    theta_a2_b: Array
    theta_a3_b: Array
    theta_a1_a2: Array
    toward_b: Array
    toward_c: Array
    eps: float = 1e-2

    def columns(self) -> dict[str, Array]:
        """Return what was seen and what derives from it: name -> (N,); see `derived_columns`."""
        return derived_columns({name: getattr(self, name) for name in SEEN}, self.eps)

    @property
    def numerator(self) -> Array:
        """max(pi/2 - theta(z_A2, z_B), eps), rad: the similarity biased by what leaks from B."""
        return self.columns()["numerator"]

    @property
    def denominator(self) -> Array:
        """max(pi/2 - theta(z_A1, z_B), eps), rad: the true similarity of the two objects."""
        return self.columns()["denominator"]

    @property
    def cr(self) -> Array:
        """The coupling rate, numerator / denominator."""
        return self.columns()["cr"]


def derived_columns(seen: Mapping[str, Array], eps: float) -> dict[str, Array]:
    """Return columns of rows with everything that derives from the angles, (N,) each.

    Added are `similarity_true`, `similarity_biased` and `similarity_control` (pi/2 minus an angle, rad, not clipped),
    `numerator` and `denominator` (clipped at eps), `clipped_numerator` and `clipped_denominator` (1 where they are),
    `cr` (their ratio) and `displacement` (rad).

    Args:
        seen: with the columns `SEEN` and, may be, `position`; what is all NaN is left out of what is returned.
        eps: rad.
    """
    columns = {name: values for name, values in seen.items() if not np.isnan(values).all()}
    if "theta_a3_b" in columns:
        columns["similarity_control"] = math.pi / 2 - columns["theta_a3_b"]
    true, biased = math.pi / 2 - seen["theta_a1_b"], math.pi / 2 - seen["theta_a2_b"]
    undefined = np.isnan(true) | np.isnan(biased)
    # np.maximum hands on NaN: what was not measured has no rate either.
    numerator, denominator = np.maximum(biased, eps), np.maximum(true, eps)
    return columns | {
        "similarity_true": true,
        "similarity_biased": biased,
        "numerator": numerator,
        "denominator": denominator,
        "cr": numerator / denominator,
        "clipped_numerator": np.where(undefined, np.nan, biased < eps),
        "clipped_denominator": np.where(undefined, np.nan, true < eps),
        "displacement": seen["theta_a1_a2"],
    }


def coupling_rate(
    alone: Tensor, together: Tensor, partner: Tensor, control: Tensor | None = None, *, eps: float = 1e-2
) -> CouplingRates:
    """Return the coupling rate of each probe (Qiu et al., ICLR 2024; section 4 of the measurement's definition).

        CR = max(pi/2 - theta(z_A2, z_B), eps) / max(pi/2 - theta(z_A1, z_B), eps)

    CR = 1: A's feature did not turn towards B's. CR > 1: it did.

    Args:
        alone: z_A1 (N, D), A's feature with A alone on the canvas.
        together: z_A2 (N, D), A's feature with B beside it.
        partner: z_B (N, D), B's feature with B alone.
        control: z_A3 (N, D), A's feature with another object C in B's place.
        eps: rad, above 0.

    >>> import torch
    >>> a, b = torch.tensor([[1.0, 0.2]]), torch.tensor([[0.2, 1.0]])
    >>> coupling_rate(a, a, b).cr.tolist(), bool(coupling_rate(a, a + 0.1 * b, b).cr > 1)
    ([1.0], True)
    """
    check_range("eps", eps, 1e-6, 1)
    none = torch.full_like(alone, torch.nan) if control is None else control
    toward_b, toward_c = (share_of_way(alone, moved, partner) for moved in (together, none))
    return CouplingRates(
        theta_a1_b=_numbers(angle_between(alone, partner)),
        theta_a2_b=_numbers(angle_between(together, partner)),
        theta_a3_b=_numbers(angle_between(none, partner)),
        theta_a1_a2=_numbers(angle_between(alone, together)),
        toward_b=_numbers(toward_b),
        toward_c=_numbers(toward_c),
        eps=eps,
    )


def share_of_way(start: Tensor, moved: Tensor, goal: Tensor) -> Tensor:
    """Return which share of the way from `start` to `goal` was gone, (N,) float64: of the projection onto that way.

    A constant vector that is added to all three, a rotation, or a common positive factor changes nothing. NaN where
    start and goal are the same.

    Args:
        start: (N, D).
        moved: (N, D).
        goal: (N, D).
    """
    begin, end, way = (vectors.to(torch.float64) for vectors in (start, moved, goal))
    way = way - begin  # (N, D)
    return ((end - begin) * way).sum(dim=-1) / (way * way).sum(dim=-1)


def _numbers(values: Tensor) -> Array:
    numbers: Array = values.to(torch.float64).cpu().numpy()
    return numbers
