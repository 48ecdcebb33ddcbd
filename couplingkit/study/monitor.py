"""A network that somebody else trains in, its coupling now and then out, as numbers to log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError, check_range
from ..features.backbone import NetworkBackbone
from ..features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ..metrics.quantities import shown_in
from ..probes.probeset import ProbeSet
from .measurement import Measurement
from .measuring import measure
from .settings import MeasureSettings

__all__ = ["CouplingMonitor", "Read"]

Read = Callable[[Any, Tensor], Tensor]


class CouplingMonitor:
    """Looks at a network in a training loop of the user's own, and leaves it as it was.

    A look costs as much as measuring: of a ring of probes one forward pass a probe without gradient, and the
    bootstrap; `PREFIX/seconds` says what it took. The network's mode, gradients, running statistics and device stay,
    and no global random state is drawn from.

    Args:
        probes: what it is shown; 64 to 256 do for a curve.
        every: steps between looks, where a step is given.
        size_px: of the network's input, px: one side, or (height, width).
        mean, std: of its normalisation, sRGB in [0, 1].
        precision: of the forward passes.
        prefix: of the names.
        settings: as in `measure`.
    """

    def __init__(
        self,
        probes: ProbeSet,
        *,
        every: int = 1,
        size_px: int | tuple[int, int] = 224,
        mean: RGB = IMAGENET_MEAN,
        std: RGB = IMAGENET_STD,
        precision: str = "float32",
        prefix: str = "coupling",
        settings: MeasureSettings = MeasureSettings(),  # noqa: B008 - frozen
    ):
        check_range("every", every, 1)
        self.probes = probes
        self.every = every
        self.look: dict[str, Any] = {"size_px": size_px, "mean": mean, "std": std, "precision": precision}
        self.prefix = prefix
        self.settings = settings
        self.last: Measurement | None = None

    def due(self, step: int) -> bool:
        """Return whether a step (from 0) is one at whose end the network is looked at."""
        return (step + 1) % self.every == 0

    def __call__(self, network: nn.Module, read: Read, *, step: int | None = None) -> dict[str, float]:
        """Return `PREFIX/NAME`, its bounds `_low` and `_high`, `PREFIX/measured` and `PREFIX/seconds`.

        Args:
            network: in any mode, on any device.
            read: (network, normalised images (B, 3, H, W)) -> features (B, D, h, w).
            step: where it is given and not due, nothing is done and nothing returned.

        Raises:
            BackboneError: what `read` gives is no map.
            MeasurementError: features are not finite, or too few probes can be measured.
        """
        if not callable(read):
            raise ArgumentError(f"read must be a function (network, images) -> features, not {type(read).__name__}.")
        if step is not None and not self.due(step):
            return {}
        begin = time.perf_counter()
        backbone = NetworkBackbone(network, read, name=self.prefix, **self.look)
        self.last = measure(backbone, self.probes, self.settings)
        found: dict[str, float] = {}
        for quantity in shown_in("curve"):
            estimate = self.last.summary.estimates.get(quantity.name)
            if estimate is not None:
                key = f"{self.prefix}/{quantity.name}"
                found |= {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
        found[f"{self.prefix}/measured"] = float(self.last.summary.measured)
        return found | {f"{self.prefix}/seconds": time.perf_counter() - begin}
