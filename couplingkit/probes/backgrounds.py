"""Pairs and a canvas in, what lies behind the objects out: one colour, noise of each probe's own, or a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..pixels import full_canvas, repeat_to
from ..streams import Stream
from .compositing import Levels
from .spec import UNITS, ObjectPair, ProbeSpec
from .sprites import SpriteSource, backdrop_of

__all__ = ["GRAY", "Canvas", "background"]

GRAY = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Canvas:
    """What probes are drawn on.

    Attributes:
        size: height and width, px.
        mean: its colour where the look says `mean`, sRGB in [0, 1].
        levels: what becomes of colours.
        device: where it is to be.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    levels: Levels
    device: torch.device


def background(
    pairs: Sequence[ObjectPair], spec: ProbeSpec, source: SpriteSource, canvas: Canvas, *, seed: int
) -> Tensor:
    """Return float32 (n, 3, H, W), or what broadcasts to it.

    Args:
        pairs: of the probes.
        spec: their look.
        source: of the photos behind them.
        canvas: what it is drawn on.
        seed: of the noise.
    """
    if spec.canvas in ("mean", "gray"):
        colour = full_canvas(canvas.mean if spec.canvas == "mean" else GRAY, 1, (1, 1), canvas.device)
        return canvas.levels.of_shares(colour, channels=1)
    if spec.canvas == "noise":
        tiles = torch.from_numpy(np.stack([_noise(spec.scene(pair.number), seed) for pair in pairs]))
        repeated = repeat_to(tiles.to(canvas.device, non_blocking=True), canvas.size)
        return canvas.levels.of_bytes(repeated, channels=1)
    behind = [backdrop_of(pair, spec, canvas.size) for pair in pairs]
    photos = np.stack([source.backdrop(backdrop) for backdrop in behind if backdrop is not None])  # (n, H, W, 3)
    shown = torch.from_numpy(photos).to(canvas.device, non_blocking=True).permute(0, 3, 1, 2)
    return canvas.levels.of_bytes(shown, channels=1)


def _noise(number: int, seed: int) -> NDArray[np.uint8]:
    stream = Stream(seed).child("probe", number, "noise")
    raw = stream.generator().bytes(3 * UNITS * UNITS)
    return np.frombuffer(raw, dtype=np.uint8).reshape(3, UNITS, UNITS)
