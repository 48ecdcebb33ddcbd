"""Weights under other names than timm's in, the same under the names of a named architecture out.

Who names an architecture says more than a file's names do. So its own names are looked for wherever they stand in the
file, behind whatever prefix, and timm's own conversion of the family's releases is asked.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from ...errors import BackboneError, listed
from ..backbone import RUN_ERRORS
from ..checkpoints import Checkpoint
from ..fitting import backbone_names
from ..names import ModelName
from ..outline import left_out
from ..parameter_names import SPARE
from ..state_dict_matching import MatchedWeights
from .timm_shapes import own_conversion

__all__ = ["named_as_in_timm"]

# What a network has of its own and no training changed; timm's conversion need not take it over.
BUFFERS = re.compile(r".*(relative_position_index|attn_mask|bias_mask|periods|num_batches_tracked|k_bias|qkv\.bias)")
IMAGE_TOWERS = ("visual.", "module.visual.", "vision_encoder.", "vision_model.")
# Families whose names are timm's when they come here.
NAMED = ("resnet", "vit", "swin")
# Of a trunk in any project; where such a one is not taken over, features would be others.
TRUNK = re.compile(r"(.*\.)?(blocks|layers|stages|resblocks|stem|layer\d)\..*")


def named_as_in_timm(
    model: ModelName, matched: MatchedWeights, network: nn.Module, heads: tuple[str, ...]
) -> MatchedWeights:
    """Return weights under the network's names where they can be had; as they are where not, for the fit to refuse.

    Args:
        model: a named architecture.
        matched: what was found in the file.
        network: of the architecture, without memory for its weights.
        heads: names of its submodules that no feature depends on.

    Raises:
        BackboneError: timm's conversion leaves trained weights of the trunk aside.
    """
    own = set(network.state_dict())
    needed = backbone_names(own, heads)
    there = len(needed & matched.tensors.keys())
    if there == len(needed) or (matched.family in NAMED and there > len(needed) / 2):
        # What lacks a few is damaged, and has to say so; a whole copy elsewhere in the file is another network.
        return _without_spare(matched, own)
    for group, prefix, tensors in _places(matched, needed):
        assert model.weights is not None
        beside = left_out(Checkpoint(model.weights, matched.groups), group, prefix, ())
        place = _place(group, prefix)
        return _without_spare(replace(matched, tensors=tensors, place=place, strange=(), left_out=beside), own)
    best = matched
    for source in (matched.raw, *matched.groups.values()):
        converted = _converted(model, source, network)
        # Of what lacks something, the nearest says best what.
        if converted is None or len(needed & converted.keys()) <= len(needed & best.tensors.keys()):
            continue
        _check_loss(model, source, converted)
        note = f"{len(source) - len(converted)} of {len(source)} tensors by timm's conversion of their names"
        left = (*matched.left_out, note) if len(converted) < len(source) else matched.left_out
        best = replace(matched, tensors=converted, left_out=left, strange=(), converted=True)
    return _without_spare(best, own) if best.converted else matched


def _places(matched: MatchedWeights, needed: set[str]) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Yield where in the file, behind one prefix, all names of a network stand; only if that is one place."""
    probe = min(needed, key=lambda name: (-name.count("."), name), default="")
    found = []
    for group, tensors in matched.groups.items():
        for name in tensors:
            prefix = name.removesuffix(probe)
            if not probe or prefix == name or (prefix and not prefix.endswith(".")):
                continue
            below = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if needed <= below.keys():
                found.append((group, prefix, below))
    if len(found) > 1:
        places = [_place(group, prefix) for group, prefix, _ in found]
        raise BackboneError(
            f"the weights file holds the network {len(found)} times, at {listed(places)}; say which one to read with "
            f"`key={places[0]}`."
        )
    yield from found


def _place(group: str, prefix: str) -> str:
    return ".".join(part for part in (group, prefix.rstrip(".")) if part) or "the top"


def _converted(model: ModelName, tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor] | None:
    """Return what timm's own conversion of the family's releases makes of a file's tensors; None where it has none."""
    convert = own_conversion(model.architecture)
    if convert is None:
        return None
    try:
        # It prints what it looks for and does not find.
        with contextlib.redirect_stdout(io.StringIO()):
            converted = convert(dict(tensors), network)
    except RUN_ERRORS:
        return None
    return {str(name): value for name, value in converted.items() if isinstance(value, Tensor)}


def _check_loss(model: ModelName, tensors: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> None:
    """Refuse where weights of the trunk that are not 0 were neither taken over nor renamed."""
    # Of two towers the one of text is another network.
    tower = next((name for name in IMAGE_TOWERS if any(key.startswith(name) for key in tensors)), "")
    taken = {value.data_ptr() for value in converted.values() if value.numel()}
    lost = [
        name
        for name, value in tensors.items()
        if name.startswith(tower)
        and TRUNK.fullmatch(name)
        and value.is_floating_point()
        and value.data_ptr() not in taken
    ]
    biases = [name for name in lost if name.endswith("qkv.bias") and bool(tensors[name].nan_to_num().any())]
    split = any(name.endswith(("q_bias", "q_proj.bias")) for name in converted)
    if biases and not split:
        raise BackboneError(
            f"the weights of {model.text} have biases that {model.architecture} has not: {listed(biases)}; an "
            f"architecture with them may be {model.architecture.split('.')[0]}_qkvb."
        )
    rest = [name for name in lost if not BUFFERS.fullmatch(name)]
    # Kernels may have been split or joined to others: then there are as many numbers as before.
    given = {value.data_ptr() for value in tensors.values()}
    made = sum(value.numel() for value in converted.values() if value.data_ptr() not in given)
    if rest and sum(tensors[name].numel() for name in rest) > made:
        raise BackboneError(
            f"the weights of {model.text} have {listed(rest)}, for which {model.architecture} has no place. Is it the "
            "right architecture?"
        )


def _without_spare(matched: MatchedWeights, own: set[str]) -> MatchedWeights:
    """Return weights without the heads, decoders and queues that stand beside a trunk and are none of the network's."""
    spare = [name for name in matched.tensors if name not in own and SPARE.fullmatch(name)]
    if not spare:
        return matched
    tensors = {name: value for name, value in matched.tensors.items() if name not in set(spare)}
    firsts = [name.partition(".")[0] for name in spare]
    told = [f"{first} ({firsts.count(first)} tensors)" for first in dict.fromkeys(firsts)]
    return replace(matched, tensors=tensors, left_out=(*matched.left_out, *told))
