"""Vectors and classes in, the multinomial logistic regression that separates them out: convex, no seed matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
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


def fit_logistic(vectors: Array, targets: Array, strength: float, *, gradient: float = GRADIENT) -> LogisticModel:
    """Return the model that minimises the mean cross-entropy + strength / 2 x |weights|^2; the bias is free.

    Args:
        vectors: float (N, D); channels are standardised by their own mean and deviation, constant ones are left out.
        targets: float (N, K), the share of each class in each of them; rows sum to 1. A class that none of them has is
            left out, and never predicted.
        strength: of the L2 term, above 0.
        gradient: its largest part at the minimum.

    Raises:
        MeasurementError: vectors are not finite, or the minimum was not found.
    """
    if not np.isfinite(vectors).all():
        raise MeasurementError("vectors must be finite to be classified, but some are not.")
    present = targets.sum(axis=0) > 0
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.where(scale > 1e-12 * (1 + np.abs(mean)), scale, np.inf)
    standard = (vectors - mean) / scale
    count, width = standard.shape
    known = targets[:, present]
    classes = known.shape[1]

    def loss(flat: Array) -> tuple[float, Array]:
        weights, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        scores = standard @ weights + bias
        logs = scores - logsumexp(scores, axis=1, keepdims=True)
        wrong = (np.exp(logs) - known) / count
        value = -(known * logs).sum() / count + strength / 2 * (weights**2).sum()
        slope = np.concatenate([(standard.T @ wrong + strength * weights).ravel(), wrong.sum(axis=0)])
        return float(value), slope

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


def chosen_strength(vectors: Array, targets: Array, held_out: NDArray[np.bool_]) -> float:
    """Return the strength of `STRENGTHS` whose model of the other rows predicts those of `held_out`, (N,), best."""
    losses = [
        log_loss(fit_logistic(vectors[~held_out], targets[~held_out], strength), vectors[held_out], targets[held_out])
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]
