"""Numbers of a device in, the same ones on the CPU out: under way while the device goes on."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Fetching"]


class Fetching:
    """A tensor on its way to the CPU: nothing waits before `result`, and that waits for this copy alone.

    >>> Fetching(torch.arange(3)).result()
    tensor([0, 1, 2])
    """

    def __init__(self, values: Tensor):
        self._values = values
        self._event: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            # Into pinned memory, which a GPU writes by itself.
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            # Of the device that copies, which need not be the current one.
            self._event.record(torch.cuda.current_stream(values.device))

    def result(self) -> Tensor:
        """Return the tensor on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.cpu()
