"""What a probe is: its look, and which objects it shows; lengths in canvas units (1/224 of the side)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ..errors import ArgumentError, check_range

__all__ = ["DIRECTIONS", "RING_ROWS", "UNITS", "Canvas", "Design", "ObjectPair", "Pairing", "ProbeSpec"]

UNITS = 224
DIRECTIONS = ("right", "left", "below", "above")

Canvas = Literal["mean", "gray", "noise", "image"]
Pairing = Literal["different", "any", "same"]
Design = Literal["auto", "pairs", "ring"]
# Rows of one ring: 8 objects in either slot, each beside two of the other slot, and each pair read both ways.
RING_ROWS = 32


@dataclass(frozen=True)
class ProbeSpec:
    """What a probe looks like; lengths in canvas units, so that it is the same picture at any resolution.

    Attributes:
        object_size: longer side of each object.
        gap: between the boxes of A and B.
        canvas: `mean` (each backbone's own mean colour), `gray`, `noise`, or `image` (another photo).
        pairing: whether A and B have `different` categories, the `same`, or `any`.
        visible: share of A's area that is left visible, in (0, 1].
        control: whether a third object C takes B's place in a fourth image.
        room: gap that the pair is centred for, where it is more than `gap`: in a sweep over gaps the largest one, so
            that A stays where it is and B moves. None stands for `gap`.
        design: `pairs` shows each pair in four images of its own; in a `ring`, rows share images: each object is shown
            alone once and beside two others, each such image is read both ways, and the other neighbour is C. `auto`
            stands for a ring where look and data have one; a `ProbeSet` says which of the two it became.
    """

    object_size: int = 80
    gap: int = 16
    canvas: Canvas = "mean"
    pairing: Pairing = "different"
    visible: float = 1.0
    control: bool = True
    room: int | None = None
    design: Design = "auto"

    def __post_init__(self) -> None:
        check_range("object_size", self.object_size, 1, UNITS)
        check_range("gap", self.gap, 0, UNITS)
        check_range("visible", self.visible, 0.05, 1.0)
        for name, kinds in (("canvas", Canvas), ("pairing", Pairing), ("design", Design)):
            if getattr(self, name) not in get_args(kinds):
                raise ArgumentError(f"{name} must be one of {', '.join(get_args(kinds))}, not {getattr(self, name)!r}.")
        check_range("room", self.reach, self.gap, UNITS)
        needed = 2 * self.object_size + self.reach
        if needed > UNITS:
            raise ArgumentError(
                f"the canvas is too small: two objects of object_size {self.object_size} with gap {self.reach} need "
                f"{needed} units, and the canvas has {UNITS}; make object_size or gap smaller."
            )

        if self.design == "ring" and not self.both_ways:
            raise ArgumentError(
                "design ring reads each image both ways and has no pairs with `visible` below 1 (both objects would be "
                "hidden), of pairing same (the third object must be of another category) or without control; use "
                "`design=pairs`."
            )

    @property
    def both_ways(self) -> bool:
        """Whether an image of two objects can be read from either of them."""
        return self.visible == 1 and self.pairing != "same" and self.control

    def stored(self) -> dict[str, Any]:
        """Return the fields as JSON values; the design only where it is another than `pairs`, which older sets had."""
        return {key: value for key, value in asdict(self).items() if key != "design" or value != "pairs"}

    def scene(self, number: int) -> int:
        """Return the number of the probe whose canvas a probe has: its own, or that of the first row of its ring."""
        return number if self.design == "pairs" else number // RING_ROWS * RING_ROWS

    @property
    def reach(self) -> int:
        """Gap that the pair is centred for."""
        return self.gap if self.room is None else self.room

    def pictured(self, role: str) -> tuple[Any, ...]:
        """Return what an image of a probe depends on; two specs that agree in it show the same image.

        Args:
            role: alone (A), partner (B), together (A and B), control (A and C).
        """
        common = (role, self.object_size, self.canvas, self.reach)
        own = {"alone": (self.visible,), "partner": (self.gap,)}
        return common + own.get(role, (self.gap, self.visible))


@dataclass(frozen=True, slots=True)
class ObjectPair:
    """What probe `number` is made of.

    Attributes:
        annotation_a: the object whose feature is watched.
        annotation_b: the object beside it.
        annotation_c: the control object that takes B's place; None without a control.
        direction: where B stands, seen from A: right, left, below or above.
        backdrop: id of the photo behind the objects; None unless the canvas is `image`.
    """

    number: int
    annotation_a: int
    annotation_b: int
    annotation_c: int | None
    direction: str
    backdrop: int | None = None

    def members(self) -> tuple[int, ...]:
        """Return the annotation ids of A, B (and C)."""
        both = (self.annotation_a, self.annotation_b)
        return both if self.annotation_c is None else (*both, self.annotation_c)
