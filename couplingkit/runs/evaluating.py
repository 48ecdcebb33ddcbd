"""Names of models, tasks and labelled photos in, a run of evaluations out; it goes on where it was stopped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..data.labelled_data import LabelledData
from ..errors import CouplingKitError
from ..evaluation.chunks import Chunks
from ..evaluation.leak import LeakingNetwork
from ..evaluation.running import evaluate
from ..evaluation.scores import Evaluation, ScoreGap, score_gaps
from ..evaluation.task import EvaluateSettings, check_tasks
from ..features.layered import LayeredBackbone
from ..features.names import BackboneOptions, as_rgb
from ..probes.probeset import ProbeSet
from ..processes import ALONE, Processes
from ..study.measurement import Measurement
from ..study.measuring import measure_layers, share_digests
from ..study.settings import MeasureSettings
from ..version import __version__
from ..words import as_path
from .concluding import concluded as concluded_run
from .evaluation_files import EvaluationRun, read_evaluations, write_evaluations
from .measuring import RunPlace, as_choices, described, taken_place
from .models import CONTROL_ROW, ModelChoice, each_model
from .workspace import Workspace
from .writing import Writer, command_line

__all__ = ["EvaluationPlace", "Leaks", "evaluate_models", "random_partner"]

log = logging.getLogger(__name__)
# What of an evaluation's settings decides speed, or only tables.
OF_TABLES = ("batch_size", "level", "resamples")
Drawing = Callable[[EvaluationRun], Mapping[str, Writer]]


def _nothing(_run: EvaluationRun) -> Mapping[str, Writer]:
    return {}


@dataclass(frozen=True)
class EvaluationPlace:
    """Where an evaluation goes.

    Attributes:
        out: its folder.
        overwrite: whether other results there may be replaced.
        draw: what else is written beside its rows.
    """

    out: Path
    overwrite: bool = False
    draw: Drawing = _nothing

    def __post_init__(self) -> None:
        # A path in words is one, too.
        object.__setattr__(self, "out", as_path(self.out))


@dataclass(frozen=True)
class Leaks:
    """Shares that are let leak in each network, one after another; 0 is the network as it is.

    Attributes:
        amounts: in [0, 1].
        reach: cells along each axis; None for the whole map.
    """

    amounts: tuple[float, ...] = (0.0,)
    reach: int | None = None

    def of(self, network: LayeredBackbone) -> list[LayeredBackbone]:
        """Return a network with each of them."""
        return [network if not one else LeakingNetwork(network, one, reach=self.reach) for one in self.amounts]


@dataclass(frozen=True)
class _Work:
    """What is done with each network."""

    tasks: Sequence[str]
    data: LabelledData
    settings: EvaluateSettings
    leaks: Leaks
    probes: ProbeSet | None
    workspace: Workspace | None
    processes: Processes
    progress: bool
    partners: dict[str, ModelChoice] = field(default_factory=dict)
    measured: list[Measurement] = field(default_factory=list)

    def on(self, network: LayeredBackbone) -> list[Evaluation]:
        """Return the evaluations of a network with all leaks, and note which random network stands beside it."""
        partner = random_partner(network)
        if partner is not None:
            self.partners.setdefault(partner.title, partner)
        return [one for variant in self.leaks.of(network) for one in self._one(variant)]

    def _one(self, network: LayeredBackbone) -> list[Evaluation]:
        chunks = None
        if self.workspace is not None:
            decides = (described(network), self.data.identity(), _of_rows(self.settings))
            chunks = Chunks(self.workspace.folder(*decides))
        found = evaluate(
            network,
            self.tasks,
            self.data,
            self.settings,
            processes=self.processes,
            chunks=chunks,
            progress=self.progress and self.processes.first,
        )
        return found + self.measure(network)

    def measure(self, network: LayeredBackbone) -> list[Evaluation]:
        """Measure a network's coupling; it is scored in nothing."""
        if self.probes is not None:
            self.measured.extend(self._coupling(network, self.probes))
        return []

    def _coupling(self, network: LayeredBackbone, probes: ProbeSet) -> list[Measurement]:
        settings, parts = MeasureSettings(batch_size=self.settings.batch_size), None
        if self.workspace is not None:
            look = (probes.manifest().identity(), probes.fingerprint())
            parts = self.workspace.parts(described(network), look, settings.of_rows())
        return measure_layers(network, probes, settings, processes=self.processes, parts=parts, progress=self.progress)


def evaluate_models(
    models: Sequence[str | ModelChoice],
    tasks: Sequence[str],
    data: LabelledData,
    settings: EvaluateSettings = EvaluateSettings(),  # noqa: B008 - frozen
    *,
    leaks: Leaks = Leaks(),
    probes: ProbeSet | None = None,
    place: EvaluationPlace | None = None,
    processes: Processes = ALONE,
) -> EvaluationRun:
    """Score models on the same photos, and a random network of each architecture at the end, with progress bars.

    A model that fails does not stop the others. With a place, what was read is kept in OUT.unfinished as it comes:
    whoever calls it again with the same arguments goes on where it stopped, and a finished run is read back.

    Args:
        models: names as `load_backbone` takes them, or choices with options and labels of their own.
        tasks: names of `TASKS`.
        data: photos to learn from and photos to be scored on.
        settings: of the tasks.
        leaks: shares that are let leak.
        probes: where coupling is to be measured on the same loaded networks, too.
        place: where the run is written; without one it is not.
        processes: that share the work; `join_processes` gives those of torchrun.

    Raises:
        CouplingKitError: not one model could be scored, or the place is taken.
    """
    choices = as_choices(models)
    check_tasks(tasks, data)
    made = partial(_Work, tasks, data, settings, leaks, probes, processes=processes, progress=True)
    if place is None:
        if processes.count > 1:
            raise CouplingKitError("several processes need a `place` for what they share; give one.")
        return _evaluated(choices, made(workspace=None))
    identity = _identity(choices, tasks, data, settings, leaks, probes)
    run_place = RunPlace(place.out, place.overwrite)
    with taken_place(run_place, identity, processes, read_evaluations) as taken:
        if isinstance(taken, EvaluationRun):
            return taken
        run = replace(_evaluated(choices, made(workspace=taken)), identity=identity)
        if processes.first:
            manifest = None if probes is None else probes.manifest()
            overwrite = place.overwrite or taken.replaces
            write_evaluations(place.out, run, probes=manifest, files=place.draw(run), overwrite=overwrite)
            if not run.failures:
                taken.close()
        return replace(run, folder=place.out)


def _evaluated(choices: Sequence[ModelChoice], work: _Work) -> EvaluationRun:
    if work.probes is not None:
        share_digests(work.probes, work.processes, progress=work.progress)
    found, failures = each_model(choices, work.on, alone=len(choices) == 1, processes=work.processes)
    if not found:
        raise CouplingKitError(f"no model could be scored: {' '.join(failures)}")
    named = {choice.title for choice in choices} | {one.name for one in found}
    beside = [partner for title, partner in work.partners.items() if title not in named]
    if work.partners.keys() & named:
        log.info("A random network that was named stands for those of its architecture.")
    rows, lost = each_model(beside, work.on, processes=work.processes, quiet=True)
    if work.probes is not None and CONTROL_ROW not in named:
        control = ModelChoice(CONTROL_ROW, replace(BackboneOptions(), device=choices[0].options.device))
        each_model([control], work.measure, processes=work.processes, quiet=True)
    gaps = tuple(_gaps_to_first(found + rows))
    coupling = concluded_run(work.measured, []) if work.measured else None
    return EvaluationRun((*found, *rows), gaps, tuple(failures + lost), coupling=coupling, command=command_line())


def _gaps_to_first(evaluations: Sequence[Evaluation]) -> list[ScoreGap]:
    """Return what each model scores minus what the first one does, task by task."""
    first: dict[str, Evaluation] = {}
    gaps = []
    for one in evaluations:
        baseline = first.setdefault(one.task, one)
        if one is not baseline:
            gaps += score_gaps(one, baseline)
    return gaps


def random_partner(network: LayeredBackbone) -> ModelChoice | None:
    """Return a random network of the same architecture, read in the same way; None where there is no name for one."""
    facts = network.layers[0].provenance()
    source, architecture = str(facts.get("source", "")).split(" ")[0], facts.get("architecture")
    if source not in ("timm", "torchvision") or not architecture or ":" in str(architecture):
        return None
    if str(facts.get("weights", "")).startswith("random"):
        return None
    settings = "".join(f",{key}={value}" for key, value in facts.get("options", {}).items())
    prefix = "" if source == "timm" else f"{source}:"
    chosen = dict(facts.get("chosen", {}))
    options = _read_alike(facts, chosen)
    name = f"random:{prefix}{architecture}{settings}"
    return ModelChoice(name, options, f"random:{architecture}{_size_mark(facts)}")


def _read_alike(facts: Mapping[str, Any], chosen: Mapping[str, Any]) -> BackboneOptions:
    """Return the options that read a random network as its model is read."""
    height, width = facts["image_size"]
    device = str(facts["device"])
    return BackboneOptions(
        layer=chosen.get("layer", "last"),
        norm=chosen.get("norm"),
        image_size=(height, width),
        output_stride=chosen.get("output_stride"),
        mean=as_rgb(facts["mean"]),
        std=as_rgb(facts["std"]),
        precision=facts["precision"],
        device=device,
    )


def _size_mark(facts: Mapping[str, Any]) -> str:
    height, width = facts["image_size"]
    return f" {height} px" if height == width else f" {height}x{width} px"


def _of_rows(settings: EvaluateSettings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if name not in OF_TABLES}


def _identity(
    choices: Sequence[ModelChoice],
    tasks: Sequence[str],
    data: LabelledData,
    settings: EvaluateSettings,
    leaks: Leaks,
    probes: ProbeSet | None,
) -> dict[str, Any]:
    """Return what decides a run's results, as JSON values; files by their content."""
    said = {
        "couplingkit": __version__,
        "models": [choice.identity() for choice in choices],
        "tasks": sorted(tasks),
        "data": data.identity(),
        "settings": asdict(settings),
        "leaks": asdict(leaks),
        "coupling": None if probes is None else [probes.manifest().identity(), probes.index.sha256],
    }
    plain: dict[str, Any] = json.loads(json.dumps(said))
    return plain
