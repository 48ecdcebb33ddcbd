"""A recipe in, what a run needs of its machine out: the processes, a log that survives, signals heard, memory seen."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from ..errors import ArgumentError
from ..features.hardware import resolve_device
from ..files import write_text
from ..typed_files import read_json_lines
from ..words import whole_number
from .objective import Objective
from .settings import Run

__all__ = [
    "LogLine",
    "float32_products",
    "open_engine",
    "peak_memory_gib",
    "run_log",
    "stop_requests",
    "synchronise_norms",
]

LogLine = dict[str, float]
LOG = "metrics.jsonl"
SAME_REQUEST_S = 3.0


def open_engine(run: Run, device: str) -> Accelerator:
    """Return the training engine of this process: alone, or one of those that torchrun started.

    Raises:
        ArgumentError: a GPU is asked for and not there, or the processes do not see each other.
    """
    # Refuses a GPU that is not there; the engine would take the CPU without a word.
    cpu = resolve_device(device).type == "cpu"
    # Prototypes that are held, or a mask token that nobody asked for, get no gradient in a step.
    kwargs = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    precision = "bf16" if run.precision == "bfloat16" else "no"
    # The engine keeps the precision of a process's first run for ever; a later run may have another one.
    AcceleratorState._reset_state()
    engine = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[kwargs])
    asked = whole_number(os.environ.get("WORLD_SIZE", "1"), "WORLD_SIZE", 1)
    if engine.num_processes != asked:
        raise ArgumentError(
            f"{asked} processes were started, but the engine sees {engine.num_processes}; use torchrun."
        )
    return engine


def synchronise_norms(objective: Objective, engine: Accelerator) -> None:
    """Let batch normalisation be over the images of all GPUs, where it is to be so; in place.

    torch does it on GPUs only; processes on CPUs normalise their own images.
    """
    if objective.core().synchronised_norms and engine.num_processes > 1 and engine.device.type == "cuda":
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm
        convert(objective)


def peak_memory_gib(device: torch.device) -> float:
    """Return the largest memory that torch held on a GPU so far, GiB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Let products of float32 be what a recipe's precision allows on a GPU; put back what was chosen before.

    What autocast leaves in float32 beside bfloat16 (prototypes, queues) may round its inputs to TF32, which keeps eight
    times as many steps as bfloat16 and adds up in float32. A recipe of float32 means it.
    """
    rounded = precision != "float32"
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    torch.backends.cudnn.allow_tf32 = rounded
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C instead of ending at once; one that comes later than the first few seconds ends.

    A scheduler and torchrun may each pass on the same request.
    """
    asked: list[int] = []
    begun = 0.0

    def note(number: int, _frame: Any) -> None:
        nonlocal begun
        if asked and time.monotonic() - begun > SAME_REQUEST_S:
            raise KeyboardInterrupt
        begun = begun or time.monotonic()
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def run_log(out: Path, done: int, active: bool) -> Iterator[Callable[[LogLine], None]]:
    """Append lines to metrics.jsonl; lines of steps that will be made again are dropped first."""
    path = out / LOG
    if not active:
        yield lambda line: None
        return
    kept = [json.dumps(line) for line in read_json_lines(path, dict[str, int | float]) if line.get("step", done) < done]
    # To a temporary name first: what is kept must not be lost by a stop in the middle of it.
    write_text(path, "".join(f"{line}\n" for line in kept))
    with path.open("a", encoding="utf-8") as stream:

        def write(line: LogLine) -> None:
            stream.write(json.dumps(line) + "\n")
            stream.flush()

        yield write
