"""What the loop trains: a module that makes named losses of what it is shown, and may move something after a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from .batch import Progress

__all__ = ["Objective"]


class Objective(nn.Module, ABC):
    """A module whose losses are made smaller, step by step; the loop knows no more of it than this."""

    # Whether batch normalisation is over the images of all GPUs.
    synchronised_norms = False

    @abstractmethod
    def views(self, batch: Any) -> Any:
        """Return what `forward` is shown of a part of a batch."""

    @abstractmethod
    def forward(self, views: Any) -> dict[str, Tensor]:
        """Return named scalars, weighted; a step minimises their sum."""

    def before_step(self, progress: Progress) -> None:
        """Set what the schedules say of this step."""

    def after_step(self, progress: Progress) -> None:
        """Take in what the losses left since the last step, which came in one part or several."""

    def observed(self) -> dict[str, Tensor]:
        """Return what the log is to say of the last step beside the losses: scalars.

        `features`, vectors (n, D), are not written themselves, but their rank is, now and then.
        """
        return {}

    def core(self) -> Objective:
        """Return the objective itself, without what wraps it."""
        return self

    @abstractmethod
    def branches(self) -> dict[str, nn.Module]:
        """Return the backbones by their names; what else has weights is a head, or learns with it."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """Return the parts of the networks that are worth compiling."""
