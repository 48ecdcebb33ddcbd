"""Labels of a photo's pixels in, shares of the classes in each feature cell out; and shares of cells back to pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..features.regions import covered_shares
from ..metrics.affinity import upsample
from .photo_features import PhotoFeatures

__all__ = ["LEAST_LABELLED", "cell_shares", "predicted_pixels"]

# Cells of which less is labelled are not learned from.
LEAST_LABELLED = 0.5


def cell_shares(
    labels: NDArray[np.int16], features: PhotoFeatures, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return which share of each cell's labelled part belongs to each class, and which share of the cell is labelled.

    Args:
        labels: int16 (H, W), at the photo's own size; -1 is not labelled.
        features: of the photo.
        classes: how many there are.

    Returns:
        float64 (K, h, w) and (h, w). Where nothing is labelled, all shares are 0.
    """
    grid = (features.cells.shape[1], features.cells.shape[2])
    present = [int(label) for label in np.unique(labels) if label >= 0]
    shares = np.zeros((classes, *grid))
    if present:
        masks = torch.from_numpy(np.stack([labels == label for label in present]))
        shares[present] = covered_shares(masks, features.frame, stride_px=features.stride_px, grid=grid).numpy()
    labelled = shares.sum(axis=0)
    known = np.divide(shares, labelled, out=np.zeros_like(shares), where=labelled > 0)
    return known, labelled


def predicted_pixels(shares: NDArray[np.float64] | Tensor, features: PhotoFeatures) -> NDArray[np.int64]:
    """Return the class of the largest share at each of the photo's own pixels, (H, W); the first one of equal shares.

    Args:
        shares: (K, h, w) of the cells; between their centres they are interpolated linearly.
        features: of the photo.
    """
    cells = torch.as_tensor(shares, dtype=torch.float64)
    # What no cell has a share of, no pixel has.
    possible = cells.flatten(1).amax(dim=1).gt(0).nonzero()[:, 0]
    if not len(possible):
        return np.zeros(features.frame.photo, dtype=np.int64)
    maps = upsample(cells[possible], frame=features.frame, stride_px=features.stride_px, how="bilinear")
    # argmax of torch may give any of equal ones.
    classes: NDArray[np.int64] = possible.numpy()[maps.numpy().argmax(axis=0)]
    return classes
