"""Images in, forward passes that fit into a device's memory out: halved where it runs out, so that the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ArgumentError, BackboneError, check_range, first_line

__all__ = ["AUTO", "CPU_BATCH", "LARGEST_BATCH", "BatchSize", "Passes", "check_batch_size", "fitting"]

BatchSize = int | Literal["auto"]
AUTO: Literal["auto"] = "auto"
# A CPU gains nothing beyond the first; a GPU hardly anything beyond the second.
CPU_BATCH, LARGEST_BATCH = 32, 512
# What builds that raise no error of its own kind say.
SAID = ("out of memory", "not enough memory", "can't allocate memory")


def check_batch_size(batch_size: BatchSize) -> None:
    """Raise `ArgumentError` unless it is `auto` or a number of images."""
    if isinstance(batch_size, str):
        if batch_size != AUTO:
            raise ArgumentError(f"batch_size must be auto or a number of images, not {batch_size!r}.")
    else:
        check_range("batch_size", batch_size, 1, 2**20)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that a device's (or the machine's) memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)
    )


@contextmanager
def fitting(what: str, advice: str) -> Iterator[None]:
    """Let a device's memory that runs out be a `BackboneError`, so that the other models of a run go on.

    Args:
        what: does not fit, the beginning of the sentence.
        advice: what may be done, its end.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise BackboneError(f"{what} does not fit into the device's memory ({first_line(error)}); {advice}.") from error


class Passes:
    """The forward passes of one network.

    Attributes:
        most: images that a pass may have since memory ran out; None where it never did.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def run(self, read: Callable[[Tensor], Any], images: Tensor, *, name: str) -> Any:
        """Return what `read` gives of images (B, 3, H, W), in as few passes as memory allows.

        Args:
            read: images in, a tensor or a sequence of tensors with a row an image out.
            images: at least one.
            name: of the network, for the sentence.

        Raises:
            BackboneError: not even one image fits.
        """
        while True:
            size = min(self.most or len(images), len(images))
            try:
                return _joined([read(part) for part in images.split(size)])  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size <= 1:
                    height, width = images.shape[-2:]
                    raise BackboneError(
                        f"{name}: an image of {height} x {width} px does not fit into the device's memory "
                        f"({first_line(error)}); take a smaller `image_size`, or another `device`."
                    ) from error
            # Out of the block above, whose error would keep what was computed alive.
            self.most = size // 2


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return type(parts[0])(_joined(of_all) for of_all in zip(*parts, strict=True))
