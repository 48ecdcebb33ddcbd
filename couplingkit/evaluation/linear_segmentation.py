"""A bank of labelled cells in, the classes of other cells by planes through the features out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..features.hardware import has_float64
from ..metrics.logistic import LogisticModel, fit_chosen
from ..streams import Stream
from .bank import Bank

__all__ = ["STRENGTHS", "LinearSegmenter"]

# Of the L2 term that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2)
HELD_OUT = 5
# Of 7,840 cells of a ViT-S/16 none is told another class than at the exact minimum; at 1e-4 three were.
GRADIENT = 3e-5


@dataclass(frozen=True)
class LinearSegmenter:
    """Classes by multinomial logistic regression on the cells' soft labels: convex, so that no seed decides.

    Attributes:
        model: the classifier.
        strength: of its L2 term, by the cross-entropy on a fifth of the training photos.
    """

    model: LogisticModel
    strength: float

    @classmethod
    def fitted(cls, bank: Bank, stream: Stream, device: torch.device) -> LinearSegmenter:
        """Return that of a bank; `stream` draws the photos that choose the strength."""
        vectors, targets = bank.vectors.astype(np.float64), bank.shares.astype(np.float64)
        # Rows of float32 sum to 1 only nearly.
        targets /= targets.sum(axis=1, keepdims=True)
        where = device if has_float64(device) else torch.device("cpu")
        names, place = np.unique(bank.photos, return_inverse=True)
        order = stream.generator().permutation(len(names))
        chooses = np.isin(place, order[: len(names) // HELD_OUT or int(len(names) > 1)])
        model, strength = fit_chosen(
            *(vectors, targets, chooses),
            strengths=STRENGTHS,
            gradient=GRADIENT,
            device=where,
            products=torch.float32,
        )
        return cls(model, strength)

    def __call__(self, vectors: Tensor) -> NDArray[np.float64]:
        """Return the probabilities of the classes of cells (Q, D): float64 (Q, K)."""
        return np.asarray(np.exp(self.model.log_probabilities(vectors.cpu().double().numpy())))
