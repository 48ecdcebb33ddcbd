"""Batches of readers in, the same ones on a device out: the next one crosses while the device works on one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["fed"]

# What a step needs on the device; what is to be done to colours is drawn up on the CPU.
SENT = ("crops", "recoloured", "local", "boxes", "cuts", "images", "targets")


def fed(batches: Iterable[dict[str, Any]], device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield batches (see `collate`) with their images, boxes and cutouts on a device.

    On CUDA the next one is uploaded, from pinned memory and beside the work, before one is handed out.
    """
    if device.type != "cuda":
        yield from (_sent(batch, device) for batch in batches)
        return
    beside: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: tuple[dict[str, Any], torch.cuda.Event] | None = None
    source = iter(batches)
    while True:
        batch: dict[str, Any] | None = None
        sent: tuple[dict[str, Any], torch.cuda.Event] | None = None
        lost: Exception | None = None
        try:
            batch = next(source)
        except StopIteration:
            pass
        except Exception as error:
            # What was read before it comes first.
            lost = error
        if batch is not None:
            with torch.cuda.stream(beside):
                sent = _sent(batch, device), beside.record_event()
        if waiting is not None:
            yield _arrived(*waiting, device)
        if lost is not None:
            raise lost
        if sent is None:
            return
        waiting = sent


def _sent(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    sent = {name: _each(batch[name], lambda values: values.to(device, non_blocking=True)) for name in _there(batch)}
    return {**batch, **sent}


def _there(batch: dict[str, Any]) -> list[str]:
    return [name for name in SENT if name in batch]


def _each(part: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return tensors, and lists and dicts of them, with each of them changed."""
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, dict):
        return {key: _each(value, change) for key, value in part.items()}
    return [_each(value, change) for value in part]


def _arrived(batch: dict[str, Any], event: torch.cuda.Event, device: torch.device) -> dict[str, Any]:
    """Let the work behind wait, on the device, until a batch is there."""
    work = torch.cuda.current_stream(device)
    work.wait_event(event)
    for name in _there(batch):
        # Its memory is the other stream's, which must not give it out again while it is read here.
        _each(batch[name], lambda values: values.record_stream(work))
    return batch
