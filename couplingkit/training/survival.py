"""Annotated objects and a cutout strategy in, how much of each object survives out: the reason for RCC in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.coco import CocoIndex
from ..data.objects import ObjectRecord
from ..data.segmentation import rle_mask
from ..errors import check_range
from ..features.regions import covered_shares
from ..pixels import Frame
from ..streams import Stream
from .cutout import cutout

__all__ = ["ERASED", "Survival", "object_survival"]

# An object of which this share or more is cut counts as erased.
ERASED = 0.95


@dataclass(frozen=True)
class Survival:
    """What one strategy leaves of annotated objects.

    Attributes:
        strategy, ratio: of the cutout.
        annotations, images: int64 (N,), ids of the objects and of their photos.
        categories: of the objects.
        visible: float64 (N, draws), share of each object that is left under each mask.
        cut: mean share of the grid that the masks cut.
    """

    strategy: str
    ratio: float
    annotations: NDArray[np.int64]
    images: NDArray[np.int64]
    categories: tuple[str, ...]
    visible: NDArray[np.float64]
    cut: float

    @property
    def erased(self) -> NDArray[np.float64]:
        """Share of the draws in which more than 95 % of an object is cut, (N,)."""
        share: NDArray[np.float64] = (self.visible < 1 - ERASED).mean(axis=1)
        return share


def object_survival(
    index: CocoIndex,
    settings: Iterable[tuple[str, float]],
    *,
    grid: tuple[int, int] = (14, 14),
    draws: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> list[Survival]:
    """Cut every photo several times and see what is left of its eligible objects.

    The view is the whole photo, stretched over the grid, as a network's input is.

    Args:
        index: the annotations.
        settings: (strategy, ratio) pairs.
        grid: (h, w) cells.
        draws: masks per photo and setting.
        seed: of the masks; a photo's masks do not depend on the other photos.
        progress: whether to show a bar.
    """
    check_range("draws", draws, 1)
    check_range("grid", min(grid), 2)
    pairs = list(settings)
    by_photo: dict[int, list[ObjectRecord]] = {}
    for record in index.objects:
        by_photo.setdefault(record.image_id, []).append(record)
    order = [record for group in by_photo.values() for record in group]
    visible: list[list[NDArray[np.float64]]] = [[] for _ in pairs]
    cut = np.zeros(len(pairs))
    for image_id, group in tqdm(by_photo.items(), desc="cutting", unit="photo", disable=not progress):
        masks = torch.from_numpy(np.stack([rle_mask(record.rle) for record in group]))
        frame = Frame.fitted((masks.shape[1], masks.shape[2]), grid, fit="stretch")
        shares = covered_shares(masks, frame, stride_px=1, grid=grid)
        for place, (strategy, ratio) in enumerate(pairs):
            stream = Stream(seed).child("masks", strategy, repr(ratio), image_id)
            generator = torch.Generator().manual_seed(stream.torch_seed())
            keep = cutout(strategy, torch.full((draws,), ratio), grid, generator)
            left = torch.einsum("nhw,dhw->nd", shares, keep.to(torch.float64)) / shares.sum(dim=(1, 2))[:, None]
            visible[place].append(left.numpy())
            cut[place] += float((~keep).to(torch.float64).mean()) / len(by_photo)
    return [
        Survival(
            strategy,
            ratio,
            np.array([record.annotation_id for record in order], dtype=np.int64),
            np.array([record.image_id for record in order], dtype=np.int64),
            tuple(record.category for record in order),
            np.concatenate(parts),
            float(share),
        )
        for (strategy, ratio), parts, share in zip(pairs, visible, cut, strict=True)
    ]
