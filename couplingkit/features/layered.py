"""Several layers of one network in, all their maps in one forward pass out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..html_text import table_html
from .backbone import DenseBackbone, NetworkBackbone
from .names import RGB
from .passes import AUTO, CPU_BATCH, LARGEST_BATCH, BatchSize, Passes

__all__ = ["LayeredBackbone"]


class LayeredBackbone:
    """Several layers of one network, read in one forward pass.

    Args:
        layers: each by itself a backbone over the same network.
        read: (network, normalised images) -> one map per layer, in their order; None reads a single layer.

    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4), torch.nn.Conv2d(8, 5, 2, 2))
    >>> first = NetworkBackbone(network, lambda net, x: net[0](x), name="first")
    >>> second = NetworkBackbone(network, lambda net, x: net(x), name="second")
    >>> both = LayeredBackbone([first, second], lambda net, x: (net[0](x), net(x)))
    >>> [tuple(features.shape) for features in both(torch.zeros(1, 3, 224, 224))]
    [(1, 8, 56, 56), (1, 5, 28, 28)]
    """

    def __init__(self, layers: Sequence[DenseBackbone], read: Callable[[Any, Tensor], Sequence[Tensor]] | None = None):
        if not layers or (read is None and len(layers) > 1):
            raise ArgumentError("layers must be one backbone, or several with a read that gives all their maps.")
        self.layers = tuple(layers)
        self.read = read
        first = self.layers[0]
        self.name = first.name
        self.size_px = first.size_px
        self.mean = first.mean
        self.std: RGB | None = None

    def __repr__(self) -> str:
        return f"<{len(self.layers)} layers: {', '.join(layer.name for layer in self.layers)}>"

    def _repr_html_(self) -> str:
        rows = [[layer.name, str(layer.stride_px), str(layer.channels)] for layer in self.layers]
        return table_html(["layer", "stride, px", "channels"], rows, caption=self.name)

    @property
    def empty(self) -> RGB:
        """Colour that the network takes for nothing, in the images that it is shown: `mean`, or 0 once normalised."""
        return self.mean if self.std is None else (0.0, 0.0, 0.0)

    def taking_normalized(self) -> LayeredBackbone:
        """Return the same layers, to be shown images as their normalisation makes them; `std` says that they are.

        A backbone that is no `NetworkBackbone` normalises by itself, and is returned as it is.
        """
        first = self.layers[0]
        if not isinstance(first, NetworkBackbone) or type(first).__call__ is not NetworkBackbone.__call__:
            return self
        other = copy(self)
        other.std = first.std
        return other

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self.layers[0].device

    @property
    def passes(self) -> Passes | None:
        """What is known of the network's forward passes; None of a backbone that is no `NetworkBackbone`."""
        first = self.layers[0]
        return first.passes if isinstance(first, NetworkBackbone) else None

    def images_per_pass(self, batch_size: BatchSize) -> int:
        """Return how many images go in a pass: as asked for; `auto` is what the device can take, a power of 2."""
        if batch_size != AUTO:
            return int(batch_size)
        if self.device.type == "cpu":
            return CPU_BATCH
        self(torch.zeros(LARGEST_BATCH, 3, *self.size_px, device=self.device))
        passes = self.passes
        if passes is None or passes.most is None:
            return LARGEST_BATCH
        # It was asked what fits; that is not yet a batch that did not.
        found, passes.most = passes.most, None
        return found

    def rename(self, label: str) -> None:
        """Let tables call the network `label`; layers keep what tells them apart."""
        start = len(self.name.partition(" (layer ")[0])
        for layer in self.layers:
            layer.name = label + layer.name[start:]
        self.name = self.layers[0].name

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map float32 (B, 3, H, W) in [0, 1] to one float32 (B, D, h, w) per layer."""
        first, normalized = self.layers[0], self.std is not None
        if not isinstance(first, NetworkBackbone) or (self.read is None and not normalized):
            return (first(images),)
        if self.read is None:
            return (first.checked(first.run(first.read, images, normalized=True)),)
        return tuple(first.checked(features) for features in first.run(self.read, images, normalized=normalized))
