"""The processes of torchrun in, several that agree out; and a signal that stops a run where nothing is lost."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ..errors import ArgumentError, first_line
from ..processes import ALONE, Processes
from ..words import whole_number

__all__ = ["entered", "join_processes", "joined_processes", "leave_processes", "stoppable"]

Result = TypeVar("Result")
# Processes wait for the slowest one, whose share may take hours; one that died is noticed at once.
PATIENCE = timedelta(days=7)
# How long processes look for each other at the start; a master that nobody answers for would be waited for in vain.
# (torch tries again once where a port refuses at once, so that it takes up to twice as long.)
MEETING = timedelta(seconds=25)


def join_processes() -> Processes:
    """Return the processes that torchrun (or `accelerate launch`) started, connected; `ALONE` where nobody did.

    Raises:
        ArgumentError: the environment that torchrun sets is not whole, or the processes do not find each other.
    """
    count = whole_number(os.environ.get("WORLD_SIZE", "1"), "WORLD_SIZE", 1, 100_000)
    if count == 1:
        return ALONE
    if not dist.is_initialized():
        whole_number(os.environ.get("RANK", ""), "RANK", 0, count - 1)
        try:
            store, rank, count = next(rendezvous("env://", timeout=MEETING))
            store.set_timeout(PATIENCE)
            # Only rows of numbers pass between them, so that the CPU's way serves GPUs, too.
            dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE)
        except (RuntimeError, ValueError, OSError) as error:
            raise ArgumentError(
                f"WORLD_SIZE is {count}, but the processes do not find each other ({first_line(error)}); start them "
                "with torchrun, or unset WORLD_SIZE."
            ) from error
    return Processes(dist.get_rank(), dist.get_world_size())


def leave_processes() -> None:
    """Part from the others at the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Give the processes of torchrun; only the first of them speaks, and what one refuses ends all."""
    processes = join_processes()
    if not processes.first:
        # What is unexpected is still said: Python prints it where the error stream was at first.
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        sys.excepthook = lambda *error: traceback.print_exception(*error, file=sys.__stderr__)
    yield processes
    leave_processes()


@contextmanager
def entered(processes: Processes, manager: AbstractContextManager[Result]) -> Iterator[Result]:
    """Enter a block in every process; what one refuses, all refuse."""
    with ExitStack() as stack:
        inside: list[Result] = []
        processes.each(lambda: inside.append(stack.enter_context(manager)))
        yield inside[0]


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does, so that what was measured is kept and places are let go of."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
