"""The state of a run in, a folder that can be resumed and measured out; never half of one."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError, OutputError, first_line
from ..features.identity import StepRecord
from ..features.own_format import BackboneHeader, save_backbone
from ..files import new_folder, write_text
from ..typed_files import Record, json_text, made_by, read_json
from .corpus import Corpus
from .job import Job
from .method import Method
from .objective import Objective
from .proposals import Proposals
from .recipe import Recipe

__all__ = [
    "CHECKPOINTS",
    "RunRecord",
    "check_corpus",
    "checkpoints_of",
    "last_step",
    "prune",
    "read_checkpoint",
    "read_run_record",
    "write_branches",
    "write_checkpoint",
    "write_run_record",
]

CHECKPOINTS, RUN = "checkpoints", "run.json"
KEPT = 2


def write_checkpoint(out: Path, step: int, job: Job, objective: Objective, optimizer: Mapping[str, Any]) -> Path:
    """Write `checkpoints/step-NNNNNNNN`: the networks as models, and the rest of the state beside them.

    Args:
        out: the run folder.
        step: steps that are done.
        job: of the run.
        objective: its networks.
        optimizer: its state.

    Raises:
        OutputError: the disk refuses; older checkpoints are as they were.
    """
    folder = out / CHECKPOINTS / f"step-{step:08d}"
    with new_folder(folder, overwrite=True) as draft:
        job.write_networks(draft, objective)
        state = {"step": step, "method": objective.state_dict(), "optimizer": dict(optimizer)}
        try:
            torch.save(state, draft / "state.pt")
        except RuntimeError as error:
            # So torch says that the disk is full.
            raise OSError(f"{first_line(error)}; is the disk full?") from error
        said = StepRecord(step=step, method=job.name, evaluated=job.evaluated)
        write_text(draft / "step.json", json_text(said))
    return folder


def write_branches(folder: Path, recipe: Recipe, method: Method) -> None:
    """Write the backbones of a method's networks as `BRANCH.safetensors`, which `load_backbone` reads."""
    settings = asdict(recipe.method)
    for branch, backbone in method.branches().items():
        header = BackboneHeader(
            architecture=settings["architecture"],
            settings=settings["options"],
            mean=settings["mean"],
            std=settings["std"],
            norm_trained=method.norm_trained,
            branch=branch,
            method=recipe.name,
        )
        save_backbone(folder / f"{branch}.safetensors", backbone.state_dict(), header)


def checkpoints_of(out: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    return sorted(path.parent for path in (out / CHECKPOINTS).glob("step-*/step.json"))


def last_step(out: Path) -> int:
    """Return the steps that the last checkpoint of a run holds, 0 without one."""
    found = checkpoints_of(out)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def read_checkpoint(folder: Path, objective: Objective) -> tuple[int, dict[str, Any]]:
    """Load the networks of a checkpoint into `objective`; return the steps that are done and the optimizer's state.

    Raises:
        OutputError: it cannot be read, or is of another method.
    """
    try:
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        step, optimizer = int(state["step"]), dict(state["optimizer"])
        objective.load_state_dict(state["method"])
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise OutputError(
            f"checkpoint {folder} cannot be resumed ({first_line(error)}); is it of this recipe?"
        ) from error
    return step, optimizer


def prune(out: Path, keep_every: int) -> None:
    """Delete checkpoints but the last two and, where `keep_every` is not 0, those at its multiples."""
    found = checkpoints_of(out)
    for folder in found[:-KEPT]:
        step = int(folder.name.removeprefix("step-"))
        if not keep_every or step % keep_every:
            shutil.rmtree(folder, ignore_errors=True)


class RunRecord(Record, frozen=True):
    """What run.json says of a run.

    Attributes:
        method: like `ibot-d`.
        corpus: what tells its images from others.
        processes: that began it.
        data, images, proposals: the words that named them.
        boxes: what tells its proposals from others.
        watched: how it is looked at while it trains.
        started: the files of the model that it began with, with their digests.
    """

    method: str
    corpus: dict[str, Any]
    processes: int = 1
    data: str = ""
    images: str | None = None
    proposals: str | None = None
    boxes: str | None = None
    watched: dict[str, Any] = made_by(default_factory=dict)
    started: dict[str, str] = made_by(default_factory=dict)


def read_run_record(run: Path) -> RunRecord:
    """Read run.json of a run folder.

    Raises:
        ArgumentError: it is no run folder, or not whole.
    """
    if not (run / RUN).is_file():
        raise ArgumentError(f"run {run} is no run folder of couplingkit: it has no {RUN}.")
    return read_json(run / RUN, RunRecord, "run", error=ArgumentError)


def write_run_record(run: Path, record: RunRecord) -> None:
    """Write run.json of a run folder."""
    write_text(run / RUN, json_text(record))


def check_corpus(run: Path, corpus: Corpus, proposals: Proposals | None = None) -> None:
    """Raise `ArgumentError` if a run was begun on other images: its batches would not be the same any more."""
    said = read_run_record(run)
    if said.boxes != (proposals.digest() if proposals is not None else None):
        raise ArgumentError(f"run {run} was begun with other proposals, and cannot go on with these.")
    if said.corpus != json.loads(json.dumps(corpus.describe())):
        raise ArgumentError(f"run {run} was begun on {said.corpus}, and cannot go on with {corpus.describe()}.")
