"""A dictionary of tensors into a network: wholly, or not at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ..errors import BackboneError, listed

__all__ = ["backbone_names", "check_fit", "fit_weights"]


def backbone_names(own: Iterable[str], heads: tuple[str, ...]) -> set[str]:
    """Return those names of a network's weights that features depend on."""
    # The counter of batches steers training only; files older than torch 0.4.1 do not have it.
    return {name for name in own if not _is_head(name, heads) and not name.endswith("num_batches_tracked")}


def _is_head(name: str, heads: tuple[str, ...]) -> bool:
    return any(name == head or name.startswith(f"{head}.") for head in heads)


def check_fit(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    source: str,
    heads: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Return the weights of a network's trunk, or refuse.

    Args:
        own: what the network has; only names and shapes are looked at.
        weights: name -> tensor.
        source: where they come from, for the error.
        heads: names of submodules that no feature depends on (classifiers); theirs may be missing or left over.
        optional: beginnings of names that may be missing.

    Raises:
        BackboneError: a weight is missing, left over or of another shape; all are listed.
    """
    needed = {name for name in backbone_names(own, heads) if not (optional and name.startswith(optional))}
    given = {name: value for name, value in weights.items() if not _is_head(name, heads)}
    missing = sorted(needed - given.keys())
    unexpected = sorted(given.keys() - own.keys())
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in sorted(given.keys() & own.keys())
        if given[name].shape != own[name].shape
    ]
    kinds = [
        f"{name} ({given[name].dtype}, {given[name].layout})"
        for name in sorted(given.keys() & own.keys())
        if own[name].is_floating_point() and not _is_plain(given[name])
    ]
    if missing or unexpected or shapes or kinds:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        parts.append(("no plain floating-point numbers", kinds))
        told = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in parts if names)
        raise BackboneError(f"the weights of {source} do not fit: {told}. Is it the right architecture?")
    return given


def _is_plain(value: Tensor) -> bool:
    """Return whether a tensor holds real numbers as they are, neither quantised nor sparse nor absent."""
    return value.is_floating_point() and value.layout == torch.strided and not value.is_meta


def fit_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    heads: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> None:
    """Load all weights of a network's trunk in place, or refuse; arguments and errors as in `check_fit`."""
    own = network.state_dict()
    given = check_fit(own, weights, source=source, heads=heads, optional=optional)
    # Without the network's own version marks, some networks take the weights for those of an older layout.
    complete = OrderedDict(given)
    complete._metadata = own._metadata  # type: ignore[attr-defined]
    network.load_state_dict(complete, strict=False)
