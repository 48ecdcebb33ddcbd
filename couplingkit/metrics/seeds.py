"""One number per training seed in, their mean with an interval over seeds out: what can be said of a method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from .bootstrap import Estimate

__all__ = ["over_seeds"]


def over_seeds(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """Return the mean of one value per seed with Student's interval, seeds - 1 degrees of freedom.

    An interval over scenes says how sure the numbers of *these* networks are; a method is more networks than these.
    NaN bounds for a single seed.

    >>> round(over_seeds([1.0, 2.0, 3.0]).high, 3)
    4.484
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(stdtrit(len(array) - 1, (1 + level) / 2) * array.std(ddof=1) / np.sqrt(len(array)))
    return Estimate(mean, mean - half, mean + half)
