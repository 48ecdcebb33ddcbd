"""A batch of probes in, how much A's feature depends on where A stands out: the same object alone at several places.

Coupling's elder sibling (Qiu et al., De-coupling and De-positioning, arXiv 2303.16947): a dense feature that carries
its place in the image tells two views of one object apart.
"""

from __future__ import annotations

from itertools import combinations, product

import torch
from torch import Tensor

from ..features.layered import LayeredBackbone
from ..features.regions import masked_mean, region_weights
from ..metrics.angles import angle_between
from ..probes.moving import move_objects, moves_within
from ..probes.triplet import Probe
from .region_features import grid_of

__all__ = ["read_position"]

PLACES = 4


def read_position(backbone: LayeredBackbone, probe: Probe) -> list[Tensor]:
    """Return 1 - mean cosine between A's features at up to four places, of each layer float64 (n,).

    A stands alone on the network's mean colour, towards each corner of the canvas; places are whole strides apart, so
    that A falls on the cells in the same way. NaN where A has no room to move.

    Args:
        backbone: the network.
        probe: a batch.
    """
    found: dict[int, list[Tensor]] = {}
    for stride in {layer.stride_px for layer in backbone.layers}:
        found[stride] = _of_stride(backbone, probe, stride)
    return [found[layer.stride_px][index] for index, layer in enumerate(backbone.layers)]


def _of_stride(backbone: LayeredBackbone, probe: Probe, stride: int) -> list[Tensor]:
    moves = [list(product(*limits)) for limits in moves_within(probe.mask_a, stride)]  # n x 4 x (down, right)
    vectors: list[list[Tensor]] = [[] for _ in backbone.layers]
    for place in range(PLACES):
        chosen = [of_object[place] for of_object in moves]
        images, masks = move_objects(probe.alone, probe.mask_a, chosen, colour=backbone.empty)
        for of_layer, features in zip(vectors, backbone(images), strict=True):
            weights = region_weights(masks, torch.zeros_like(masks), stride_px=stride, grid=grid_of(features))
            of_layer.append(masked_mean(features, weights).cpu())
    return [_mean_distance(of_layer, moves) for of_layer in vectors]


def _mean_distance(vectors: list[Tensor], moves: list[list[tuple[int, int]]]) -> Tensor:
    """Return 1 - mean cosine over the pairs of places that are two, (n,), for K tensors (n, D)."""
    total = torch.zeros(len(moves), dtype=torch.float64)
    count = torch.zeros(len(moves), dtype=torch.float64)
    for first, second in combinations(range(len(vectors)), 2):
        apart = torch.tensor([of_object[first] != of_object[second] for of_object in moves])
        # 1 - cos, without its cancellation near 0
        distance = 2 * torch.sin(angle_between(vectors[first], vectors[second]) / 2) ** 2
        total += torch.where(apart, distance, 0.0)
        count += apart
    return total / count  # 0 / 0 is NaN: nowhere to go
