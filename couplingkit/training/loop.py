"""A recipe and a corpus in, a run folder out: steps, logs, checkpoints, and an exact way to go on after a stop."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.corpus import Corpus
from ..data.proposals import Proposals
from ..errors import ArgumentError, MeasurementError, OutputError
from ..streams import Stream
from .checkpoint import (
    check_corpus,
    checkpoints_of,
    inner_method,
    prune,
    read_checkpoint,
    write_branches,
    write_checkpoint,
)
from .engine import LogLine, leave_signals_alone, open_engine, own_part, peak_memory_gib, run_log, stop_requests
from .method import Batch, Progress
from .optimizers import build_optimizer
from .recipe import Optimizer, Recipe, build_method, recipe_toml
from .teacher import cosine, mean_over_processes, warmed_up
from .views import CropDataset, StepSampler, collate, to_unit
from .watch import Watch

__all__ = ["train"]

BROKEN_SHARE = 0.01
FEWEST_SEEN = 1000


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
    proposals: Proposals | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train a method; return the last checkpoint.

    The run folder gets recipe.toml, run.json, metrics.jsonl (one line per step) and checkpoints. At SIGTERM and Ctrl-C
    a checkpoint is written before the run ends.

    Args:
        recipe: all settings.
        corpus: the images.
        out: the run folder.
        device: auto, cpu or cuda.
        resume: go on from the last checkpoint of `out`. With another number of processes the same images make the same
            batches; sums are rounded otherwise, and stochastic depth draws otherwise.
        about: what else run.json is to say.
        progress: whether to show a bar.
        proposals: boxes of the images, for a plain method that wants some; RCC's over the whole image without any.
        watch: what looks at the run, in the first process.

    Raises:
        ArgumentError: the batch does not divide among the processes, or exceeds the corpus.
        MeasurementError: a loss is not finite, or too many images are broken.
        OutputError: a checkpoint cannot be written or read.
    """
    engine = open_engine(recipe, device)
    first, count = own_part(recipe, engine)
    method = build_method(recipe).train()
    optimizer = build_optimizer(method, recipe.optimizer)
    if resume:
        check_corpus(out, corpus, proposals)
    done = _resumed(out, method, optimizer) if resume else 0
    if not resume and checkpoints_of(out):
        raise ArgumentError(f"out {out} holds checkpoints of another run; choose another, or resume that one.")
    _compile(method, recipe)
    model, prepared = engine.prepare(method, optimizer)
    running = _Running(engine, recipe, out, method, model, prepared, watch or Watch(), first, count)
    steps, seed = recipe.run.steps, recipe.run.seed
    sampler = StepSampler(
        len(corpus), batch=recipe.run.batch_size, seed=seed, first=first, count=count, start=done, steps=steps
    )
    if engine.is_main_process and not resume:
        boxes = proposals.digest() if proposals is not None else None
        _begin(out, recipe, corpus, engine, {**(about or {}), "boxes": boxes})
    # A run that was stopped may have been stopped before this look.
    _look(running, done)
    shown = progress and engine.is_main_process
    with (
        stop_requests() as asked,
        run_log(out, done, engine.is_main_process) as log,
        tqdm(total=steps, initial=done, desc=recipe.name, unit="step", disable=not shown) as bar,
    ):
        begin = time.perf_counter()
        for step, sample in enumerate(_loader(recipe, corpus, sampler, proposals), done):
            waited = time.perf_counter() - begin
            where = Progress(step, steps, sampler.per_epoch)
            losses, stop = _advance(running, sample, where, done, asked=bool(asked))
            # The wait for the images counts: what a user sees is images per second of the whole.
            seconds = time.perf_counter() - begin
            line = _line(running, where, losses) | {"seconds": seconds, "waited": waited}
            line["images_per_s"] = recipe.run.batch_size / seconds
            log(line)
            if engine.is_main_process:
                running.watch.line(line)
            _show(bar, line, losses)
            if step + 1 == steps or stop or (step + 1) % recipe.run.checkpoint_every == 0:
                _save(running, step + 1)
            if stop:
                raise KeyboardInterrupt
            _look(running, step + 1)
            begin = time.perf_counter()
    return checkpoints_of(out)[-1]


@dataclass(frozen=True)
class _Running:
    """What a run holds on to: `model` and `optimizer` are the method and its optimizer as the engine wraps them."""

    engine: Accelerator
    recipe: Recipe
    out: Path
    method: Any
    model: nn.Module
    optimizer: Any
    watch: Watch
    first: int
    count: int
    broken: set[int] = field(default_factory=set)


def _advance(
    running: _Running, sample: dict[str, Any], where: Progress, done: int, *, asked: bool
) -> tuple[dict[str, float], bool]:
    """Make a step of what was read; return the losses, and whether a process was asked to stop."""
    running.broken.update(sample["broken"])
    _check_broken(running.broken, (where.step - done + 1) * running.count)
    losses, stop = _step(running, _parts(sample, running, where.step), where, asked=asked)
    _check_finite(losses, where.step, running.out)
    return losses, stop


def _line(running: _Running, where: Progress, losses: Mapping[str, float]) -> LogLine:
    """Return what the log says of a step."""
    rate = float(running.optimizer.param_groups[0]["lr"])
    memory = peak_memory_gib(running.engine.device)
    counted = {"broken": len(running.broken), "lr": rate, "epoch": where.epoch, "memory_gib": memory}
    return {"step": where.step, **losses, **counted}


def _show(bar: Any, line: LogLine, losses: Mapping[str, float]) -> None:
    shown = {name: f"{value:.3f}" for name, value in losses.items()} | {"images/s": f"{line['images_per_s']:.0f}"}
    if line["memory_gib"]:
        shown["GiB"] = f"{line['memory_gib']:.1f}"
    bar.update()
    bar.set_postfix(shown)


def _compile(method: nn.Module, recipe: Recipe) -> None:
    """Compile the repeated blocks of the networks in place, where the recipe asks for it; names stay as they are."""
    if recipe.run.compile:
        for block in inner_method(method).blocks():
            block.compile()


def _begin(out: Path, recipe: Recipe, corpus: Corpus, engine: Accelerator, about: Mapping[str, Any] | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.toml").write_text(recipe_toml(recipe))
    said = {"method": recipe.name, "corpus": corpus.describe(), "processes": engine.num_processes, **(about or {})}
    (out / "run.json").write_text(json.dumps(said, indent=1) + "\n")


def _loader(recipe: Recipe, corpus: Corpus, sampler: StepSampler, proposals: Proposals | None) -> DataLoader[Any]:
    workers = recipe.run.workers
    # The regions of an X-D are RCC's.
    boxes = None if recipe.decoupled else proposals
    return DataLoader(
        CropDataset(corpus, recipe.augmentation, seed=recipe.run.seed, proposals=boxes),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        # Its own, or making an iterator would draw from the global one.
        generator=torch.Generator().manual_seed(recipe.run.seed),
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=leave_signals_alone if workers else None,
    )


def _resumed(out: Path, method: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint that is whole; return the steps that it has made."""
    found = checkpoints_of(out)
    if not found:
        raise ArgumentError(f"run {out} has no checkpoint to go on from.")
    refusals = []
    for folder in reversed(found):
        try:
            done, state = read_checkpoint(folder, method)
        except OutputError as error:
            # The plug may have damaged the last one; the one before it is whole.
            refusals.append(error)
            continue
        optimizer.load_state_dict(state)
        return done
    raise refusals[0]


def _parts(sample: dict[str, Any], running: _Running, step: int) -> list[Batch]:
    """Return the batch of this process, as so many parts as the recipe accumulates gradients over."""
    recipe, device = running.recipe, running.engine.device
    crops = to_unit(sample["crops"], device)
    recoloured = to_unit(sample["recoloured"], device) if recipe.decoupled else crops
    boxes = tuple(whole.to(device) for whole in sample["boxes"])
    stream, size = Stream(recipe.run.seed).child("step", step), len(crops[0]) // recipe.run.accumulate

    def batch(begin: int) -> Batch:
        cut = [tuple(view[begin : begin + size] for view in views) for views in (crops, recoloured, boxes)]
        return Batch(cut[0], cut[1], stream, running.first + begin, recipe.run.batch_size, cut[2])

    return [batch(begin) for begin in range(0, size * recipe.run.accumulate, size)]


def _step(running: _Running, parts: Sequence[Batch], where: Progress, *, asked: bool) -> tuple[dict[str, float], bool]:
    """Make one step; return the losses, means over all processes, and whether any process was asked to stop."""
    engine, model, method, settings = running.engine, running.model, running.method, running.recipe.optimizer
    _schedule(running.optimizer, where, settings)
    method.before_step(where)
    running.optimizer.zero_grad()
    sums: dict[str, Tensor] = {}
    for place, batch in enumerate(parts):
        # What is left to the global generator (stochastic depth) depends on step, process and part alone.
        torch.manual_seed(batch.stream.child("global", engine.process_index, place).torch_seed())
        with nullcontext() if place + 1 == len(parts) else engine.no_sync(model):
            with engine.autocast():
                losses: dict[str, Tensor] = model(method.views(batch))
                total = torch.stack(list(losses.values())).sum()
            engine.backward(total / len(parts))
        for name, value in (*losses.items(), ("total", total)):
            sums[name] = sums.get(name, 0) + value.detach().float() / len(parts)
    engine.clip_grad_norm_(model.parameters(), settings.clip)
    running.optimizer.step()
    method.after_step(where)
    # All processes hear of a stop at the same step, or one would wait for the others for ever.
    said = torch.tensor(float(asked), device=engine.device)
    *means, stop = mean_over_processes(torch.stack([*sums.values(), said])).tolist()
    return dict(zip(sums, means, strict=True)), stop > 0


def _schedule(optimizer: Any, where: Progress, settings: Optimizer) -> None:
    """Set learning rate and weight decay of a step."""
    warmup = min(round(settings.warmup_epochs * where.steps_per_epoch), where.steps // 2)
    lr = warmed_up(0.0, settings.lr, settings.final_lr, step=where.step, warmup=warmup, steps=where.steps)
    decay = cosine(settings.weight_decay, settings.final_weight_decay, where.share)
    for group, weight in zip(optimizer.param_groups, (decay, 0.0), strict=True):
        group["lr"], group["weight_decay"] = lr, weight


def _check_finite(losses: dict[str, float], step: int, out: Path) -> None:
    if all(math.isfinite(value) for value in losses.values()):
        return
    found = checkpoints_of(out)
    parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
    last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    raise MeasurementError(f"step {step} lost a number that is not finite ({parts}); {last}.")


def _check_broken(broken: set[int], seen: int) -> None:
    if len(broken) > BROKEN_SHARE * max(seen, FEWEST_SEEN):
        raise MeasurementError(
            f"{len(broken)} of the first {seen} images cannot be read, more than {BROKEN_SHARE:.0%}; mend the data."
        )


def _save(running: _Running, done: int) -> None:
    if running.engine.is_main_process:
        state = running.optimizer.optimizer.state_dict()
        write_checkpoint(running.out, done, running.recipe, running.method, state)
        prune(running.out, running.recipe.run.keep_every)
    running.engine.wait_for_everyone()


def _look(running: _Running, done: int) -> None:
    """Let the watch look at the evaluated network as a file, in the first process; the others wait."""
    if not running.watch.due(done, running.recipe.run.steps):
        return
    if running.engine.is_main_process:
        with tempfile.TemporaryDirectory(prefix=".look.", dir=running.out) as folder:
            write_branches(Path(folder), running.recipe, running.method)
            evaluated = inner_method(running.method).evaluated
            running.watch.look(done, Path(folder) / f"{evaluated}.safetensors")
    running.engine.wait_for_everyone()
