"""Vectors and classes in, the multinomial logistic regression that separates them out: convex, no seed matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from torch import Tensor

from ..errors import MeasurementError

__all__ = ["STRENGTHS", "LogisticModel", "fit_chosen", "fit_logistic", "log_loss"]

# Of the L2 term that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
# The largest slope, in units of curvature, at which a minimum counts as found: predictions do not change any more.
GRADIENT = 1e-5
# Enough to tell strengths apart by what they predict.
ROUGH = 1e-3
MOST_STEPS = 5000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LogisticModel:
    """A linear classifier of standardised channels.

    Attributes:
        mean, scale: of each channel, (D,).
        weights: (D, K).
        bias: (K,).
    """

    mean: Array
    scale: Array
    weights: Array
    bias: Array

    def log_probabilities(self, vectors: Array) -> Array:
        """Return the logarithms of the classes' probabilities, (N, K)."""
        scores = (vectors - self.mean) / self.scale @ self.weights + self.bias
        return np.asarray(scores - logsumexp(scores, axis=1, keepdims=True))


def fit_logistic(
    vectors: Array,
    targets: Array,
    strength: float,
    *,
    gradient: float = GRADIENT,
    device: torch.device | str = "cpu",
    products: torch.dtype = torch.float64,
    start: LogisticModel | None = None,
) -> LogisticModel:
    """Return the model that minimises the mean cross-entropy + strength / 2 x |weights|^2; the bias is free.

    The minimum is one, wherever the search begins. It runs along the principal axes of the vectors, each class and axis
    in the unit of its curvature at the shares of the classes: channels of networks are so correlated that it takes
    several times as many steps without.

    Args:
        vectors: float (N, D); channels are standardised by their own mean and deviation, constant ones are left out.
        targets: float (N, K), the share of each class in each of them; rows sum to 1. A class that none of them has is
            left out, and never predicted.
        strength: of the L2 term, above 0.
        gradient: its largest part at the minimum, in those units.
        device: that computes.
        products: in which vectors and weights are multiplied; all else is float64.
        start: a model of the same vectors and targets to search from, of another strength.

    Raises:
        MeasurementError: vectors are not finite, or the minimum was not found.
    """
    if not np.isfinite(vectors).all():
        raise MeasurementError("vectors must be finite to be classified, but some are not.")
    present = targets.sum(axis=0) > 0
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.where(scale > 1e-12 * (1 + np.abs(mean)), scale, np.inf)
    count, width, classes = *vectors.shape, int(present.sum())
    standard = torch.from_numpy((vectors - mean) / scale).to(device, torch.float64)
    known = torch.from_numpy(np.ascontiguousarray(targets[:, present])).to(device, torch.float64)
    axes, unit, bias_unit = _units(standard, known, strength)
    turned = (standard @ axes).to(products)

    def loss(flat: Array) -> tuple[float, Array]:
        both = torch.from_numpy(flat).to(device).view(width + 1, classes)
        weights, bias = both[:-1] * unit, both[-1] * bias_unit
        logs = ((turned @ weights.to(products)).double() + bias).log_softmax(dim=1)
        wrong = (logs.exp() - known) / count
        value = -(known * logs).sum() / count + strength / 2 * (weights**2).sum()
        slope = torch.cat(
            [
                ((turned.T @ wrong.to(products)).double() + strength * weights) * unit,
                (wrong.sum(dim=0) * bias_unit)[None],
            ]
        )
        return float(value), slope.flatten().cpu().numpy()

    first = torch.zeros(width + 1, classes, dtype=torch.float64, device=device)
    if start is not None:
        first[:-1] = axes.T @ torch.from_numpy(start.weights[:, present]).to(device) / unit
        # A class that the other model did not know begins in the middle.
        first[-1] = torch.from_numpy(np.where(np.isfinite(start.bias), start.bias, 0.0)[present]).to(device) / bias_unit
    options: Any = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": gradient, "ftol": 0.0, "maxcor": 20}
    found: Any = minimize(loss, first.flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    if np.abs(found.jac).max() > 100 * gradient:
        raise MeasurementError(f"logistic regression did not come to an end ({found.message}).")
    both = torch.from_numpy(found.x).to(device).view(width + 1, classes)
    weights, bias = np.zeros((width, len(present))), np.full(len(present), -np.inf)
    weights[:, present] = (axes @ (both[:-1] * unit)).cpu().numpy()
    bias[present] = (both[-1] * bias_unit).cpu().numpy()
    return LogisticModel(mean, scale, weights, bias)


def log_loss(model: LogisticModel, vectors: Array, targets: Array) -> float:
    """Return the mean cross-entropy of a model over the rows whose classes it knows; infinite where there is none."""
    known = targets[:, np.isneginf(model.bias)].sum(axis=1) == 0
    if not known.any():
        return float("inf")
    logs = model.log_probabilities(vectors[known])
    shares = targets[known]
    return float(-(shares * np.where(shares > 0, logs, 0.0)).sum(axis=1).mean())


def _units(standard: Tensor, known: Tensor, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the principal axes (D, D) of vectors (N, D), and units in which the curvature at the classes' shares is 1.

    Those are (D, K) of the weights along the axes, and (K,) of the bias.
    """
    spread, axes = torch.linalg.eigh(standard.T @ standard / len(standard))
    common = known.mean(dim=0)
    curvature = common * (1 - common) + 1e-6
    return axes, (spread.clamp(min=0)[:, None] * curvature + strength).rsqrt(), curvature.rsqrt()


def fit_chosen(
    vectors: Array,
    targets: Array,
    held_out: NDArray[np.bool_],
    *,
    strengths: Sequence[float] = STRENGTHS,
    gradient: float = GRADIENT,
    device: torch.device | str = "cpu",
    products: torch.dtype = torch.float64,
) -> tuple[LogisticModel, float]:
    """Return the model of all rows, and its strength: that whose model of the others predicts `held_out` best.

    Args:
        vectors, targets, gradient, device, products: as in `fit_logistic`.
        held_out: bool (N,), rows that choose; with none of them, or all, the middle strength is taken.
        strengths: that are tried.
    """
    fit = partial(fit_logistic, device=device, products=products)
    tried: dict[float, tuple[float, LogisticModel]] = {}
    previous = None
    if 0 < held_out.sum() < len(held_out):
        # From the strongest on: its minimum is found at once, and the next one's is near it.
        for strength in sorted(strengths, reverse=True):
            rough = max(gradient, ROUGH)
            previous = fit(vectors[~held_out], targets[~held_out], strength, gradient=rough, start=previous)
            tried[strength] = log_loss(previous, vectors[held_out], targets[held_out]), previous
    best = min(tried, key=lambda one: (tried[one][0], one)) if tried else sorted(strengths)[len(strengths) // 2]
    start = tried[best][1] if tried else None
    return fit(vectors, targets, best, gradient=gradient, start=start), best
