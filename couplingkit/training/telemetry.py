"""Features of a step in, a number that shows a collapse at once out."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["EVERY", "effective_rank", "feature_products", "rank_of_products"]

# Steps between two looks at the rank, which takes longer than the rest of the log.
EVERY = 10
MOST_VECTORS = 512


@torch.no_grad()
def effective_rank(vectors: Tensor) -> Tensor:
    """Return how many directions vectors (n, D) use: exp of the entropy of their singular values (RankMe, 2023).

    It is between 1, where all of them point the same way, and min(n, D); of more than 512 vectors, evenly chosen ones
    are looked at. Differences of length within one direction do not count, as in Garrido et al.

    >>> round(float(effective_rank(torch.eye(4))), 4), round(float(effective_rank(torch.ones(4, 3))), 4)
    (4.0, 1.0)
    """
    return rank_of_products(feature_products(vectors).cpu())


@torch.no_grad()
def feature_products(vectors: Tensor) -> Tensor:
    """Return what the rank of vectors (n, D) is told by, on their device: their products, float32 (m, m)."""
    step = max(1, -(-len(vectors) // MOST_VECTORS))
    chosen = vectors[::step].detach().float()
    return chosen @ chosen.T if chosen.shape[0] <= chosen.shape[1] else chosen.T @ chosen


def rank_of_products(products: Tensor) -> Tensor:
    """Return the rank that products (m, m) tell of, float32; NaN where one is not finite.

    They must be on the CPU: not every device has float64.
    """
    if not products.isfinite().all():
        return torch.full((), torch.nan)
    values = torch.linalg.eigvalsh(products.double()).clamp(min=0).sqrt()
    shares = values / values.sum().clamp(min=1e-12)
    rank: Tensor = torch.special.entr(shares).sum().exp()
    return rank.to(torch.float32)
