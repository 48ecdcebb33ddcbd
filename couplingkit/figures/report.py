"""Finished runs in, one self-contained HTML page out: tables, figures, probes that stand out, settings, provenance."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from ..errors import ArgumentError, MeasurementError, listed, near
from ..metrics.quantities import Quantity, shown_in
from ..runs.evaluation_files import EvaluationRun
from ..runs.extremes import Extreme
from ..runs.models import CONTROL_ROW
from ..runs.records import Run
from ..runs.sweeping import points_of
from ..study.measurement import SETTINGS as LIKE
from ..study.measurement import Measurement, different_settings
from .labels import short_labels
from .plots import coupling_figure
from .report_scores import score_sections
from .style import MAPS, figure_rc
from .sweep_plots import sweep_figure, sweep_text, uneven
from .tables import (
    WAYS,
    controls_line,
    difference_lines,
    heading_of,
    marked_text,
    marks_line,
    way_of_reading,
    ways_unlike,
)

__all__ = ["report_page"]

SETTINGS = ("eps", "min_cells", "center")
FIGURE_IN = 4.6
MOST_IN_A_FIGURE = 40


def report_page(
    runs: Sequence[Run],
    extremes: Mapping[str, Sequence[Extreme]],
    *,
    title: str = "Coupling",
    across: Collection[str] = (),
    evaluations: Sequence[EvaluationRun] = (),
) -> str:
    """Return the page as text; it needs no server, no network, and asks for none.

    Args:
        runs: of `measure` and `sweep`; models that saw the same probes stand in one table.
        extremes: folder of a run -> its probes of the highest and lowest rates.
        title: of the page.
        across: settings (of `study.measurement.SETTINGS`) in which runs on the same probes are meant to differ.
        evaluations: of `evaluate`, which stand beside the coupling of the same networks.

    Raises:
        ArgumentError: there is no run.
        MeasurementError: runs on the same probes were measured with other settings than is meant.
    """
    if not runs and not evaluations:
        raise ArgumentError("runs must not be empty; a report needs one at least.")
    sets = _by_probes(runs)
    for group in sets:
        _check_like(group, across)
    every = [measurement for run in runs for measurement in run.measurements]
    quantities = [
        quantity
        for quantity in shown_in("report")
        if not quantity.optional or any(quantity.name in one.summary.estimates for one in every)
    ]
    page = files(__package__) / "page"
    names = ("style", "program")
    parts = {
        name: Markup((page / f"report.{suffix}").read_text(encoding="utf-8"))
        for name, suffix in zip(names, ("css", "js"), strict=True)
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = _code
    environment.filters["whole_brackets"] = _whole_brackets
    template = environment.from_string((page / "report.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        sets=[_probe_set(number, group, quantities) for number, group in enumerate(sets, 1)],
        sweeps=[_swept(run) for run in runs if run.swept],
        scores=score_sections(evaluations, [one for run in runs if not run.swept for one in run.measurements], _vector),
        galleries=_galleries(runs, extremes),
        runs=[_run(run) for run in runs],
        headings=[heading_of(quantity) for quantity in quantities],
        meanings=[(quantity.name, quantity.meaning) for quantity in quantities],
        **parts,
    )


def _whole_brackets(text: str) -> str:
    """Return a cell that may only be broken before its interval, so that ten columns fit beside each other."""
    value, bracket, bounds = str(text).partition(" [")
    return value.replace(" ", "\u00a0") + bracket + bounds.replace(" ", "\u00a0")


def _code(text: str) -> Markup:
    """Return a sentence as HTML, what stands in backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _by_probes(runs: Sequence[Run]) -> list[list[tuple[Run, Measurement]]]:
    """Return the models of runs that are no sweeps, those of the same probes together."""
    found: dict[tuple[Any, ...], list[tuple[Run, Measurement]]] = {}
    for run in runs:
        for measurement in () if run.swept else run.measurements:
            probes = measurement.provenance["probes"]
            found.setdefault((probes["identity"], probes["fingerprint"]), []).append((run, measurement))
    return list(found.values())


def _check_like(group: list[tuple[Run, Measurement]], across: Collection[str]) -> None:
    """Raise `MeasurementError` if models of two runs differ in a setting that neither run varies nor `across` names."""
    for name in across:
        if name not in LIKE:
            raise ArgumentError(f"across must be of {', '.join(LIKE)}, not {name!r}{near(name, LIKE)}.")
    models = [pair for pair in group if pair[1].name != CONTROL_ROW]
    if not models:
        return
    first_run, first = models[0]
    meant = set(across)
    for run, measurement in models:
        own = next(other for one, other in models if one is run)
        meant |= different_settings(own, measurement).keys()
    for run, measurement in models:
        unlike = {name: what for name, what in different_settings(first, measurement).items() if name not in meant}
        if unlike:
            raise MeasurementError(
                f"{first.name} of {first_run.title} and {measurement.name} of {run.title} were measured with other "
                f"settings: {listed(unlike.values())}; give them pages of their own, or say that it is meant: "
                f"`across={','.join(unlike)}`."
            )


def _probe_set(number: int, group: list[tuple[Run, Measurement]], quantities: Sequence[Quantity]) -> dict[str, Any]:
    probes = group[0][1].provenance["probes"]
    spec = probes["spec"]
    settings = ", ".join(
        f"{name} {' and '.join(dict.fromkeys(str(one.provenance['settings'][name]) for _, one in group))}"
        for name in SETTINGS
    )
    # The control row is the same for each run on one set of probes.
    controls = [pair for pair in group if pair[1].name == CONTROL_ROW][:1]
    models = [pair for pair in group if pair[1].name != CONTROL_ROW] + controls
    names = [measurement.name for _, measurement in models]
    # A model that was measured in two ways is told apart by its runs, which its user named.
    labels = [
        f"{run.title}: {label}" if names.count(measurement.name) > 1 else label
        for (run, measurement), label in zip(models, short_labels(names), strict=True)
    ]
    named = [replace(measurement, name=label) for (_, measurement), label in zip(models, labels, strict=True)]
    drawn = named[:MOST_IN_A_FIGURE]
    unlike = ways_unlike(named)
    return {
        "number": number,
        "ways": [WAYS[index] for index in unlike],
        "marks": marks_line([measurement.summary for _, measurement in models]),
        "name": probes["name"],
        "facts": f"{probes['count']} probes of {probes['eligible_objects']} eligible objects of "
        f"{PurePath(probes['annotations']).name}; objects of "
        f"{spec['object_size']} units, gap {spec['gap']}, canvas {spec['canvas']}, visible {spec['visible']:g}, "
        f"pairing {spec['pairing']}, design {spec.get('design', 'pairs')}, seed {probes['seed']}; {settings}; "
        f"fingerprint {probes['fingerprint'][:16]}",
        "rows": [
            _row(run, measurement, label, quantities, unlike)
            for (run, measurement), label in zip(models, labels, strict=True)
        ],
        "figure": _vector(coupling_figure(drawn, width_in=FIGURE_IN)),
        "left_out": len(models) - len(drawn),
    }


def _row(
    run: Run, measurement: Measurement, label: str, quantities: Sequence[Quantity], unlike: Sequence[int]
) -> dict[str, Any]:
    summary = measurement.summary
    cells: list[dict[str, Any]] = [
        {"text": label, "sort": label.lower(), "title": measurement.name},
        {"text": run.title, "sort": run.title},
    ]
    for quantity in quantities:
        estimate = summary.estimates.get(quantity.name)
        value = math.nan if estimate is None else estimate.value
        shown = marked_text(quantity, summary) if quantity.unit != "share" else quantity.text(value)
        mark = bool(summary.marks(quantity.name))
        cells.append({"text": shown, "sort": "" if math.isnan(value) else repr(value), "marked": mark})
    cells.append({"text": f"{summary.measured} of {summary.probes}", "sort": str(summary.measured)})
    for index in unlike:
        cells.append({"text": way_of_reading(measurement)[index], "sort": way_of_reading(measurement)[index].zfill(8)})
    return {"cells": cells, "control": measurement.name == CONTROL_ROW}


def _swept(run: Run) -> dict[str, Any]:
    points = points_of(run)
    axes = list(dict.fromkeys(point.axis for point in points))
    figures = [
        {"axis": axis, "figure": _vector(sweep_figure([point for point in points if point.axis == axis]))}
        for axis in axes
    ]
    table = [line.split(" | ") for line in sweep_text(points, "markdown").replace("| ", "", 1).splitlines()]
    cells = [[cell.strip("| ") for cell in line] for line in table]
    return {
        "name": run.title,
        "held": run.held,
        "figures": figures,
        "head": cells[0],
        "rows": cells[2:],
        "notes": uneven(points),
    }


def _galleries(runs: Sequence[Run], extremes: Mapping[str, Sequence[Extreme]]) -> list[dict[str, Any]]:
    found = []
    shown = set()
    for run in runs:
        own = extremes.get(str(run.folder), ())
        for model in dict.fromkeys(extreme.model for extreme in own):
            picked = [extreme for extreme in own if extreme.model == model]
            same = (model, tuple((extreme.probe, round(extreme.cr, 6)) for extreme in picked))
            if same in shown:
                continue
            shown.add(same)
            cards = [_card(extreme) for extreme in picked]
            found.append({"run": run.title, "model": short_labels([model])[0], "cards": cards})
    return found


def _card(extreme: Extreme) -> dict[str, Any]:
    low, high = float(np.nanmin(extreme.maps)), float(np.nanmax(extreme.maps))
    height, width = extreme.images.shape[1:3]
    return {
        "probe": extreme.probe,
        "cr": f"{extreme.cr:.3f}",
        "caption": extreme.caption,
        "images": [_picture(image) for image in extreme.images],
        "maps": [_picture(_coloured(values, low, high)) for values in extreme.maps],
        "range": f"{low:z.2f} to {high:z.2f}",
        "left": f"{100 * (extreme.point[0] + 0.5) / width:.2f}%",
        "top": f"{100 * (extreme.point[1] + 0.5) / height:.2f}%",
    }


def _coloured(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    span = high - low or 1.0
    shown = colormaps[MAPS[0]].with_extremes(bad="0.55")(np.ma.masked_invalid((values - low) / span))
    return (np.asarray(shown)[..., :3] * 255).round().astype(np.uint8)


def _run(run: Run) -> dict[str, Any]:
    models = [
        {
            "name": f"{measurement.name}, {place[0]} {place[1]}" if place else measurement.name,
            "warnings": measurement.warnings,
            "controls": controls_line(measurement),
            "provenance": json.dumps(measurement.provenance, indent=1),
        }
        for measurement, place in zip(run.measurements, run.places, strict=True)
    ]
    control = [measurement.summary.cr for measurement in run.measurements if measurement.name == CONTROL_ROW]
    return {
        "name": run.title,
        "command": run.command,
        "failures": run.failures,
        "models": models,
        "control": f"{control[0]:.6f}" if control else None,
        "differences": difference_lines(run.differences)[1:],
    }


def _vector(figure: Figure) -> str:
    stream = io.BytesIO()
    # As a picture of its own: names inside one SVG cannot clash with those of another.
    with figure_rc(**{"svg.hashsalt": "couplingkit"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _picture(rgb: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    imsave(stream, rgb, format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
