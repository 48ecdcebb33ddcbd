"""A checkpoint's groups of tensors in, the weights of one backbone under their plain names out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import BackboneError, listed
from .checkpoints import Checkpoint, without_wrappers
from .layouts import HEADS, HEADS_ASSUMED, LAYOUTS, TOPS, Layout, Place
from .names import IMAGENET_MEAN, IMAGENET_STD, RGB
from .outline import left_out, outline
from .parameter_names import FAMILY_MARKERS, SPARE, family_of, plain_names

__all__ = ["MatchedWeights", "match_weights"]


@dataclass(frozen=True)
class MatchedWeights:
    """The weights of one network of a file.

    Attributes:
        tensors: plain name -> tensor.
        raw: the same under the names of the file, prefix gone, with whatever else stands there.
        system: the layout they were found by.
        branch: query, teacher, ...; '' where the file has one network only.
        branches: what else `branch` could choose, the one that was read among them.
        converted: whether timm's own conversion gave them their names.
        groups: of the whole file, for an architecture that knows its names better.
        place: where they were, for people.
        family: resnet, vit or swin; None where only a named architecture can tell.
        strange: names that the family does not have.
        norm_trained: whether the final norm was trained.
        normalisation: mean and std that the layout stands for; None where it does not tell.
        left_out: what else the file holds, by group, for people.
        architecture: of timm's, where the file names it.
        settings: of the architecture, where the layout or the file has some.
        caution: what a reader must know of a file that is read so.
    """

    tensors: dict[str, Tensor]
    raw: dict[str, Tensor]
    system: str
    branch: str
    place: str
    family: str | None
    strange: tuple[str, ...] = ()
    norm_trained: bool = True
    normalisation: tuple[RGB, RGB] | None = None
    left_out: tuple[str, ...] = field(default_factory=tuple)
    architecture: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    caution: str = ""
    branches: tuple[str, ...] = ()
    converted: bool = False
    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Trunk:
    group: str
    prefix: str
    family: str

    @property
    def place(self) -> Place:
        return self.group, self.prefix.removeprefix("module.")

    def __str__(self) -> str:
        return ".".join(part for part in (self.group, self.prefix.rstrip(".")) if part) or "the top"


def match_weights(checkpoint: Checkpoint, *, branch: str | None = None, key: str | None = None) -> MatchedWeights:
    """Find the weights to read in a file.

    Args:
        checkpoint: the file.
        branch: which network of a file that holds several; the layout's own choice by default.
        key: where the weights are instead, as `OUTER.PREFIX`, where no layout fits.

    Raises:
        BackboneError: no layout fits, or the branch or the key is not in the file.
    """
    if key is not None:
        return _at_key(checkpoint, key)
    return replace(_by_layout(checkpoint, branch), groups=checkpoint.groups)


def _by_layout(checkpoint: Checkpoint, branch: str | None) -> MatchedWeights:
    trunks = list(_trunks(checkpoint))
    for layout in LAYOUTS:
        found = {name: _match(checkpoint, layout, places, trunks) for name, places in layout.branches.items()}
        if any(found.values()):
            return _read(checkpoint, layout, found, branch)
    return _unknown(checkpoint, trunks, branch)


def _trunks(checkpoint: Checkpoint) -> Iterator[_Trunk]:
    """Yield every place that has the names of a known family."""
    for group, tensors in checkpoint.groups.items():
        seen = set()
        for family, markers in FAMILY_MARKERS.items():
            for name in tensors:
                prefix = next((name.removesuffix(marker) for marker in markers if name.endswith(marker)), None)
                # The blocks of a Swin stage read like a ViT of their own.
                inside = prefix is None or prefix.rstrip(".").rpartition(".")[0].endswith("layers")
                inside = inside or (prefix or "").startswith("layers.")
                if prefix is not None and not inside and (prefix == "" or prefix.endswith(".")) and prefix not in seen:
                    seen.add(prefix)
                    yield _Trunk(group, prefix, family)


def _match(checkpoint: Checkpoint, layout: Layout, places: tuple[Place, ...], trunks: list[_Trunk]) -> _Trunk | None:
    for place in places:
        for trunk in trunks:
            families = (trunk.family, family_of(trunk.family))
            if trunk.place != place or not (set(families) & set(layout.families or families)):
                continue
            names = _below(checkpoint.groups[trunk.group], trunk.prefix)
            headed = any(name.startswith(("fc.", "head.")) for name in names)
            fits = layout.headed in (None, headed) and all(name in names for name in layout.needs)
            if fits and _is_marked(checkpoint, layout):
                return trunk
    return None


def _is_marked(checkpoint: Checkpoint, layout: Layout) -> bool:
    if not layout.marks:
        return True
    everything = [name.removeprefix("module.") for group in checkpoint.groups.values() for name in group]
    return any(name.startswith(layout.marks) for name in (*everything, *checkpoint.other))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    # Only what leads is taken off: a name may have the same letters in its middle.
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(
    checkpoint: Checkpoint, layout: Layout, found: Mapping[str, _Trunk | None], branch: str | None
) -> MatchedWeights:
    there = [name for name, trunk in found.items() if trunk is not None]
    chosen = next(iter(layout.branches)) if branch is None else branch
    trunk = found.get(chosen)
    if trunk is None:
        has = f"the branch {listed(there)}" if any(there) else "one network and no branches"
        ways = f"; `branch={there[0]}` reads it" if any(there) else "; leave `branch` away"
        raise BackboneError(
            f"weights file {checkpoint.path} ({layout.system}) has {has}, and no branch {chosen!r}{ways}."
        )
    leave_out = (*HEADS, *layout.leave_out)
    raw = _below(checkpoint.groups[trunk.group], trunk.prefix)
    tensors, strange, beside = _trunk_of(raw, trunk.family, leave_out, spare=layout.spare)
    # A network that only resembles the family keeps its head: whether that is one is for its architecture to say.
    if strange and not layout.leave_out:
        tensors = raw
    if not layout.branches.keys() - {""} or layout.headed is not None:
        _check_for_copies(checkpoint, trunk)
    known = IMAGENET_MEAN, IMAGENET_STD
    patches = tensors.get("patch_embed.proj.weight")
    heads = layout.heads.get(patches.shape[0]) if patches is not None and patches.ndim else None
    return MatchedWeights(
        tensors=tensors,
        raw=raw,
        system=layout.system,
        branch=chosen,
        branches=tuple(name for name in there if name),
        settings={"num_heads": heads} if heads else {},
        caution=layout.caution,
        place=str(trunk),
        family=family_of(trunk.family),
        strange=tuple(strange),
        norm_trained=layout.norm_trained or chosen != next(iter(layout.branches)),
        normalisation=known if layout.imagenet and not strange else None,
        left_out=left_out(checkpoint, trunk.group, trunk.prefix, (*leave_out, *sorted(beside))),
    )


def _trunk_of(
    raw: Mapping[str, Tensor], family: str, leave_out: tuple[str, ...], *, spare: bool
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Return a trunk under plain names, which of them its family does not have, and what stands beside it."""
    kept = {name: value for name, value in raw.items() if not name.startswith(leave_out)}
    tensors, strange = plain_names(kept, family)

    def is_beside(name: str) -> bool:
        own = name.startswith(("layer", "conv", "bn", "res", "stem", "norm"))
        return bool(SPARE.fullmatch(name)) or (spare and not own)

    beside = [name for name in strange if is_beside(name)]
    tensors = {name: value for name, value in tensors.items() if name not in set(beside)}
    return tensors, [name for name in strange if name not in set(beside)], beside


def _check_for_copies(checkpoint: Checkpoint, trunk: _Trunk) -> None:
    """Refuse a file that holds the network twice, as with an average of its weights, without branches to tell them."""
    others = [one for one in _trunks(checkpoint) if one.family == trunk.family and one.group != trunk.group]
    if others:
        raise BackboneError(
            f"weights file {checkpoint.path} holds a {trunk.family} at {trunk} and at {listed(others)}; say which one "
            f"to read with `key={trunk.group or others[0]}` or `key={others[0]}`."
        )


def _at_key(checkpoint: Checkpoint, key: str) -> MatchedWeights:
    asked, key = key, without_wrappers(key)
    groups = sorted(checkpoint.groups, key=len, reverse=True)
    for group in groups:
        if group and not (key == group or key.startswith(f"{group}.")):
            continue
        rest = key.removeprefix(group).lstrip(".")
        prefix = f"{rest}." if rest else ""
        raw = _below(checkpoint.groups[group], prefix)
        family = next(
            (trunk.family for trunk in _trunks(checkpoint) if (trunk.group, trunk.prefix) == (group, prefix)), None
        )
        if raw:
            spare = family is not None and family_of(family) == "resnet"
            tensors, strange, beside = _trunk_of(raw, family, HEADS, spare=spare) if family else (raw, [], [])
            return MatchedWeights(
                tensors=tensors if not strange else raw,
                raw=raw,
                system="given by key",
                branch="",
                place=key,
                family=family_of(family) if family else None,
                strange=tuple(strange),
                caution=HEADS_ASSUMED if family == "vit" else "",
                left_out=left_out(checkpoint, group, prefix, (*HEADS, *sorted(beside)) if family else ()),
                groups={group: checkpoint.groups[group]},
            )
    raise BackboneError(
        f"weights file {checkpoint.path} has no weights at key {asked!r}; it has "
        f"{listed(outline(checkpoint), most=12)}."
    )


def _unknown(checkpoint: Checkpoint, trunks: list[_Trunk], branch: str | None) -> MatchedWeights:
    """Return all weights of a file without a network of a known family, for a named architecture to take or refuse."""
    if len(trunks) == 1 and branch is None:
        return replace(_at_key(checkpoint, str(trunks[0])), system="a file with one network")
    if trunks:
        raise BackboneError(
            f"weights file {checkpoint.path} holds a network at {listed(trunks)}, in no layout that is known here; "
            f"say which one to read with `key={trunks[0]}`."
        )
    if branch is not None:
        raise BackboneError(f"weights file {checkpoint.path} has no branches that are known here; leave `branch` away.")
    # Where one dictionary alone holds tensors, it is that one.
    tops = dict.fromkeys((*(group for group, _ in TOPS), *(checkpoint.groups if len(checkpoint.groups) == 1 else ())))
    for group in tops:
        tensors = checkpoint.groups.get(group)
        if tensors:
            bare = all(name.startswith("module.") for name in tensors)
            prefix = "module." if bare else ""
            plain = _below(tensors, prefix)
            return MatchedWeights(
                plain,
                plain,
                "plain names",
                "",
                group or "the top",
                None,
                left_out=left_out(checkpoint, group, prefix, ()),
            )
    raise BackboneError(
        f"weights file {checkpoint.path} has {listed(outline(checkpoint), most=12)}, in no layout that is known here; "
        "say where the weights are with `key`."
    )
