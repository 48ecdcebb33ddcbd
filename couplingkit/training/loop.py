"""A recipe and a corpus in, a run folder out: steps, logs, checkpoints, and an exact way to go on after a stop."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import ArgumentError, OutputError, first_line
from ..features.speeding import repeated_blocks
from ..files import write_text
from ..processes import START_METHOD
from ..typed_files import as_record, read_text
from .callbacks import Watch
from .checkpoint import (
    RunRecord,
    check_corpus,
    checkpoints_of,
    prune,
    read_checkpoint,
    write_branches,
    write_checkpoint,
    write_run_record,
)
from .corpus import Corpus
from .engine import (
    float32_products,
    leave_signals_alone,
    open_engine,
    own_part,
    run_log,
    stop_requests,
    synchronise_norms,
)
from .feed import fed
from .method import Method, Progress
from .optimizers import build_optimizer
from .outcome import steps_ahead
from .proposals import Proposals
from .recipe import Recipe, build_method, recipe_toml
from .recomputing import recompute_blocks
from .starting import check_start, load_start
from .step import Running, advance
from .step_log import StepLog
from .views import Collation, CropDataset, StepSampler

__all__ = ["TrainSettings", "train"]


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
    """Train a method; return the last checkpoint.

    The run folder gets recipe.toml, run.json, metrics.jsonl (one line per step) and checkpoints. At SIGTERM and Ctrl-C
    a checkpoint is written before the run ends.

    Args:
        recipe: all settings of the method.
        corpus: the images.
        out: the run folder.
        settings: where and how it is run.
        proposals: boxes of the images, for a plain method that wants some; RCC's over the whole image without any.
        watch: what looks at the run, in the first process.

    Raises:
        ArgumentError: the batch does not divide among the processes, or exceeds the corpus.
        MeasurementError: a loss is not finite, or too many images are broken.
        OutputError: a checkpoint cannot be written or read.
    """
    running, done = _opened(recipe, corpus, out, settings, proposals, watch or Watch())
    engine, first, count = running.engine, running.first, running.count
    steps, seed = recipe.run.steps, recipe.run.seed
    sampler = StepSampler(
        len(corpus), batch=recipe.run.batch_size, seed=seed, first=first, count=count, start=done, steps=steps
    )
    if engine.is_main_process and (not done or _is_lengthened(running)):
        _begin(running, corpus, {**settings.record, "boxes": proposals.digest() if proposals is not None else None})
    # A run that was stopped may have been stopped before this look.
    _look(running, done)
    shown = settings.progress and engine.is_main_process
    with (
        float32_products(recipe.run.precision),
        stop_requests() as asked,
        run_log(out, done, engine.is_main_process) as write,
        tqdm(total=steps, initial=done, desc=recipe.name, unit="step", disable=not shown) as bar,
        StepLog(running, write, bar) as log,
    ):
        for step, sample in enumerate(fed(_loader(running, corpus, sampler, proposals), engine.device), done):
            log.images_read()
            log.add(advance(running, sample, Progress(step, steps, sampler.per_epoch), done, asked=bool(asked)))
            saved = step + 1 == steps or (step + 1) % recipe.run.checkpoint_every == 0
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


def _opened(
    recipe: Recipe, corpus: Corpus, out: Path, settings: TrainSettings, proposals: Proposals | None, watch: Watch
) -> tuple[Running, int]:
    """Return a run with its networks and its optimizer, and how many steps it has made."""
    engine = open_engine(recipe, settings.device)
    first, count = own_part(recipe, engine)
    method = build_method(recipe).train()
    check_start(recipe)
    synchronise_norms(method, engine)
    if recipe.start.model and not checkpoints_of(out):
        load_start(method, recipe)
    fused = engine.device.type == "cuda"
    optimizer = build_optimizer(method, recipe.optimizer, fused=fused)
    done = 0
    if settings.resume:
        check_corpus(out, corpus, proposals)
        done = _resumed(out, method, optimizer)
        for group in optimizer.param_groups:
            # As this machine likes it, and not the one that the checkpoint comes from.
            group.update({"fused": fused or None} if "fused" in group else {})
    elif checkpoints_of(out):
        raise ArgumentError(f"out {out} holds checkpoints of another run; choose another, or resume that one.")
    if recipe.run.gradient_checkpointing:
        recompute_blocks(_blocks_to_recompute(method))
    if recipe.run.compile:
        # The repeated blocks, in place: the names of the weights stay as they are.
        for block in method.blocks():
            block.compile()
    model, prepared = engine.prepare(method, optimizer)
    return Running(engine, recipe, out, method, model, prepared, watch, first, count), done


def _blocks_to_recompute(method: Method) -> list[nn.Module]:
    blocks = [block for network in method.branches().values() for block in repeated_blocks(network)]
    if not blocks:
        raise ArgumentError(
            "run.gradient_checkpointing needs a network of blocks that repeat, and there are none here."
        )
    return blocks


def _is_lengthened(running: Running) -> bool:
    """Return whether a run that is resumed is to have another length than its recipe.toml says."""
    return read_text(running.out / "recipe.toml", "recipe") != recipe_toml(running.recipe)


def _begin(running: Running, corpus: Corpus, record: Mapping[str, Any]) -> None:
    recipe, out = running.recipe, running.out
    write_text(out / "recipe.toml", recipe_toml(recipe))
    said = {"method": recipe.name, "corpus": corpus.describe(), "processes": running.engine.num_processes, **record}
    write_run_record(out, as_record(json.loads(json.dumps(said)), RunRecord, "run.json"))


def _loader(running: Running, corpus: Corpus, sampler: StepSampler, proposals: Proposals | None) -> DataLoader[Any]:
    recipe, workers = running.recipe, running.recipe.run.workers
    shapes = [torch.empty(0, 3, view.size, view.size) for view in recipe.views]
    cutouts = tuple(running.method.cutouts(shapes))
    # The regions of an X-D are RCC's.
    boxes = None if recipe.decoupled else proposals
    return DataLoader(
        CropDataset(
            corpus,
            recipe.augmentation,
            seed=recipe.run.seed,
            proposals=boxes,
            # A device changes the colours of a whole batch in less time than all workers together.
            coloured=running.engine.device.type == "cpu",
        ),
        batch_sampler=sampler,
        collate_fn=Collation(cutouts, recipe.run.seed, running.first, recipe.run.batch_size),
        num_workers=workers,
        pin_memory=running.engine.device.type == "cuda",
        # Its own, or making an iterator would draw from the global one.
        generator=torch.Generator().manual_seed(recipe.run.seed),
        multiprocessing_context=START_METHOD if workers else None,
        worker_init_fn=leave_signals_alone if workers else None,
    )


def _resumed(out: Path, method: Method, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint that is whole; return the steps that it has made."""
    found = checkpoints_of(out)
    if not found:
        # It was stopped before its first checkpoint; the same seed makes the same steps.
        return 0
    refusals = []
    for folder in reversed(found):
        try:
            done, state = read_checkpoint(folder, method)
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
        write_checkpoint(running.out, done, running.recipe, running.method, state)
        prune(running.out, running.recipe.run.keep_every)
    running.engine.wait_for_everyone()


def _look(running: Running, done: int) -> None:
    """Let the watch look at the evaluated network as a file, in the first process; the others wait."""
    if not running.watch.due(done, running.recipe.run.steps):
        return
    if running.engine.is_main_process:
        # What looks at it measures in float32, whatever the recipe's products may be.
        with float32_products("float32"), tempfile.TemporaryDirectory(prefix=".look.", dir=running.out) as folder:
            write_branches(Path(folder), running.recipe, running.method)
            running.watch.look(done, Path(folder) / f"{running.method.evaluated}.safetensors")
    running.engine.wait_for_everyone()
