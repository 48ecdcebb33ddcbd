"""The log of a training run in, its loss curves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..errors import ArgumentError
from .plots import COLUMN_IN, STYLE

__all__ = ["loss_figure"]

NOT_LOSSES = ("step", "seconds", "broken", "lr", "epoch", "total")
COLOURS = ("#33567a", "#c03a2b", "#4f8a5b", "#d99a2b")
HEIGHT_IN = 2.2
# Steps that one point of a curve is the mean of, as a share of the run.
SMOOTHING = 0.02


def loss_figure(lines: Sequence[Mapping[str, float]], *, width_in: float = COLUMN_IN) -> Figure:
    """Draw each named loss over the steps, as means over a fiftieth of the run.

    Args:
        lines: of metrics.jsonl, one per step.
        width_in: inches.

    Raises:
        ArgumentError: there is no step yet.
    """
    if not lines:
        raise ArgumentError("lines must hold at least one step; the run has not begun.")
    names = [name for name in lines[0] if name not in NOT_LOSSES]
    steps = np.array([line["step"] for line in lines])
    span = max(1, int(len(lines) * SMOOTHING))
    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(names):
            values = np.array([line[name] for line in lines])
            starts = np.arange(0, len(values), span)
            counts = np.diff(np.append(starts, len(values)))
            means, middles = (np.add.reduceat(part, starts) / counts for part in (values, steps))
            axes.plot(middles, means, color=COLOURS[place % len(COLOURS)], linewidth=1, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
    return figure
