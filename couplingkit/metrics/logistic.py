"""Vectors and classes in, the multinomial logistic regression that separates them out: convex, no seed matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from ..errors import MeasurementError

__all__ = ["STRENGTHS", "LogisticModel", "chosen_strength", "fit_logistic", "log_loss"]

# Of the L2 term that are tried.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
# The largest slope at which a minimum counts as found: predictions do not change any more.
GRADIENT = 1e-5
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
    vectors: Array, targets: Array, strength: float, *, gradient: float = GRADIENT, device: torch.device | str = "cpu"
) -> LogisticModel:
    """Return the model that minimises the mean cross-entropy + strength / 2 x |weights|^2; the bias is free.

    Args:
        vectors: float (N, D); channels are standardised by their own mean and deviation, constant ones are left out.
        targets: float (N, K), the share of each class in each of them; rows sum to 1. A class that none of them has is
            left out, and never predicted.
        strength: of the L2 term, above 0.
        gradient: its largest part at the minimum.
        device: that computes, in float64.

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

    def loss(flat: Array) -> tuple[float, Array]:
        both = torch.from_numpy(flat).to(device)
        weights, bias = both[: width * classes].view(width, classes), both[width * classes :]
        logs = (standard @ weights + bias).log_softmax(dim=1)
        wrong = (logs.exp() - known) / count
        value = -(known * logs).sum() / count + strength / 2 * (weights**2).sum()
        slope = torch.cat([(standard.T @ wrong + strength * weights).flatten(), wrong.sum(dim=0)])
        return float(value), slope.cpu().numpy()

    options: Any = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": gradient, "ftol": 0.0, "maxcor": 20}
    found: Any = minimize(loss, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options=options)
    if np.abs(found.jac).max() > 100 * gradient:
        raise MeasurementError(f"logistic regression did not come to an end ({found.message}).")
    weights, bias = np.zeros((width, len(present))), np.full(len(present), -np.inf)
    weights[:, present] = found.x[: width * classes].reshape(width, classes)
    bias[present] = found.x[width * classes :]
    return LogisticModel(mean, scale, weights, bias)


def log_loss(model: LogisticModel, vectors: Array, targets: Array) -> float:
    """Return the mean cross-entropy of a model over the rows whose classes it knows; infinite where there is none."""
    known = targets[:, np.isneginf(model.bias)].sum(axis=1) == 0
    if not known.any():
        return float("inf")
    logs = model.log_probabilities(vectors[known])
    shares = targets[known]
    return float(-(shares * np.where(shares > 0, logs, 0.0)).sum(axis=1).mean())


def chosen_strength(
    vectors: Array,
    targets: Array,
    held_out: NDArray[np.bool_],
    *,
    strengths: Sequence[float] = STRENGTHS,
    device: torch.device | str = "cpu",
) -> float:
    """Return the strength whose model of the other rows predicts those of `held_out`, (N,), best."""
    losses = [
        log_loss(
            fit_logistic(vectors[~held_out], targets[~held_out], strength, device=device),
            vectors[held_out],
            targets[held_out],
        )
        for strength in strengths
    ]
    return strengths[int(np.argmin(losses))]
