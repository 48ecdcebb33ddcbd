"""Numbers in, the reasons why one of them is no measurement out; tables, figures and pages mark those with `(!)`."""

from __future__ import annotations

import numpy as np

from .quantities import Columns

__all__ = ["CLIPPED_LIMIT", "doubts_of_mean", "doubts_of_ratio"]

# The mean of ratios is no measurement where more denominators are clipped than this, where the heaviest probes carry
# more than this share of its variance, or where it moves by more than this between eps / 3 and 3 eps.
CLIPPED_LIMIT = 0.05
HEAVIEST, HEAVY_SHARE, FEWEST_FOR_SHARE = 3, 0.5, 30
MOVED_LIMIT = 0.05
ROUNDING = 1e-6


def doubts_of_mean(columns: Columns, at_third: Columns, at_triple: Columns) -> list[str]:
    """Return why `cr_mean` is no measurement, a clause each; none where it is one.

    Args:
        columns: of the measured rows, with rates at eps.
        at_third: the same at eps / 3.
        at_triple: the same at 3 eps.
    """
    rates, found = columns["cr"], []
    if columns["clipped_denominator"].mean() > CLIPPED_LIMIT:
        found.append(f"over {CLIPPED_LIMIT:.0%} of the denominators are clipped")
    squares = np.sort((rates - rates.mean()) ** 2)
    spread = float(squares.sum())
    # Of a few probes three carry half of anything; and what does not vary but for rounding hangs on nobody.
    varies = len(rates) >= FEWEST_FOR_SHARE and spread > len(rates) * ROUNDING**2
    if varies and float(squares[-HEAVIEST:].sum()) > HEAVY_SHARE * spread:
        found.append(f"{HEAVIEST} probes carry over half of its variance")
    if abs(at_third["cr"].mean() - at_triple["cr"].mean()) > MOVED_LIMIT * abs(rates.mean()):
        found.append(f"it moves by over {MOVED_LIMIT:.0%} between eps / 3 and 3 eps")
    return found


def doubts_of_ratio(low: float, value: float) -> list[str]:
    """Return why a ratio over `similarity_true` is no measurement, given the lower bound (NaN: none) and the mean."""
    if value <= 0 or low <= 0:
        return ["the objects' similarity apart is not above 0 within its interval, and the ratio is over it"]
    return []
