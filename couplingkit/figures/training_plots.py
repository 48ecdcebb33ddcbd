"""The log of a training run in, its loss curves out; looks at its coupling in, how coupling was learned out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..errors import ArgumentError
from .style import COLOURS, COLUMN_IN, LEVEL_ONE, PaperFigure, figure_rc

__all__ = ["coupling_curves", "loss_figure"]

# X, then X-D, as in `pair_figure`.
HEIGHT_IN, LOWER_IN = 2.2, 1.2
PANELS = (("cr", "coupling rate (cr)"), ("knn", "object k-NN"))
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
    # Losses stand first in a line, before their sum.
    names = [name for name in takewhile(lambda name: name != "total", lines[0]) if name != "step"]
    steps = np.array([line["step"] for line in lines])
    span = max(1, int(len(lines) * SMOOTHING))
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        for index, name in enumerate(names):
            values = np.array([line[name] for line in lines])
            starts = np.arange(0, len(values), span)
            counts = np.diff(np.append(starts, len(values)))
            means, middles = (np.add.reduceat(part, starts) / counts for part in (values, steps))
            axes.plot(middles, means, color=COLOURS[index % len(COLOURS)], linewidth=1, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.legend(frameon=False)
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
    return figure


def coupling_curves(
    runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    *,
    width_in: float = COLUMN_IN,
) -> Figure:
    """Draw the coupling rate (`cr`) over the steps of training, and below it how well objects are told apart.

    One run of a method is drawn with its interval; of several, each is a thin line and their mean a thick one, at the
    steps after which all were looked at. An open mark stands where the objects' similarity apart is not above 0 within
    its interval, so that a ratio over it is no measurement.

    Args:
        runs: method -> its runs -> their looks (`read_curve`), first step first.
        width_in: inches.

    Raises:
        ArgumentError: a run was never looked at, or runs of one method have no step in common.
    """
    with figure_rc():
        lines = [line for curves in runs.values() for curve in curves for line in curve]
        told_apart = all("knn" in line and np.isfinite(line["knn"]) for line in lines)
        panels = PANELS if told_apart else PANELS[:1]
        figure = PaperFigure(figsize=(width_in, HEIGHT_IN + LOWER_IN * (len(panels) - 1)), layout="constrained")
        heights = [HEIGHT_IN, *[LOWER_IN] * (len(panels) - 1)]
        every = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, (name, words) in zip(every, panels, strict=True):
            for index, (label, curves) in enumerate(runs.items()):
                _draw_method(axes, label, curves, name=name, colour=COLOURS[index % len(COLOURS)])
            axes.set_ylabel(words)
            for side in ("right", "top"):
                axes.spines[side].set_visible(False)
        every[0].axhline(1, color=LEVEL_ONE, linewidth=0.7, linestyle=(0, (4, 2)))
        every[0].legend(frameon=False)
        every[-1].set_xlabel("step")
    return figure


def _draw_method(
    axes: Any, label: str, curves: Sequence[Sequence[Mapping[str, float]]], *, name: str, colour: str
) -> None:
    every = [{line["step"] for line in curve} for curve in curves]
    common = set.intersection(*every) if every else set()
    if not common:
        raise ArgumentError(f"runs of {label} must be looked at after the same steps, but were after {every}.")
    curves = [[line for line in curve if line["step"] in common] for curve in curves]
    steps = sorted(common)
    values = np.array([[line[name] for line in curve] for curve in curves])
    unsure = np.array([[line["similarity_true_low"] <= 0 for line in curve] for curve in curves]).any(axis=0)
    unsure &= name == "cr"
    if len(curves) == 1:
        low, high = ([line[f"{name}_{side}"] for line in curves[0]] for side in ("low", "high"))
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        for value in values:
            axes.plot(steps, value, color=colour, linewidth=0.5, alpha=0.6)
    mean = values.mean(axis=0)
    axes.plot(steps, mean, color=colour, linewidth=1.3, label=label)
    for open_mark in (False, True):
        chosen = unsure == open_mark
        face = "white" if open_mark else colour
        at = np.array(steps)[chosen]
        axes.plot(at, mean[chosen], "o", color=colour, markerfacecolor=face, markersize=3.5, markeredgewidth=0.8)
