"""The words for device and precision in, what torch is told out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from ..errors import ArgumentError, first_line

__all__ = ["Precision", "has_float64", "resolve_device", "resolve_precision", "whole_float32"]

Precision = Literal["auto", "float32", "bfloat16"]


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let float32 be float32 in matrix products and convolutions, on any device; put back what the caller had chosen.

    cuDNN rounds the inputs of convolutions to TF32 (10 bits) unless it is told otherwise, and so do matrix products
    where a script asked for speed: an angle is off by 1e-3 rad then, and nothing says so. And convolutions take the
    kernels that give the same sum every time.
    """
    before = torch.get_float32_matmul_precision()
    convolutions, same = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = convolutions, same


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to run on; `auto` is the accelerator that torch finds, and the CPU where there is none.

    Of several processes that torchrun started on a machine, each has a GPU of its own, as far as there are so many.

    Raises:
        ArgumentError: torch does not know the device, or this machine does not have it.
    """
    if str(device) == "auto":
        device = _accelerator() or "cpu"
    place = os.environ.get("LOCAL_RANK")
    if place is not None and str(device) == _accelerator() and torch.accelerator.device_count() > 1:
        device = f"{device}:{int(place) % torch.accelerator.device_count()}"
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise ArgumentError(f"device {str(device)!r} cannot be used here ({reason}); try auto or cpu.") from error
    return resolved


def _accelerator() -> str | None:
    """Return cuda, mps, xpu, ...: what this machine has and torch can use."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return None if found is None else found.type


def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in float64; Apple's does not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def resolve_precision(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision of the forward passes; `auto` is bfloat16 where the hardware multiplies matrices in it.

    That is an NVIDIA GPU from Ampere on, or a CPU with AMX tiles. A CPU with the AVX-512 bfloat16 instructions alone
    runs vision transformers slower in bfloat16 than in float32, so it is given float32.
    """
    if precision not in get_args(Precision):
        raise ArgumentError(f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}.")
    if precision == "auto":
        return "bfloat16" if _multiplies_bfloat16(device) else "float32"
    return "bfloat16" if precision == "bfloat16" else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Underscored, but the only word of it in torch 2.8; absent on other builds, which then say no.
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return device.type == "cpu" and bool(has_tiles())
