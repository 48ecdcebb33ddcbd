"""Features of one photo in, the cells of the object that they single out: TokenCut and LOST, without any training.

TokenCut (Wang et al., CVPR 2022) cuts the graph of cells in two; LOST (Simeoni et al., BMVC 2021) begins with the cell
that is similar to the fewest others. Both take features from which the mean over photos was subtracted: without that
nearly all cosines are positive and there is nothing to cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import label

__all__ = ["cells_box", "lost", "overlap", "token_cut"]

Cells = NDArray[np.bool_]
Array = NDArray[np.float64]
# Of TokenCut: cells are joined above this cosine, and all but not joined below.
JOINED, UNJOINED = 0.2, 1e-5
# Of LOST: how many cells of the fewest friends may take part.
FEWEST_FRIENDS = 100


def token_cut(features: Array) -> Cells:
    """Return the object's cells, bool (h, w): the side of the cut with its most certain cell, connected to it.

    Args:
        features: (D, h, w), centred.
    """
    grid = features.shape[1:]
    edges = np.where(_cosines(features) > JOINED, 1.0, UNJOINED)
    degree = edges.sum(axis=1)
    # The second smallest generalised eigenvector of D - W halves the graph (normalised cut).
    _, vectors = eigh(np.diag(degree) - edges, np.diag(degree), subset_by_index=[1, 1])
    second = vectors[:, 0]
    seed = int(np.abs(second).argmax())
    side = (second > second.mean()) == (second[seed] > second.mean())
    return _connected(side.reshape(grid), seed)


def lost(features: Array, *, friends: int = FEWEST_FRIENDS) -> Cells:
    """Return the object's cells, bool (h, w): what is similar to the cell with the fewest friends and its like.

    Args:
        features: (D, h, w), centred.
        friends: how many cells of the fewest friends are looked at.
    """
    grid = features.shape[1:]
    cosines = _cosines(features)
    degree = (cosines > 0).sum(axis=1)
    order = np.argsort(degree, kind="stable")
    seed = int(order[0])
    candidates = order[:friends]
    seeds = candidates[cosines[seed, candidates] > 0]
    alike = cosines[:, seeds].sum(axis=1) > 0
    alike[seed] = True
    return _connected(alike.reshape(grid), seed)


def _cosines(features: Array) -> Array:
    """Return the cosines of all cells, (h w, h w); 0 with a cell of length 0."""
    flat = features.reshape(len(features), -1).T
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 0)
    cosines: Array = unit @ unit.T
    return cosines


def _connected(cells: Cells, seed: int) -> Cells:
    """Return the part of some cells that is connected to one of them, by sides."""
    parts, _ = label(cells)
    return np.asarray(parts == parts.ravel()[seed])


def cells_box(cells: Cells, *, stride_px: int) -> tuple[float, float, float, float]:
    """Return the box of some cells in px of the network's input: left, top, right, bottom."""
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    left, top = columns[0] * stride_px, rows[0] * stride_px
    return float(left), float(top), float((columns[-1] + 1) * stride_px), float((rows[-1] + 1) * stride_px)


def overlap(box: tuple[float, ...], boxes: Array) -> Array:
    """Return the intersection over union of a box with others: (N,); left, top, right, bottom.

    >>> overlap((0, 0, 2, 2), np.array([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).round(3).tolist()
    [0.333, 0.0]
    """
    ours = np.asarray(box, dtype=np.float64)
    near, far = np.maximum(ours[:2], boxes[:, :2]), np.minimum(ours[2:], boxes[:, 2:])
    shared = np.clip(far - near, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (ours[2:] - ours[:2]).prod()
    found: Array = shared / (areas - shared)
    return found
