"""A bank of labelled cells in, the classes of other cells by their nearest neighbours in it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..features.hardware import whole_float32
from .bank import Bank

__all__ = ["TEMPERATURE", "K", "NeighbourSegmenter"]

K, TEMPERATURE = 30, 0.02
# Cells of the bank and queries that are compared at once: 2^26 cosines.
BANK_CHUNK, QUERY_CHUNK = 16_384, 4096
PLACES = 2**32 - 1


@dataclass(frozen=True)
class NeighbourSegmenter:
    """Classes by the k nearest cells, weighted by softmax(cosine / temperature), with soft labels.

    Exact: the nearest of each part of the bank are merged; of equal cosines the first in the bank counts.

    Attributes:
        unit: float32 (N, D), the bank's cells at length 1.
        shares: float32 (N, K).
        k: neighbours.
        temperature: of the softmax.
        bank_chunk: cells of the bank at once; changes memory only.
    """

    unit: Tensor
    shares: Tensor
    k: int = K
    temperature: float = TEMPERATURE
    bank_chunk: int = BANK_CHUNK

    @classmethod
    def fitted(cls, bank: Bank, device: torch.device, *, k: int = K, temperature: float = TEMPERATURE) -> Self:
        """Return that of a bank."""
        unit = F.normalize(torch.from_numpy(bank.vectors), dim=1)
        return cls(unit.to(device), torch.from_numpy(bank.shares).to(device), k, temperature)

    def __call__(self, vectors: Tensor) -> NDArray[np.float64]:
        """Return the shares of the classes of cells (Q, D): float64 (Q, K)."""
        parts = [self._voted(part) for part in torch.split(vectors.to(self.unit.device), QUERY_CHUNK)]
        return torch.cat(parts).cpu().double().numpy()

    def _voted(self, vectors: Tensor) -> Tensor:
        places, cosines = self._nearest(F.normalize(vectors, dim=1))
        weights = (cosines / self.temperature).softmax(dim=1)
        return torch.einsum("qk,qkc->qc", weights, self.shares[places])

    def _nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return places in the bank and cosines of the nearest cells, (Q, k), the nearest first."""
        best = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        with whole_float32():
            for start in range(0, len(self.unit), self.bank_chunk):
                part = self.unit[start : start + self.bank_chunk]
                own = _largest(queries @ part.T, self.k, start)
                together = torch.cat([best, own], dim=1)
                best = together.topk(min(self.k, together.shape[1]), dim=1).values
        places = PLACES - (best & PLACES)
        return places, _cosine_of(best)


def _largest(cosines: Tensor, k: int, start: int) -> Tensor:
    """Return the `_sortable` numbers of the k largest of cosines (Q, n), of equal ones the first places: (Q, <= k)."""
    if cosines.shape[1] <= k:
        return _sortable(cosines, torch.arange(start, start + cosines.shape[1], device=cosines.device))
    values, columns = cosines.topk(k, dim=1)
    keys = _sortable(values, start + columns)
    # Of equal ones `topk` takes any; which they are is no matter unless some of them are left out.
    tied = (cosines >= values[:, -1:]).sum(dim=1) > k
    if tied.any():
        places = torch.arange(start, start + cosines.shape[1], device=cosines.device)
        keys[tied] = _sortable(cosines[tied], places).topk(k, dim=1).values
    return keys


def _sortable(cosines: Tensor, places: Tensor) -> Tensor:
    """Return numbers that order cosines (Q, n) from the smallest up; of equal ones the first of `places` is largest.

    The bits of a float order like an integer's where it is positive, and the other way round where it is not.
    """
    bits = (cosines + 0.0).view(torch.int32).to(torch.int64)
    ordered = torch.where(bits >= 0, bits, -(bits + 2**31))
    return (ordered << 32) | (PLACES - places)


def _cosine_of(keys: Tensor) -> Tensor:
    ordered = keys >> 32
    bits = torch.where(ordered >= 0, ordered, -ordered - 2**31)
    return bits.to(torch.int32).view(torch.float32)
