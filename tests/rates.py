"""Rates from the rows of a run, from the definition and nothing else."""

import numpy as np


def with_rates(rows, eps=0.01):
    """Rows with numerator, denominator, cr and cr_control (of each probe) beside the angles they derive from."""
    true, biased, control = (
        np.maximum(np.pi / 2 - rows[f"theta_{name}_b"].astype(float), eps) for name in ("a1", "a2", "a3")
    )
    return rows.assign(numerator=biased, denominator=true, cr=biased / true, cr_control=control / true)
