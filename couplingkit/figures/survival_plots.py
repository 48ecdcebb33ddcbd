"""Shares of objects that survive a cutout in, the figure that compares the strategies out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..metrics.bootstrap import Estimate
from .style import COLOURS, PAGE_IN, PaperFigure, figure_rc
from .tables import estimate_text
from .text_tables import as_text

__all__ = ["survival_figure", "survival_text"]

DASHES = ("--", ":", "-", "-.")
PANEL_IN, FOOT_IN = 1.9, 0.75


def survival_figure(
    visible: Mapping[tuple[str, float], NDArray[np.float64]], *, erased_below: float = 0.05, width_in: float = PAGE_IN
) -> Figure:
    """Draw, per ratio, which share of the objects has at most how much of itself left, a curve per strategy.

    Args:
        visible: (strategy, ratio) -> the share of each object that is left, any shape.
        erased_below: an object with less than this left counts as erased; the grayed part of the axis.
        width_in: inches.
    """
    if not visible:
        raise ArgumentError("visible must hold at least one strategy and ratio; there is nothing to draw.")
    strategies = list(dict.fromkeys(strategy for strategy, _ in visible))
    ratios = sorted({ratio for _, ratio in visible})
    height = PANEL_IN + FOOT_IN
    with figure_rc():
        figure = PaperFigure(figsize=(width_in, height))
        row = figure.subplots(1, len(ratios), sharey=True, squeeze=False)[0]
        figure.subplots_adjust(
            left=0.58 / width_in, right=1 - 0.1 / width_in, top=1 - 0.2 / height, bottom=FOOT_IN / height
        )
        for axes, ratio in zip(row, ratios, strict=True):
            axes.axvspan(0, erased_below, color="0.88", linewidth=0)
            axes.axvline(1 - ratio, color="0.5", linewidth=0.6, linestyle=(0, (1, 2)))
            for index, strategy in enumerate(strategies):
                if (strategy, ratio) in visible:
                    ordered = np.sort(visible[strategy, ratio], axis=None)
                    share = np.arange(1, ordered.size + 1) / ordered.size
                    style = DASHES[index % len(DASHES)]
                    colour = COLOURS[index % len(COLOURS)]
                    axes.step(
                        ordered, share, where="post", color=colour, linestyle=style, linewidth=1.2, label=strategy
                    )
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.set_title(f"ratio {ratio:g}")
            for side in ("right", "top"):
                axes.spines[side].set_visible(False)
        row[0].set_ylabel("share of objects with\nat most this left")
        figure.text(
            0.5, 0.45 / height, "share of the object left (gray: erased; dots: 1 - ratio)", ha="center", va="center"
        )
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=7)
    return figure


def survival_text(records: Sequence[Mapping[str, Any]], form: str) -> str:
    """Return the numbers of all settings as text; see `as_text`, and csv."""
    if form == "csv":
        return pd.json_normalize([dict(record) for record in records]).to_csv(index=False).rstrip()

    def text(part: Mapping[str, float | None]) -> str:
        bounds = (float("nan") if part[key] is None else part[key] for key in ("value", "low", "high"))
        return estimate_text(Estimate(*bounds))  # type: ignore[arg-type]

    rows = [
        {
            "ratio": f"{record['ratio']:g}",
            "strategy": record["strategy"],
            "grid cut": f"{record['cut']:.3f}",
            "visible [95%]": text(record["visible"]),
            "5 % of objects below": f"{record['quantiles']['0.05']:.3f}",
            "median": f"{record['quantiles']['0.5']:.3f}",
            "erased [95%]": text(record["erased"]),
        }
        for record in records
    ]
    return as_text(pd.DataFrame(rows), form)
