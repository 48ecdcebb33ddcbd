"""What a checkpoint holds, in words: headings of its names, what of it is not read, and all of it as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .checkpoints import Checkpoint

__all__ = ["left_out", "outline", "tree"]


def outline(checkpoint: Checkpoint) -> list[str]:
    """Return the first words of all names, with where in the file they are."""
    return sorted({_heading(group, name) for group, tensors in checkpoint.groups.items() for name in tensors})


def _heading(group: str, name: str) -> str:
    parts = name.split(".")
    depth = 2 if parts[0] == "module" else 1
    return ".".join([*([group] if group else []), *parts[:depth]])


def left_out(checkpoint: Checkpoint, group: str, prefix: str, leave_out: tuple[str, ...]) -> tuple[str, ...]:
    """Describe what is not read, by the first part of its name, with its size."""
    counts: dict[str, list[int]] = {}
    for place, tensors in checkpoint.groups.items():
        for name, value in tensors.items():
            inside = place == group and name.startswith(prefix)
            rest = name.removeprefix(prefix)
            if inside and not (leave_out and rest.startswith(leave_out)):
                continue
            label = _heading(f"{place}.{prefix}".strip("."), rest) if inside else _heading(place, name)
            entry = counts.setdefault(label, [0, 0])
            entry[0] += 1
            entry[1] += value.numel() * value.element_size()
    told = [
        f"{label} ({number} tensor{'s' if number > 1 else ''}, {size / 2**20:.1f} MiB)"
        for label, (number, size) in counts.items()
    ]
    return (*told, *checkpoint.other)


@dataclass
class _Node:
    """A part of names with what stands below it."""

    tensors: int = 0
    numbers: int = 0
    shape: str = ""
    below: dict[str, _Node] = field(default_factory=dict)


def tree(checkpoint: Checkpoint, *, depth: int = 4, most: int = 60) -> list[str]:
    """Return what a file holds as lines: parts of names with how many tensors and numbers, tensors with their shapes.

    Numbered parts of one kind, as a network's blocks, share a line.

    Args:
        checkpoint: the file.
        depth: of parts.
        most: lines; the last one says how many more there are.
    """
    root = _Node()
    for group, tensors in checkpoint.groups.items():
        for name, value in tensors.items():
            node = root
            for part in (group.split(".") if group else []) + name.split("."):
                node = node.below.setdefault(part, _Node())
                node.tensors += 1
                node.numbers += value.numel()
            kind = str(value.dtype).removeprefix("torch.")
            node.shape = f"{' x '.join(map(str, value.shape)) or 'one number'}, {kind}"
    lines = [*_lines(root, 0, depth), *(f"{other}: no tensors" for other in checkpoint.other)]
    return lines if len(lines) <= most else [*lines[: most - 1], f"and {len(lines) - most + 1} more lines"]


def _lines(node: _Node, level: int, depth: int) -> Iterator[str]:
    for names, child in _alike(node.below):
        name = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        if child.shape and not child.below:
            yield f"{'  ' * level}{name}: {child.shape}"
            continue
        each = " each" if len(names) > 1 else ""
        many = "s" if child.tensors > 1 else ""
        yield f"{'  ' * level}{name}.  {child.tensors} tensor{many}, {child.numbers:,} numbers{each}"
        if level + 1 < depth:
            yield from _lines(child, level + 1, depth)


def _alike(below: Mapping[str, _Node]) -> Iterator[tuple[list[str], _Node]]:
    """Yield the parts of a name; numbers one after another that hold the same are one."""
    run: list[str] = []
    for name, child in below.items():
        if run and not (name.isdecimal() and run[-1].isdecimal() and _kind(below[run[-1]]) == _kind(child)):
            yield run, below[run[0]]
            run = []
        run.append(name)
    if run:
        yield run, below[run[0]]


def _kind(node: _Node) -> tuple[int, int, str, tuple[str, ...]]:
    return node.tensors, node.numbers, node.shape, tuple(node.below)
