"""Labelled cells of training photos in, the bank that tasks learn from out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import MeasurementError
from ..streams import Stream
from .cells import LEAST_LABELLED, cell_shares
from .photo_features import PhotoFeatures

__all__ = ["Bank", "labelled_cells", "shuffled"]


@dataclass(frozen=True)
class Bank:
    """Cells of training photos.

    Attributes:
        vectors: float32 (N, D).
        shares: float32 (N, K), of the classes in the labelled part of each cell.
        photos: int64 (N,), the place of each cell's photo.
    """

    vectors: NDArray[np.float32]
    shares: NDArray[np.float32]
    photos: NDArray[np.int64]

    @property
    def commonest(self) -> int:
        """The class that most of the cells' area belongs to."""
        return int(self.shares.sum(axis=0, dtype=np.float64).argmax())


def labelled_cells(
    features: PhotoFeatures, labels: NDArray[np.int16], place: int, *, classes: int, most: int | None, stream: Stream
) -> Bank:
    """Return the cells of one photo of which at least half is labelled.

    Args:
        features: of the photo.
        labels: int16 (H, W).
        place: of the photo among all.
        classes: how many there are.
        most: cells that are drawn of a photo; None takes all.
        stream: of this photo's draw.
    """
    shares, labelled = cell_shares(labels, features, classes)
    kept = np.flatnonzero(labelled.ravel() >= LEAST_LABELLED)
    if most is not None and len(kept) > most:
        kept = np.sort(stream.generator().permutation(kept)[:most])
    vectors = features.cells.flatten(1).T.numpy()[kept]
    of_cells = shares.reshape(classes, -1).T[kept].astype(np.float32)
    return Bank(vectors, of_cells, np.full(len(kept), place, dtype=np.int64))


def shuffled(parts: Sequence[Bank], stream: Stream) -> Bank:
    """Return the cells of all photos in an order that is drawn, by which equal neighbours are told apart.

    Raises:
        MeasurementError: there is no cell to learn from.
    """
    vectors, shares, photos = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("vectors", "shares", "photos")
    )
    if not len(vectors):
        raise MeasurementError("no training photo has a cell of which half is labelled; a larger `image_size` may do.")
    order = stream.generator().permutation(len(vectors))
    return Bank(vectors[order], shares[order], photos[order])
