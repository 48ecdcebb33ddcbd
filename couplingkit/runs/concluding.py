"""What models gave in, the run that they make out, with the differences that it states; anew where eps is another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ArgumentError, listed
from ..metrics.quantities import shown_in
from ..study.measurement import Measurement, compared, different_settings
from ..study.settings import MeasureSettings
from ..study.summarizing import summarized_again
from .models import CONTROL_ROW
from .records import PairedDifference, Run
from .writing import command_line

__all__ = ["concluded", "concluded_again", "relabelled"]

log = logging.getLogger(__name__)
CONTROLS = "control:"


def concluded(measurements: Sequence[Measurement], failures: Sequence[str]) -> Run:
    """Return the run that measurements on the same probes make, the control row last among them."""
    places = (None,) * len(measurements)
    differences = tuple(_differences_to_first(measurements))
    return Run(tuple(measurements), places, tuple(failures), differences, command=command_line())


def concluded_again(run: Run, **changes: Any) -> Run:
    """Return a run with other settings of what is made of its rows: eps, level, resamples; its rows stay.

    Raises:
        ArgumentError: a change needs other rows.
    """
    measurements = tuple(
        summarized_again(measurement, replace(MeasureSettings(**measurement.provenance["settings"]), **changes))
        for measurement in run.measurements
    )
    differences = () if run.swept else tuple(_differences_to_first(measurements))
    return replace(run, measurements=measurements, differences=differences, command=command_line(), fresh=True)


def relabelled(runs: Sequence[Run], labels: Sequence[str]) -> list[Run]:
    """Return runs whose models are called by labels, one per model of each run in their order; none: as they are.

    Raises:
        ArgumentError: there are more or fewer labels than models, or two alike.
    """
    if not labels:
        return list(runs)
    names = [list(dict.fromkeys(one.name for one in run.measurements if one.name != CONTROL_ROW)) for run in runs]
    count = sum(map(len, names))
    if len(labels) != count:
        raise ArgumentError(f"`label` must be given once per model of the runs, {count} times, but came {len(labels)}.")
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ArgumentError(f"label {twice[0]!r} is given twice; give each model another one.")
    given = iter(labels)
    found = []
    for run, of_run in zip(runs, names, strict=True):
        new = {name: next(given) for name in of_run}
        measurements = [
            replace(one, name=new.get(one.name, one.name), rows=one.rows.assign(model=new.get(one.name, one.name)))
            for one in run.measurements
        ]
        differences = [
            replace(gap, first=new.get(gap.first, gap.first), second=new.get(gap.second, gap.second))
            for gap in run.differences
        ]
        found.append(replace(run, measurements=tuple(measurements), differences=tuple(differences)))
    return found


def _differences_to_first(measurements: Sequence[Measurement]) -> Iterator[PairedDifference]:
    """Yield the paired difference of every model to the first, the control row and what is unlike left out."""
    main = shown_in("compared")[0]
    first, *others = measurements
    seed = first.provenance["probes"]["seed"]
    for other in others:
        # At very different strides two models may have no measured probe in common; there is nothing to pair then.
        common = first.rows["measured"].to_numpy() & other.rows["measured"].to_numpy()
        if other.name == CONTROL_ROW or not common.any():
            continue
        unlike = different_settings(first, other)
        if unlike and other.name.startswith(CONTROLS):
            # A network of known coupling has an input of its own, and is no rival of the others.
            continue
        if unlike:
            told = f"{other.name} and {first.name} were measured with other settings: {listed(unlike.values())}"
            log.warning("No difference: %s; `compare` pairs them where that is meant.", told)
            continue
        gap = compared(other, first, main.name, seed=seed)
        yield PairedDifference(other.name, first.name, main.name, gap.estimate, gap.probes, gap.below)
