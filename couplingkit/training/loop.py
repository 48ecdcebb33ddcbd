"""A job in, its run folder out: steps, logs, checkpoints, and an exact way to go on after a stop."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ..errors import ArgumentError, OutputError, first_line
from ..features.speeding import repeated_blocks
from ..files import write_text
from ..typed_files import as_record, read_text
from .batch import Progress
from .callbacks import Watch
from .checkpoint import (
    RunRecord,
    checkpoints_of,
    prune,
    read_checkpoint,
    write_checkpoint,
    write_run_record,
)
from .corpus import Corpus
from .engine import float32_products, open_engine, run_log, stop_requests, synchronise_norms
from .feed import fed
from .job import Job, Place
from .method_job import MethodJob
from .objective import Objective
from .optimizers import build_optimizer
from .outcome import steps_ahead
from .proposals import Proposals
from .recipe import Recipe
from .recomputing import recompute_blocks
from .step import Running, advance
from .step_log import StepLog

__all__ = ["TrainSettings", "run_job", "train"]


@dataclass(frozen=True)
class TrainSettings:
    """Where and how a recipe is run.

    Attributes:
        device: auto, cpu or cuda.
        resume: go on from the last checkpoint of the run folder, or begin it anew where it has none yet. With another
            number of processes the same images make the same batches; sums are rounded otherwise, and stochastic depth
            draws otherwise.
        record: what run.json is to say of where the images come from and how the run is looked at.
        progress: whether to show a bar.
    """

    device: str = "auto"
    resume: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    settings: TrainSettings = TrainSettings(),
    *,
    proposals: Proposals | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train a method; return the last checkpoint; see `run_job`.

    Args:
        recipe: all settings of the method.
        corpus: the images.
        out: the run folder.
        settings: where and how it is run.
        proposals: boxes of the images, for a plain method that wants some; RCC's over the whole image without any.
        watch: what looks at the run, in the first process.
    """
    return run_job(MethodJob(recipe, corpus, proposals), out, settings, watch=watch)


def run_job(job: Job, out: Path, settings: TrainSettings = TrainSettings(), *, watch: Watch | None = None) -> Path:
    """Make all steps of a job; return the last checkpoint.

    The run folder gets recipe.toml, run.json, metrics.jsonl (one line per step) and checkpoints. At SIGTERM and Ctrl-C
    a checkpoint is written before the run ends.

    Args:
        job: what is trained, on what.
        out: the run folder.
        settings: where and how it is run.
        watch: what looks at the run, in the first process.

    Raises:
        ArgumentError: the batch does not divide among the processes, or exceeds the images.
        MeasurementError: a loss is not finite, or too many images are broken.
        OutputError: a checkpoint cannot be written or read.
    """
    running = _opened(job, out, settings, watch or Watch())
    engine, done, steps = running.engine, running.place.start, job.run.steps
    per_epoch = job.sampler(running.place).per_epoch
    if engine.is_main_process and (not done or _is_lengthened(running)):
        _begin(running, settings.record)
    # A run that was stopped may have been stopped before this look.
    _look(running, done)
    shown = settings.progress and engine.is_main_process
    with (
        float32_products(job.run.precision),
        stop_requests() as asked,
        run_log(out, done, engine.is_main_process) as write,
        tqdm(total=steps, initial=done, desc=job.name, unit="step", disable=not shown) as bar,
        StepLog(running, write, bar) as log,
    ):
        for step, sample in enumerate(fed(job.loader(running.objective, running.place), engine.device), done):
            log.images_read()
            log.add(advance(running, sample, Progress(step, steps, per_epoch), done, asked=bool(asked)))
            saved = step + 1 == steps or (step + 1) % job.run.checkpoint_every == 0
            # What is saved or looked at was found finite first.
            whole = saved or running.watch.due(step + 1, steps)
            stop = log.settle(0 if whole else steps_ahead(engine.device))
            if stop:
                log.settle()
            if saved or stop:
                _save(running, step + 1)
            if stop:
                raise KeyboardInterrupt
            _look(running, step + 1)
            log.begin()
    return checkpoints_of(out)[-1]


def _opened(job: Job, out: Path, settings: TrainSettings, watch: Watch) -> Running:
    """Return a run with its networks and its optimizer, as far as it has come."""
    engine = open_engine(job.run, settings.device)
    first, count = job.share(engine.process_index, engine.num_processes)
    objective = job.build().train()
    synchronise_norms(objective, engine)
    if not checkpoints_of(out):
        job.begin(objective)
    fused = engine.device.type == "cuda"
    optimizer = build_optimizer(objective, job.optimizer, fused=fused)
    done = 0
    if settings.resume:
        job.check(out)
        done = _resumed(out, objective, optimizer)
        for group in optimizer.param_groups:
            # As this machine likes it, and not the one that the checkpoint comes from.
            group.update({"fused": fused or None} if "fused" in group else {})
    elif checkpoints_of(out):
        raise ArgumentError(f"out {out} holds checkpoints of another run; choose another, or resume that one.")
    if job.run.gradient_checkpointing:
        recompute_blocks(_blocks_to_recompute(objective))
    if job.run.compile:
        # The repeated blocks, in place: the names of the weights stay as they are.
        for block in objective.blocks():
            block.compile()
    model, prepared = engine.prepare(objective, optimizer)
    place = Place(first, count, engine.device, done)
    return Running(engine, job, out, objective, model, prepared, watch, place)


def _blocks_to_recompute(objective: Objective) -> list[nn.Module]:
    blocks = [block for network in objective.branches().values() for block in repeated_blocks(network)]
    if not blocks:
        raise ArgumentError(
            "run.gradient_checkpointing needs a network of blocks that repeat, and there are none here."
        )
    return blocks


def _is_lengthened(running: Running) -> bool:
    """Return whether a run that is resumed is to have another length than its recipe.toml says."""
    return read_text(running.out / "recipe.toml", "recipe") != running.job.toml()


def _begin(running: Running, record: Mapping[str, Any]) -> None:
    write_text(running.out / "recipe.toml", running.job.toml())
    said = {**running.job.record(), "processes": running.engine.num_processes, **record}
    write_run_record(running.out, as_record(json.loads(json.dumps(said)), RunRecord, "run.json"))


def _resumed(out: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint that is whole; return the steps that it has made."""
    found = checkpoints_of(out)
    if not found:
        # It was stopped before its first checkpoint; the same seed makes the same steps.
        return 0
    refusals = []
    for folder in reversed(found):
        try:
            done, state = read_checkpoint(folder, objective)
        except OutputError as error:
            # The plug may have damaged the last one; the one before it is whole.
            refusals.append(error)
            continue
        try:
            optimizer.load_state_dict(state)
        except ValueError as error:
            raise OutputError(
                f"checkpoint {folder} is of another optimizer ({first_line(error)}), maybe of an older couplingkit; "
                "begin the run anew."
            ) from error
        return done
    raise refusals[0]


def _save(running: Running, done: int) -> None:
    if running.engine.is_main_process:
        state = running.optimizer.optimizer.state_dict()
        write_checkpoint(running.out, done, running.job, running.objective, state)
        prune(running.out, running.job.run.keep_every)
    running.engine.wait_for_everyone()


def _look(running: Running, done: int) -> None:
    """Let the watch look at the evaluated network as a file, in the first process; the others wait."""
    if not running.watch.due(done, running.job.run.steps):
        return
    if running.engine.is_main_process:
        # What looks at it measures in float32, whatever the recipe's products may be.
        with float32_products("float32"), tempfile.TemporaryDirectory(prefix=".look.", dir=running.out) as folder:
            running.job.write_networks(Path(folder), running.objective)
            running.watch.look(done, Path(folder) / f"{running.job.evaluated}.safetensors")
    running.engine.wait_for_everyone()
