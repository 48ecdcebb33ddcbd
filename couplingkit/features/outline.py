"""What a checkpoint holds, in words: headings of its names, and what of it is not read."""

from __future__ import annotations

from .checkpoints import Checkpoint

__all__ = ["left_out", "outline"]


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
