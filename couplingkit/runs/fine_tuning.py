"""Names of models, a recipe and photos in, what they score once a detector is trained on them out; a run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..data.detection_data import DetectionData, detection_halves_of, open_detection_data
from ..data.labelled_data import LabelledData, halves_of, open_labelled_data
from ..errors import ArgumentError, CouplingKitError
from ..evaluation.chunks import Chunks
from ..evaluation.scores import Evaluation, score_gaps
from ..features.backbone import NetworkBackbone
from ..features.layered import LayeredBackbone
from ..processes import ALONE, Processes
from ..training.checkpoint import checkpoints_of
from ..training.loop import TrainSettings, run_job
from ..transfer.jobs import FineTuneJob, Pretrained
from ..transfer.recipe import FineTuneRecipe
from ..transfer.scoring import FineTuneSettings, ScoredTask, scored_task
from ..version import __version__
from .evaluating import EvaluationPlace, random_partner
from .evaluation_files import EvaluationRun, read_evaluations, write_evaluations
from .measuring import RunPlace, as_choices, described, taken_place
from .models import ModelChoice, each_model
from .workspace import Workspace
from .writing import Writer, command_line

__all__ = ["fine_tune_models", "fine_tuning_data"]

RUN = "run"
# Of a training run, what stays beside the scores.
KEPT = ("recipe.toml", "metrics.jsonl")


def fine_tuning_data(
    task: str, words: str | None, *, annotations: Path | None = None, images: Path | None = None
) -> DetectionData | LabelledData:
    """Return the photos that a task is trained and scored on.

    Args:
        task: detect or segment.
        words: as of `open_detection_data` or of `open_labelled_data`, whose errors it raises.
        annotations, images: in their place an instances JSON and its photos, which are halved.

    Raises:
        ArgumentError: both are given, or neither.
    """
    if (words is None) == (annotations is None or images is None) or (words and (annotations or images)):
        raise ArgumentError("give either `data` (like scenes:600+200), or `annotations` and `images`.")
    if words is not None:
        return open_detection_data(words) if task == "detect" else open_labelled_data(words)
    assert annotations is not None
    assert images is not None
    return detection_halves_of(annotations, images) if task == "detect" else halves_of(annotations, images)


@dataclass(frozen=True)
class _Work:
    """What is done with each network."""

    recipe: FineTuneRecipe
    data: DetectionData | LabelledData
    settings: FineTuneSettings
    workspace: Workspace
    processes: Processes
    device: str
    partners: dict[str, ModelChoice] = field(default_factory=dict)
    runs: dict[str, Path] = field(default_factory=dict)

    def on(self, network: LayeredBackbone) -> list[Evaluation]:
        """Return the evaluations of a network, and note which random network stands beside it."""
        partner = random_partner(network)
        if partner is not None:
            self.partners.setdefault(partner.title, partner)
        layer = network.layers[0]
        if not isinstance(layer, NetworkBackbone) or not str(layer.facts.get("source", "")).startswith("timm"):
            raise ArgumentError(
                f"{network.name} is no network of timm's; those, and files that are read as one, can be fine-tuned."
            )
        facts = layer.provenance()
        task = scored_task(self.recipe, self.data)
        for seed in self.settings.seeds:
            self._one(network, Pretrained(layer.network, layer.mean, layer.std, facts), task, seed)
        return task.concluded(network.name, facts, self.settings)

    def _one(self, network: LayeredBackbone, model: Pretrained, task: ScoredTask, seed: int) -> None:
        """Train with one seed, or go on, and note what it finds on the test photos."""
        recipe = replace(self.recipe, run=replace(self.recipe.run, seed=seed))
        folder = self.workspace.folder(described(network), self.data.identity(), recipe.tables())
        job = task.job(recipe, model)
        self.runs[f"{network.name}-seed{seed}"] = folder / RUN
        self._trained(job, folder / RUN)
        task.test(
            job,
            checkpoints_of(folder / RUN)[-1],
            seed,
            chunks=Chunks(folder),
            processes=self.processes,
            device=self.device,
        )

    def _trained(self, job: FineTuneJob, run: Path) -> None:
        begun = self.processes.only_first(lambda: (run / "run.json").is_file())
        done = self.processes.only_first(lambda: _is_done(run, job.run.steps))
        if not done:
            settings = TrainSettings(self.device, resume=begun, progress=True)
            run_job(job, run, settings)


def _is_done(run: Path, steps: int) -> bool:
    found = checkpoints_of(run)
    return bool(found) and int(found[-1].name.removeprefix("step-")) == steps


def fine_tune_models(
    models: Sequence[str | ModelChoice],
    recipe: FineTuneRecipe,
    data: DetectionData | LabelledData,
    settings: FineTuneSettings = FineTuneSettings(),  # noqa: B008 - frozen
    *,
    place: EvaluationPlace,
    processes: Processes = ALONE,
    device: str = "auto",
) -> EvaluationRun:
    """Train a head on each model, with each seed, and score it; a random network of each architecture at the end.

    A model that fails does not stop the others. Whoever calls it again with the same arguments goes on where it
    stopped, bit for bit; a finished run is read back.

    Args:
        models: names as `load_backbone` takes them, or choices with options and labels of their own.
        recipe: what is built on them, and how it learns.
        data: photos to learn from and photos to be scored on.
        settings: seeds and intervals.
        place: where the run is written.
        processes: that share the work; `join_processes` gives those of torchrun.
        device: where it computes.

    Raises:
        CouplingKitError: not one model could be scored, or the place is taken.
    """
    # Weights that are rounded for reading cannot learn.
    choices = [
        replace(choice, options=replace(choice.options, precision="float32", compile=False))
        for choice in as_choices(models)
    ]
    scored_task(recipe, data)
    identity = _identity(choices, recipe, data, settings)
    with taken_place(RunPlace(place.out, place.overwrite), identity, processes, read_evaluations) as taken:
        if isinstance(taken, EvaluationRun):
            return taken
        work = _Work(recipe, data, settings, taken, processes, device)
        run = replace(_evaluated(choices, work), identity=identity)
        if processes.first:
            files = {**_kept_files(work.runs), **place.draw(run)}
            write_evaluations(place.out, run, files=files, overwrite=place.overwrite or taken.replaces)
            if not run.failures:
                taken.close()
        return replace(run, folder=place.out)


def _evaluated(choices: Sequence[ModelChoice], work: _Work) -> EvaluationRun:
    found, failures = each_model(choices, work.on, alone=len(choices) == 1, processes=work.processes)
    if not found:
        raise CouplingKitError(f"no model could be fine-tuned: {' '.join(failures)}")
    named = {choice.title for choice in choices} | {one.name for one in found}
    beside = [partner for title, partner in work.partners.items() if title not in named]
    rows, lost = each_model(beside, work.on, processes=work.processes, quiet=True)
    every = [*found, *rows]
    first: dict[str, Evaluation] = {}
    gaps = [
        gap for one in every if first.setdefault(one.task, one) is not one for gap in score_gaps(one, first[one.task])
    ]
    return EvaluationRun(tuple(every), tuple(gaps), tuple(failures + lost), command=command_line())


def _kept_files(runs: Mapping[str, Path]) -> dict[str, Writer]:
    """Return what copies the log, the recipe and the networks of each training run."""
    files: dict[str, Writer] = {}
    for name, run in runs.items():
        folder = "training/" + "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        if (run / "run.json").is_file() and checkpoints_of(run):
            sources = [run / kept for kept in KEPT]
            sources += [checkpoints_of(run)[-1] / kept for kept in ("backbone.safetensors", "trained.pt")]
            for source in sources:
                files[f"{folder}/{source.name}"] = partial(_copied, source)
    return files


def _copied(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)


def _identity(
    choices: Sequence[ModelChoice],
    recipe: FineTuneRecipe,
    data: DetectionData | LabelledData,
    settings: FineTuneSettings,
) -> dict[str, Any]:
    """Return what decides a run's results, as JSON values; files by their content."""
    said = {
        "couplingkit": __version__,
        "models": [choice.identity() for choice in choices],
        "task": recipe.task,
        "recipe": recipe.tables(),
        "data": data.identity(),
        "settings": asdict(settings),
    }
    plain: dict[str, Any] = json.loads(json.dumps(said))
    return plain
