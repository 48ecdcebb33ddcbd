"""How a measurement is made, in one record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ArgumentError, check_range
from ..features.passes import BatchSize, check_batch_size

__all__ = ["OF_TABLES", "MeasureSettings"]

# What may be chosen anew when the rows are there.
OF_TABLES = ("eps", "level", "resamples")


@dataclass(frozen=True)
class MeasureSettings:
    """How probes are measured and their rows summarized.

    Attributes:
        batch_size: images per forward pass; changes speed and memory, not the numbers. `auto` is 32 on a CPU, and
            elsewhere the largest power of 2 up to 512 that fits.
        eps: rad; smaller similarities count as this in `cr_mean` and its like; changes the table, not the rows.
        min_cells: a region of less than this many cells (sum of shares) cannot be measured at a stride.
        center: subtract the mean of all z_A1 and z_B from the features first (for experts: it clips denominators).
        level: of the intervals; changes the table, not the rows.
        resamples: of the bootstrap; likewise.
        position: measure A alone at four places as well, which is twice the forward passes.
    """

    batch_size: BatchSize = 32
    eps: float = 1e-2
    min_cells: float = 1.0
    center: bool = False
    level: float = 0.95
    resamples: int = 2000
    position: bool = False

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        check_range("eps", self.eps, 1e-6, 1)
        check_range("min_cells", self.min_cells, 0, 1e6)
        check_range("level", self.level, 0.5, 0.999)
        check_range("resamples", self.resamples, 100, 10**6)

        if self.center and self.position:
            raise ArgumentError("position is of features as they are; give `center` or `position`, not both.")

    def of_rows(self) -> dict[str, Any]:
        """Return what decides the rows; the rest decides what is made of them."""
        return {name: value for name, value in asdict(self).items() if name not in OF_TABLES}
