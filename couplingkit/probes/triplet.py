"""What a probe is as pixels: the images of A alone, A beside B, B alone and A beside C, and where each object is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["ROLES", "SHOWN", "Probe"]

# The images of a probe, in their order.
ROLES = ("alone", "together", "partner", "control")
# In which of them A, B and C are shown.
SHOWN = ((0, 1, 3), (1, 2), (3,))


@dataclass(frozen=True)
class Probe:
    """One probe, or a batch of probes with an axis for it after the first.

    Attributes:
        images: A alone, A and B, B alone (and A and C): float32 (3 or 4, ..., 3, H, W); in [0, 1] unless they were
            asked for as a network's normalisation makes them.
        masks: what is visible of A, of B (and of C): bool (2 or 3, ..., H, W); A's is disjoint from the others.
        distance_px: between the nearest pixels of A and B, px of the canvas; float64 (...), 0 where they touch.

    Invariants: `together` equals `alone` off `mask_b` and `partner` on it, bit for bit; likewise `control` and C.
    """

    images: Tensor
    masks: Tensor
    distance_px: Tensor

    @property
    def alone(self) -> Tensor:
        """A on the canvas; float32 (..., 3, H, W)."""
        return self.images[0]

    @property
    def together(self) -> Tensor:
        """The same A, and B beside it."""
        return self.images[1]

    @property
    def partner(self) -> Tensor:
        """B on the canvas, at the place it has in `together`."""
        return self.images[2]

    @property
    def control(self) -> Tensor | None:
        """The same A, and C in B's place; None without a control."""
        return self.images[3] if len(self.images) > 3 else None

    @property
    def mask_a(self) -> Tensor:
        """What is visible of A; bool (..., H, W)."""
        return self.masks[0]

    @property
    def mask_b(self) -> Tensor:
        """Of B; disjoint from A's."""
        return self.masks[1]

    @property
    def mask_c(self) -> Tensor | None:
        """Of C; disjoint from A's; None without a control."""
        return self.masks[2] if len(self.masks) > 2 else None
