"""A model and what its source and its file say in, the mean and std of its images out, with where they come from."""

from __future__ import annotations

from ..errors import ArgumentError, NormalisationError
from ..words import rgb_numbers
from .names import NORMALISATION, RGB, BackboneOptions, ModelName
from .sources.base import OpenedNetwork
from .state_dict_matching import MatchedWeights

__all__ = ["normalisation_of"]


def normalisation_of(
    model: ModelName, options: BackboneOptions, matched: MatchedWeights | None, opened: OpenedNetwork
) -> tuple[RGB, RGB, str, tuple[str, ...]]:
    """Return mean, std, where they come from, and what a reader must know of them.

    Raises:
        NormalisationError: they cannot be told, or what is stated cannot be one.
    """
    notes: tuple[str, ...] = ()
    stated, origin = opened.normalisation, f"{opened.facts['source']}'s for the model"
    if matched is not None and matched.normalisation is not None:
        if model.source != "file" and stated is not None and stated != matched.normalisation:
            notes = (
                f"normalised with mean {matched.normalisation[0]} and std {matched.normalisation[1]}, as the file's "
                f"layout asks for ({matched.system}), not with {opened.facts['source']}'s mean {stated[0]} and std "
                f"{stated[1]} for {opened.facts['architecture']}; `mean` and `std` choose otherwise.",
            )
        stated, origin = matched.normalisation, f"by the file's layout: {matched.system}"
    elif model.source == "file":
        stated = None
    elif matched is not None and stated is not None and not (options.mean and options.std):
        else_needed = (
            "files of DeiT and of MAE's fine-tuning need ImageNet's: `mean`, `std`"
            if matched.family == "vit"
            else "weights of another training may need others: `mean`, `std`"
        )
        notes = (
            f"normalised with {opened.facts['source'].split()[0]}'s mean {stated[0]} and std {stated[1]} for "
            f"{opened.facts['architecture']}, which the file does not confirm; {else_needed}.",
        )
    mean, std = options.mean or (stated and stated[0]), options.std or (stated and stated[1])
    if not mean or not std:
        raise NormalisationError(
            f"the normalisation of {model.text} cannot be told from it, and with the wrong one every number is wrong: "
            "give `mean` and `std` (ImageNet's: 0.485,0.456,0.406 and 0.229,0.224,0.225; timm's supervised ViTs: 0.5)."
        )
    _check_range(model, mean, std)
    if options.mean or options.std:
        return mean, std, "as chosen" if options.mean and options.std else f"as chosen, the rest {origin}", ()
    return mean, std, origin, notes


def _check_range(model: ModelName, mean: RGB, std: RGB) -> None:
    """Hold what a file, a folder or a library states to the range of what a person may choose."""
    try:
        for name, values in (("mean", mean), ("std", std)):
            rgb_numbers(values, name, *NORMALISATION[name])
    except ArgumentError as error:
        raise NormalisationError(
            f"the normalisation that {model.text} comes with cannot be one ({error}); give `mean` and `std`."
        ) from error
