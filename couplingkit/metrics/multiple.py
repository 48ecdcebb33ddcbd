"""Several p-values in, the same corrected for their number out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down procedure (1979); NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [int(place) for place in np.argsort(values) if not np.isnan(values[place])]
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, (len(order) - rank) * float(values[place]))
        adjusted[place] = min(1.0, running)
    return [float(value) for value in adjusted]
