"""What `train` and `train-pair` are asked for in, a training run made or gone on with out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, listed
from ..features.identity import model_digests
from ..files import check_place
from ..training.checkpoint import RunRecord, check_corpus, last_step, read_run_record
from ..training.corpus import Corpus, open_corpus
from ..training.proposals import Proposals, read_proposals
from ..training.recipe import Recipe, different_keys, read_recipe
from ..training.registry import SUFFIX, has_decoupled
from ..training.starting import starting_from
from ..typed_files import as_record
from ..words import as_path
from .learning import WatchSettings, read_curve, watching

__all__ = ["TrainRequest", "is_done", "new_training", "pair_recipes", "resumed_training", "run_training"]

log = logging.getLogger(__name__)
RECIPE = "recipe.toml"


@dataclass(frozen=True)
class TrainRequest:
    """A training run as it is asked for.

    Attributes:
        recipe: all settings of the method.
        out: the run folder.
        data: words that name the images.
        images: folder of the photos, where the data is a JSON.
        proposals: file of boxes.
        watch: how it is looked at.
        resume: whether the folder holds what there is of it already.
    """

    recipe: Recipe
    out: Path
    data: str
    images: str | None = None
    proposals: str | None = None
    watch: WatchSettings = field(default_factory=WatchSettings)
    resume: bool = False

    def corpus(self) -> Corpus:
        """Open its images."""
        return open_corpus(self.data, images=self.images, seed=self.recipe.run.seed)


def new_training(request: TrainRequest) -> TrainRequest:
    """Return a request for a new run; of what lies at its place already, if it is this very run, how to go on.

    Raises:
        ArgumentError: another run is there.
        OutputError: the place cannot be written.
    """
    if not (request.out / RECIPE).is_file():
        check_place(request.out, overwrite=False)
        return request
    begun = read_recipe(request.recipe.name, str(request.out / RECIPE))
    record = read_run_record(request.out)
    if record.method != request.recipe.name or begun != request.recipe:
        differing = different_keys(begun, request.recipe)
        longer = " (`resume` can make it longer)" if differing == ["run.steps"] else ""
        raise ArgumentError(
            f"out {request.out} holds a run of {record.method} with another recipe ({listed(differing)}); choose "
            f"another `out`, or go on with that one as it was begun{longer}."
        )
    check_corpus(request.out, request.corpus(), _boxes(request))
    return replace(request, resume=True)


def resumed_training(run: Path, method: str | None, watch: dict[str, Any], *, steps: int | None = None) -> TrainRequest:
    """Return the request that goes on with a run as it was begun.

    Args:
        run: the run folder.
        method: that the run must be of; None any.
        watch: settings of `WatchSettings` that are given anew.
        steps: to make it longer (or shorter, but no shorter than it is); schedules are those of a run of so many steps
            from here on.

    Raises:
        ArgumentError: it is no run folder, or of another method, or has made more steps.
    """
    record = read_run_record(run)
    if method not in (None, record.method):
        raise ArgumentError(f"resume {run} is a run of {record.method}, not of {method}.")
    recipe = read_recipe(record.method, str(run / RECIPE))
    if steps is not None:
        done = last_step(run)
        if steps < done:
            raise ArgumentError(f"steps must be at least the {done} that {run} has made, but is {steps}.")
        recipe = replace(recipe, run=replace(recipe.run, steps=steps))
    # The probes stay what they were, or the looks could not be compared.
    looked = as_record({**record.watched, **watch}, WatchSettings, f"run {run}: how it is watched", error=ArgumentError)
    return TrainRequest(recipe, run, record.data, record.images, record.proposals, looked, resume=True)


def run_training(
    request: TrainRequest,
    *,
    device: str = "auto",
    draw: Callable[[Path], None] | None = None,
    shown: tuple[Path, Path] | None = None,
    progress: bool = False,
) -> Path:
    """Train, or go on; return the last checkpoint.

    Args:
        request: what is asked for.
        device: where it computes.
        draw: called with the run folder after each look.
        shown: annotations and photos of the probes, in place of those that the watch names.
        progress: whether to show a bar.
    """
    # The engine takes a second to import.
    from ..training.loop import TrainSettings, train

    corpus, boxes, watch = request.corpus(), _boxes(request), request.watch
    record = RunRecord(
        method=request.recipe.name,
        corpus=json.loads(json.dumps(corpus.describe())),
        data=request.data,
        images=request.images,
        proposals=request.proposals,
        watched=asdict(watch),
        started=_started(request),
    )
    said = {name: getattr(record, name) for name in ("data", "images", "proposals", "watched", "started")}
    if shown is not None:
        watch = replace(watch, probe_annotations=str(shown[0]), probe_images=str(shown[1]))
    settings = TrainSettings(device=device, resume=request.resume, record=said, progress=progress)
    with watching(request.out, last_step(request.out), watch, device=device, draw=draw) as look:
        return train(request.recipe, corpus, request.out, settings, proposals=boxes, watch=look)


def _started(request: TrainRequest) -> dict[str, str]:
    """Return the files of the model that a run began with, with their digests, as they were then.

    Raises:
        ArgumentError: it has to begin once more, and the model is another one by now.
    """
    model, run = request.recipe.start.model, request.out
    if not model:
        return {}
    if not (run / RECIPE).is_file():
        return model_digests(model)
    stored = read_run_record(run).started
    if not last_step(run) and stored != model_digests(model):
        raise ArgumentError(f"run {run} began with {model}, which has changed since; choose another `out`.")
    return stored


def _boxes(request: TrainRequest) -> Proposals | None:
    """Return the proposals of a run that wants some; say where its boxes come from otherwise."""
    recipe, given = request.recipe, request.proposals
    wanted = recipe.augmentation.boxes > 0
    if given is not None and not wanted:
        raise ArgumentError(f"`proposals` is for soco; {recipe.name} has no boxes.")
    if given is not None and recipe.decoupled:
        raise ArgumentError(f"`proposals` is for soco; the boxes of {recipe.name} are RCC's.")
    if given is not None:
        return read_proposals(as_path(given), request.corpus())
    if wanted and not recipe.decoupled:
        log.info("No `proposals`: objects are RCC's boxes over the whole image, not selective search's.")
    return None


def is_done(request: TrainRequest) -> bool:
    """Return whether a run has made its steps and, where it is looked at, its last look."""
    done = last_step(request.out)
    looked = not request.watch.probe_every or any(line["step"] == done for line in read_curve(request.out))
    return done == request.recipe.run.steps and looked


def pair_recipes(
    method: str, recipe: str | None, changes: Sequence[str], seeds: range, *, start: str | None = None
) -> list[Recipe]:
    """Return the recipes of X and X-D for each seed, in turn; all of them start from a model, where one is named.

    Raises:
        ArgumentError: the method is decoupled already, or has no decoupled version.
    """
    if method.endswith(SUFFIX):
        raise ArgumentError(f"method {method!r} is the decoupled one already; name the plain one of the pair.")
    if not has_decoupled(method):
        raise ArgumentError(f"method {method!r} has no decoupled version.")
    name = recipe or f"{method}-tiny"
    found = [
        read_recipe(method + ending, name, [*changes, f"run.seed={seed}"]) for seed in seeds for ending in ("", SUFFIX)
    ]
    return found if start is None else [starting_from(one, start) for one in found]
