"""What a step gave, on its way from the device: known a step later where the device is not to wait."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import MeasurementError
from ..fetching import Fetching
from .batch import Progress
from .checkpoint import checkpoints_of
from .teacher import mean_over_processes
from .telemetry import EVERY, feature_products, rank_of_products

__all__ = ["Outcome", "outcome_of", "steps_ahead"]


@dataclass(frozen=True)
class Outcome:
    """What is to be known of a step.

    Attributes:
        where: which step.
        losses: names of the first numbers, which are means over all processes; the next one says whether any of them
            was asked to stop.
        observed: names of the others, which are of this process.
        known: numbers that were known at once.
        numbers: on their way.
        products: of the features, of which the rank is told; None in most steps.
    """

    where: Progress
    losses: tuple[str, ...]
    observed: tuple[str, ...]
    known: Mapping[str, float]
    numbers: Fetching
    products: Fetching | None

    def settled(self, out: Path) -> tuple[dict[str, float], dict[str, float], bool]:
        """Wait for a step; return its losses, what else is written of it, and whether a process was asked to stop.

        Args:
            out: the run folder, whose last checkpoint is named.

        Raises:
            MeasurementError: a loss is not finite.
        """
        values = self.numbers.result().tolist()
        count = len(self.losses)
        losses = dict(zip(self.losses, values[:count], strict=True))
        _check_finite(losses, self.where.step, out)
        others = {**self.known, **dict(zip(self.observed, values[count + 1 :], strict=True))}
        if self.products is not None:
            others["feature_rank"] = float(rank_of_products(self.products.result()))
        return losses, others, values[count] > 0


def outcome_of(
    where: Progress,
    losses: Mapping[str, Tensor],
    observed: Mapping[str, Tensor],
    known: Mapping[str, float],
    *,
    asked: bool,
) -> Outcome:
    """Return what a step gave: scalars on its device.

    Args:
        where: which step.
        losses: of this process; those of all are meant over here.
        observed: of this process; `features`, vectors (n, D), give their rank every few steps.
        known: numbers of the CPU.
        asked: whether this process was asked to stop. All hear of it at the same step, or one would wait for ever.
    """
    scalars = {name: value for name, value in observed.items() if name != "features"}
    device = next(iter(losses.values())).device
    shared = torch.stack([*losses.values(), torch.full((), float(asked), device=device)])
    own = [value.detach().to(device, torch.float32).reshape(1) for value in scalars.values()]
    features = observed.get("features") if where.step % EVERY == 0 else None
    return Outcome(
        where,
        tuple(losses),
        tuple(scalars),
        dict(known),
        Fetching(torch.cat([mean_over_processes(shared), *own])),
        None if features is None else Fetching(feature_products(features)),
    )


def steps_ahead(device: torch.device) -> int:
    """Return how many steps are made before what one gave is looked at: none more on a CPU, which would not gain."""
    return 0 if device.type == "cpu" else 1


def _check_finite(losses: Mapping[str, float], step: int, out: Path) -> None:
    if all(math.isfinite(value) for value in losses.values()):
        return
    found = checkpoints_of(out)
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    raise MeasurementError(f"step {step} lost a number that is not finite ({parts}); {last}.")
