"""Names of models in, what tables and figures call them out: as short as tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from .map_layout import wrapped

__all__ = ["broken_labels", "cut_labels", "short_labels", "shorten"]


def short_labels(names: Sequence[str]) -> list[str]:
    """Return the names with the paths of weights files cut to the shortest tails that tell them apart.

    >>> short_labels(["vit@runs/a/last.pth", "vit@runs/b/last.pth", "resnet50"])
    ['vit@a/last.pth', 'vit@b/last.pth', 'resnet50']
    """
    for depth in range(1, 20):
        labels = [_cut_path(name, depth) for name in names]
        if len(set(labels)) == len(set(names)):
            return labels
    return list(names)


def _cut_path(name: str, depth: int) -> str:
    architecture, at, path = name.partition("@")
    return architecture + at + "/".join(PurePath(path).parts[-depth:]) if at else name


def cut_labels(names: Sequence[str], longest: int) -> list[str]:
    """Return short labels of at most so many letters, the middle gone; numbered where that leaves two alike."""
    labels = [shorten(label, longest) for label in short_labels(names)]
    if len(set(labels)) < len(set(names)):
        labels = [f"{row}: {shorten(label, longest - 4)}" for row, label in enumerate(short_labels(names), 1)]
    return labels


def broken_labels(names: Sequence[str], width_in: float, size: float = 7) -> list[str]:
    """Return short labels in lines of at most `width_in` inches, broken at separators as far as there are any."""
    return ["\n".join(wrapped(label, width_in, size)) for label in short_labels(names)]


def shorten(label: str, longest: int) -> str:
    """Return a label without its middle where it has more than `longest` letters.

    >>> shorten("vit_small_patch16_224", 12)
    'vit_s…16_224'
    """
    half = longest // 2 - 1
    return label if len(label) <= longest else f"{label[:half]}…{label[len(label) - half - longest % 2 - 1 :]}"
