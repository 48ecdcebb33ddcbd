"""A recipe and a corpus in, a run folder out: steps, logs, checkpoints, and an exact way to go on after a stop."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.corpus import Corpus
from ..errors import ArgumentError, MeasurementError
from ..features.hardware import resolve_device
from ..streams import Stream
from .checkpoint import checkpoints_of, prune, read_checkpoint, write_checkpoint
from .method import Batch, Progress
from .recipe import Optimizer, Recipe, build_method, recipe_toml
from .teacher import cosine, mean_over_processes, warmed_up
from .views import CropDataset, StepSampler, collate, to_unit

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
) -> Path:
    """Train a method; return the last checkpoint.

    The run folder gets recipe.toml, run.json, metrics.jsonl (one line per step) and checkpoints. At SIGTERM and Ctrl-C
    a checkpoint is written before the run ends.

    Args:
        recipe: all settings.
        corpus: the images.
        out: the run folder.
        device: auto, cpu or cuda.
        resume: go on from the last checkpoint of `out`.
        about: what else run.json is to say.
        progress: whether to show a bar.

    Raises:
        ArgumentError: the batch does not divide among the processes, or exceeds the corpus.
        MeasurementError: a loss is not finite, or too many images are broken.
        OutputError: a checkpoint cannot be written or read.
    """
    engine = _engine(recipe, device)
    run, first, count = recipe.run, *_part(recipe, engine)
    method = build_method(recipe).train()
    optimizer = torch.optim.AdamW(_groups(method), lr=recipe.optimizer.lr)
    done = _resumed(out, method, optimizer) if resume else 0
    model, prepared = engine.prepare(method, optimizer)
    sampler = StepSampler(
        len(corpus), batch=run.batch_size, seed=run.seed, first=first, count=count, start=done, steps=run.steps
    )
    if engine.is_main_process and not resume:
        _begin(out, recipe, corpus, engine, about)
    broken: set[int] = set()
    shown = progress and engine.is_main_process
    with (
        _stop_requests() as asked,
        _log(out, done, engine.is_main_process) as log,
        tqdm(total=run.steps, initial=done, desc=recipe.name, unit="step", disable=not shown) as bar,
    ):
        for step, sample in enumerate(_loader(recipe, corpus, sampler), done):
            start = time.perf_counter()
            broken.update(sample["broken"])
            _check_broken(broken, (step - done + 1) * run.batch_size)
            where = Progress(step, run.steps, sampler.per_epoch)
            batch = _batch(sample, recipe, engine, step, first)
            losses = _step(engine, model, method, prepared, batch, where, recipe.optimizer)
            _check_finite(losses, step, out)
            line = {"step": step, **losses, "seconds": time.perf_counter() - start, "broken": len(broken)}
            log(line | {"lr": prepared.param_groups[0]["lr"], "epoch": where.epoch})
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            if step + 1 == run.steps or asked or (step + 1) % run.checkpoint_every == 0:
                _save(engine, out, step + 1, recipe, method, prepared)
            if asked:
                raise KeyboardInterrupt
    return checkpoints_of(out)[-1]


def _part(recipe: Recipe, engine: Accelerator) -> tuple[int, int]:
    """Return the first image of this process in the batch of all, and how many are its own."""
    size, processes = recipe.run.batch_size, engine.num_processes
    if size % processes or (processes > 1 and size // processes % 2):
        raise ArgumentError(f"run.batch_size must be an even number per process, but is {size} for {processes}.")
    return engine.process_index * (size // processes), size // processes


def _begin(out: Path, recipe: Recipe, corpus: Corpus, engine: Accelerator, about: Mapping[str, Any] | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.toml").write_text(recipe_toml(recipe))
    said = {"method": recipe.name, "corpus": corpus.describe(), "processes": engine.num_processes, **(about or {})}
    (out / "run.json").write_text(json.dumps(said, indent=1) + "\n")


def _loader(recipe: Recipe, corpus: Corpus, sampler: StepSampler) -> DataLoader[Any]:
    workers = recipe.run.workers
    return DataLoader(
        CropDataset(corpus, recipe.augmentation, seed=recipe.run.seed),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        # Its own, or making an iterator would draw from the global one.
        generator=torch.Generator().manual_seed(recipe.run.seed),
        multiprocessing_context="forkserver" if workers else None,
    )


def _engine(recipe: Recipe, device: str) -> Accelerator:
    # Refuses a GPU that is not there; the engine would take the CPU without a word.
    cpu = resolve_device(device).type == "cpu"
    # Prototypes that are held, or a mask token that nobody asked for, get no gradient in a step.
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    precision = "bf16" if recipe.run.precision == "bfloat16" else "no"
    # The engine keeps the precision of a process's first run for ever; a later run may have another one.
    AcceleratorState._reset_state()
    engine = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[kwargs])
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if engine.num_processes != asked:
        raise ArgumentError(
            f"{asked} processes were started, but the engine sees {engine.num_processes}; use torchrun."
        )
    return engine


def _groups(method: nn.Module) -> list[dict[str, Any]]:
    """Return parameters with weight decay, and without it: biases and what has one dimension."""
    free = [p for p in method.parameters() if p.requires_grad and p.ndim <= 1]
    decayed = [p for p in method.parameters() if p.requires_grad and p.ndim > 1]
    return [{"params": decayed}, {"params": free, "weight_decay": 0.0}]


def _resumed(out: Path, method: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    found = checkpoints_of(out)
    if not found:
        raise ArgumentError(f"run {out} has no checkpoint to go on from.")
    done, state = read_checkpoint(found[-1], method)
    optimizer.load_state_dict(state)
    return done


def _batch(sample: dict[str, Any], recipe: Recipe, engine: Accelerator, step: int, first: int) -> Batch:
    crops = to_unit(sample["crops"], engine.device)
    recoloured = to_unit(sample["recoloured"], engine.device) if recipe.decoupled else crops
    return Batch(crops, recoloured, Stream(recipe.run.seed).child("step", step), first, recipe.run.batch_size)


def _step(
    engine: Accelerator,
    model: nn.Module,
    method: Any,
    optimizer: Any,
    batch: Batch,
    where: Progress,
    settings: Optimizer,
) -> dict[str, float]:
    """Make one step; return the losses, means over all processes."""
    warmup = round(settings.warmup_epochs * where.steps_per_epoch)
    lr = warmed_up(
        0.0, settings.lr, settings.final_lr, step=where.step, warmup=min(warmup, where.steps // 2), steps=where.steps
    )
    decay = cosine(settings.weight_decay, settings.final_weight_decay, where.share)
    for group, weight in zip(optimizer.param_groups, (decay, 0.0), strict=True):
        group["lr"], group["weight_decay"] = lr, weight
    # What is left to the global generator (stochastic depth) depends on the step and the process alone.
    torch.manual_seed(batch.stream.child("global", engine.process_index).torch_seed())
    method.before_step(where)
    with engine.autocast():
        losses: dict[str, Tensor] = model(method.views(batch))
        total = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    engine.backward(total)
    engine.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    method.after_step(where)
    means = mean_over_processes(torch.stack([value.detach().float() for value in (*losses.values(), total)]))
    return dict(zip((*losses, "total"), means.tolist(), strict=True))


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


def _save(engine: Accelerator, out: Path, done: int, recipe: Recipe, method: nn.Module, optimizer: Any) -> None:
    if engine.is_main_process:
        write_checkpoint(out, done, recipe, method, optimizer.optimizer.state_dict())
        prune(out, recipe.run.keep_every)
    engine.wait_for_everyone()


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of ending at once; the second one ends."""
    asked: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log(out: Path, done: int, active: bool) -> Iterator[Any]:
    """Append lines to metrics.jsonl; lines of steps that will be made again are dropped first."""
    path = out / "metrics.jsonl"
    if not active:
        yield lambda line: None
        return
    kept = []
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if line and json.loads(line)["step"] < done]
    # To a temporary name first: what is kept must not be lost by a stop in the middle of it.
    draft = path.with_suffix(".draft")
    draft.write_text("".join(f"{line}\n" for line in kept))
    draft.replace(path)
    with path.open("a") as stream:

        def write(line: dict[str, Any]) -> None:
            stream.write(json.dumps(line) + "\n")
            stream.flush()

        yield write
