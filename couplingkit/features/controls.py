"""Networks whose coupling is known by construction: the oracle of the tests and a row in every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BackboneError
from ..streams import Stream

__all__ = ["CONTROL_FORMS", "CONTROL_STRIDE", "ControlNetwork", "parse_control"]

CONTROL_STRIDE = 16
CHANNELS = 64
CONTROL_FORMS = ("control:cell", "control:leak:AMOUNT", "control:leak:AMOUNT:REACH")


class ControlNetwork(nn.Module):
    """Reads every cell by itself, then lets a known share of the other cells leak in.

    With `x` the normalised pixels of one 16 x 16 cell and `P` a fixed random matrix, `z = |P x|`: not negative, so
    that two objects are never more than a right angle apart, and 0 on a canvas of the mean colour. The leak:

        z'(cell) = (1 - amount) z(cell) + amount * mean of z over the cells within reach

    With `amount` 0 no cell knows of another and the coupling rate is exactly 1. Both terms are linear in `z`, so
    the coupling rate has a closed form in the features of `control:cell` (tests/test_controls.py computes it).

    Args:
        amount: share that leaks, in [0, 1].
        reach_px: how far, px: a cell takes in the cells whose distance along each axis is at most this, rounded
            down to whole cells; None for the whole canvas.
    """

    projection: Tensor

    def __init__(self, amount: float = 0.0, reach_px: int | None = None):
        super().__init__()
        self.amount = amount
        self.reach_px = reach_px
        values = Stream(0).child("control", "projection").generator().standard_normal((CHANNELS, 3, 16, 16))
        self.register_buffer("projection", torch.from_numpy(values).to(torch.float32) / 16)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised float32 (B, 3, H, W) to (B, 64, H / 16, W / 16)."""
        # The known answer is to be exact, whatever precision the measured networks run in.
        with torch.autocast(images.device.type, enabled=False):
            cells = F.conv2d(images, self.projection, stride=CONTROL_STRIDE).abs()
            if self.amount == 0:
                return cells
            return (1 - self.amount) * cells + self.amount * self._surroundings(cells)

    def _surroundings(self, cells: Tensor) -> Tensor:
        if self.reach_px is None:
            return cells.mean(dim=(-2, -1), keepdim=True)
        radius = self.reach_px // CONTROL_STRIDE
        return F.avg_pool2d(cells, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def parse_control(form: str) -> ControlNetwork:
    """Build the network of `cell`, `leak:0.2` or `leak:0.2:32` (what stands behind `control:`).

    Raises:
        BackboneError: it is none of these forms.
    """
    kind, *numbers = form.split(":")
    try:
        if kind == "cell" and not numbers:
            return ControlNetwork()
        if kind == "leak" and len(numbers) in (1, 2):
            amount = float(numbers[0])
            reach = int(numbers[1]) if len(numbers) == 2 else None
            if 0 <= amount <= 1 and (reach is None or reach >= 0):
                return ControlNetwork(amount, reach)
    except ValueError:
        pass
    raise BackboneError(
        f"control network {form!r} is unknown: write {', '.join(CONTROL_FORMS)}, with AMOUNT in [0, 1] and REACH in px."
    )
