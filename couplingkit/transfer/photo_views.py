"""Photos and their objects in, what a detector is shown in training out: batches that depend on seed and step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..data.detection import DetectionPhotos, Targets
from ..errors import DataError
from ..streams import Stream
from ..training.sampling import Key, next_whole
from .settings import DetectPhotos

__all__ = ["ShownPhotos", "collated", "detector_target", "groups_of", "learnable"]


def learnable(photos: DetectionPhotos) -> list[str]:
    """Return the photos that have an object, as the field trains detectors on; raises `DataError` where none has."""
    found = [identity for identity in photos.ids if photos.has_object(identity)]
    if not found:
        raise DataError(f"no photo of {photos.name} has an object to learn from.")
    return found


def groups_of(photos: DetectionPhotos, ids: Sequence[str], *, batch: int, grouped: bool) -> NDArray[np.int64]:
    """Return 0 for photos that are upright, 1 for the others; all 0 where groups are not wanted or too small.

    Args:
        photos: the photos.
        ids: some of them.
        batch: photos that must be of one group.
        grouped: whether groups are wanted.
    """
    if not grouped:
        return np.zeros(len(ids), dtype=np.int64)
    sizes = np.array([photos.size(identity) for identity in ids])
    groups = (sizes[:, 1] >= sizes[:, 0]).astype(np.int64)
    counts = np.bincount(groups, minlength=2)
    # A group that fills no batch would never be shown.
    return np.zeros_like(groups) if counts[counts > 0].min() < batch else groups


def detector_target(targets: Targets, size: tuple[int, int], *, masks: bool) -> dict[str, torch.Tensor]:
    """Return what torchvision's detectors learn from: boxes as left, top, right, bottom, labels from 1, masks.

    Crowds are left out, and so is what has no width or height, or, where masks are learned, no mask.
    """
    whole = ~targets.crowd & (targets.boxes[:, 2:] > 0).all(axis=1)
    if masks:
        # An empty mask would be learned.
        whole &= np.array([rle is not None for rle in targets.rles], dtype=bool)
    kept = targets.of(whole)
    corners = kept.boxes.copy()
    corners[:, 2:] += corners[:, :2]
    found = {
        "boxes": torch.from_numpy(corners).to(torch.float32).reshape(-1, 4),
        "labels": torch.from_numpy(kept.labels) + 1,
    }
    if masks:
        found["masks"] = torch.from_numpy(kept.masks(size).astype(np.uint8))
    return found


@dataclass(frozen=True)
class ShownPhotos(Dataset[dict[str, Any]]):
    """Photos with their objects by (epoch, number, step): read, mirrored or not, with the side that they are shown at.

    Attributes:
        photos: the photos.
        ids: those that are shown, by number.
        settings: of the recipe.
        masks: whether the detector has a head for masks.
        seed: of the run.
    """

    photos: DetectionPhotos
    ids: tuple[str, ...]
    settings: DetectPhotos
    masks: bool
    seed: int

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        epoch, number, _ = key
        (pixels, targets), _, broken = next_whole(len(self.ids), number, self._read)
        generator = Stream(self.seed).child("views", epoch, number).generator()
        side = int(self.settings.sides[int(generator.integers(len(self.settings.sides)))])
        mirrored = bool(generator.random() < self.settings.flip)
        image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()
        target = detector_target(targets, (pixels.shape[0], pixels.shape[1]), masks=self.masks)
        if mirrored:
            image, target = _mirrored(image, target)
        return {"image": image, "target": target, "side": side, "broken": broken}

    def _read(self, place: int) -> tuple[NDArray[np.uint8], Targets]:
        identity = self.ids[place]
        return self.photos.pixels(identity), self.photos.targets(identity)


def _mirrored(image: torch.Tensor, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return a photo and its objects with left and right exchanged."""
    width = image.shape[-1]
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = width - target["boxes"][:, [2, 0]]
    found = {**target, "boxes": boxes}
    if "masks" in target:
        found["masks"] = target["masks"].flip(-1)
    return image.flip(-1), found


def collated(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one batch: lists of images, of objects and of sides."""
    return {
        "images": [sample["image"] for sample in samples],
        "targets": [sample["target"] for sample in samples],
        "sides": [sample["side"] for sample in samples],
        "broken": [number for sample in samples for number in sample["broken"]],
    }
