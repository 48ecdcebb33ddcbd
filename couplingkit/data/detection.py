"""Photos with boxes (and masks) of single objects in, from COCO, VOC or label maps; what a detector is to find out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from .coco import AnnotatedPhotos
from .photo_files import photo_files
from .photos import read_photo
from .segmentation import encode_mask, rle_mask, tight_box
from .semantic import BACKGROUND, LabelledPhotos, Pixels, ScenePhotos

__all__ = ["CocoDetections", "DetectionPhotos", "LabelledDetections", "Protocol", "SceneDetections", "Targets"]

Protocol = Literal["coco", "voc07", "voc10"]
Floats = NDArray[np.float64]
# Scenes, 400 kB each.
MOST_KEPT = 1000


@dataclass(frozen=True)
class Targets:
    """The objects of one photo.

    Attributes:
        annotations: int64 (n,), numbers that are unique within the photos.
        labels: int64 (n,), places in the photos' `classes`.
        boxes: float64 (n, 4), left, top, width and height in px.
        areas: float64 (n,), px.
        crowd: bool (n,), groups that are no single object.
        difficult: bool (n,), what VOC does not count.
        rles: compressed masks, where there are any.
    """

    annotations: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: Floats
    areas: Floats
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    rles: tuple[dict[str, Any] | None, ...]

    def __len__(self) -> int:
        return len(self.annotations)

    def masks(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return bool (n, H, W) of a photo of that height and width; nothing where an object has no mask."""
        empty = np.zeros(size, dtype=bool)
        found = [empty if rle is None else rle_mask(rle) for rle in self.rles]
        return np.stack(found) if found else np.zeros((0, *size), dtype=bool)

    def of(self, keep: NDArray[np.bool_]) -> Targets:
        """Return some of them."""
        rles = tuple(rle for rle, kept in zip(self.rles, keep, strict=True) if kept)
        return Targets(
            self.annotations[keep],
            self.labels[keep],
            self.boxes[keep],
            self.areas[keep],
            self.crowd[keep],
            self.difficult[keep],
            rles,
        )


class DetectionPhotos(ABC):
    """Photos and the single objects on them.

    Attributes:
        name: what tables call them.
        classes: names of the objects' classes; there is none for the background.
        ids: of the photos.
        has_masks: whether objects have masks.
        protocol: how detections are scored.
    """

    protocol: Protocol = "coco"

    def __init__(self, name: str, classes: Sequence[str], ids: Sequence[str], *, has_masks: bool):
        self.name, self.classes, self.ids, self.has_masks = name, tuple(classes), tuple(ids), has_masks

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def pixels(self, identity: str) -> Pixels:
        """Return a photo, uint8 (H, W, 3); raises `DataError` if it is broken."""

    @abstractmethod
    def size(self, identity: str) -> tuple[int, int]:
        """Return the height and the width of a photo, px, without decoding it."""

    @abstractmethod
    def targets(self, identity: str) -> Targets:
        """Return the objects of a photo; raises `DataError` if they cannot be read."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that other photos, objects or classes would change."""

    @abstractmethod
    def sources(self) -> set[str]:
        """Return what tells each photo from those of other sets: the path of its file, or which scene it is."""

    def has_object(self, identity: str) -> bool:
        """Return whether there is anything on a photo that a detector learns from."""
        return bool((~self.targets(identity).crowd).any())


class CocoDetections(DetectionPhotos):
    """The photos of an instances JSON, with boxes and areas as it states them.

    Args:
        annotations: the JSON.
        images: folder of its photos, or a zip or tar of it.
        name: what tables call them; the JSON's by default.
        chosen: ids of the photos, of those in the file; all by default.
    """

    def __init__(
        self, annotations: str | Path, images: str | Path, *, name: str = "", chosen: Sequence[int] | None = None
    ):
        self.annotated = AnnotatedPhotos(annotations)
        self.files = photo_files(images)
        ids = list(self.annotated) if chosen is None else list(chosen)
        self.files.check(self.annotated.images[one].file_name for one in ids)
        masks = self.annotated.any_mask()
        title = name or self.annotated.path.stem
        super().__init__(title, self.annotated.category_names, [str(one) for one in ids], has_masks=masks)

    def pixels(self, identity: str) -> Pixels:
        """Return a photo; see `DetectionPhotos.pixels`."""
        return read_photo(self.files, self.annotated.images[int(identity)])

    def size(self, identity: str) -> tuple[int, int]:
        """Return the height and the width of a photo, px."""
        record = self.annotated.images[int(identity)]
        return record.height, record.width

    def targets(self, identity: str) -> Targets:
        """Return the objects of a photo."""
        said = self.annotated.stated(int(identity))
        none = np.zeros(len(said.ids), dtype=bool)
        return Targets(said.ids, said.categories, said.boxes, said.areas, said.crowd, none, said.rles)

    def has_object(self, identity: str) -> bool:
        """Return whether there is anything on a photo that a detector learns from."""
        return self.annotated.has_object(int(identity))

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        sizes = [str(self.files.stamp(self.annotated.images[int(one)].file_name)[0]) for one in self.ids]
        return digest(self.annotated.sha256, *self.ids, *sizes)

    def sources(self) -> set[str]:
        """Return the paths of the photos."""
        return {str(self.files.place(self.annotated.images[int(one)].file_name)) for one in self.ids}


class LabelledDetections(DetectionPhotos):
    """The objects of labelled photos that know single ones: the built-in scenes, maps with a map of instances."""

    def __init__(self, photos: LabelledPhotos):
        if not photos.has_objects:
            raise ArgumentError(f"{photos.name} has label maps alone; a detector needs single objects.")
        kinds = [name for name in photos.classes if name != BACKGROUND]
        super().__init__(photos.name, kinds, photos.ids, has_masks=True)
        self.photos = photos
        self._place = {place: kinds.index(name) for place, name in enumerate(photos.classes) if name in kinds}

    def pixels(self, identity: str) -> Pixels:
        """Return a photo; see `DetectionPhotos.pixels`."""
        return self.photos.read(identity)[0]

    def size(self, identity: str) -> tuple[int, int]:
        """Return the height and the width of a photo, px."""
        height, width = self.pixels(identity).shape[:2]
        return height, width

    def targets(self, identity: str) -> Targets:
        """Return the objects of a photo."""
        found = [one for one in self.photos.objects(identity) if one.label in self._place]
        rles = tuple(encode_mask(one.mask) for one in found)
        sides = np.array([tight_box(rle) for rle in rles], dtype=np.float64).reshape(-1, 5)
        none = np.zeros(len(found), dtype=bool)
        return Targets(
            np.array([one.annotation for one in found], dtype=np.int64),
            np.array([self._place[one.label] for one in found], dtype=np.int64),
            sides[:, 1:],
            sides[:, 0],
            *(none, none),
            rles,
        )

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        return digest("objects of", self.photos.fingerprint())

    def sources(self) -> set[str]:
        """Return the photos by their names, and by their folder where they have one."""
        files = getattr(self.photos, "files", None)
        return {f"{files.path if files is not None else type(self.photos).__name__}/{one}" for one in self.ids}


class SceneDetections(LabelledDetections):
    """The objects of built-in scenes; what was drawn is kept in memory, for it is asked for in every epoch."""

    def __init__(self, photos: ScenePhotos):
        super().__init__(photos)
        self._drawn: dict[str, tuple[Pixels, Targets]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_drawn": {}}

    def _kept(self, identity: str) -> tuple[Pixels, Targets]:
        found = self._drawn.get(identity)
        if found is None:
            found = super().pixels(identity), super().targets(identity)
            if len(self._drawn) < MOST_KEPT:
                self._drawn[identity] = found
        return found

    def pixels(self, identity: str) -> Pixels:
        """Return a photo; see `DetectionPhotos.pixels`."""
        return self._kept(identity)[0]

    def targets(self, identity: str) -> Targets:
        """Return the objects of a photo."""
        return self._kept(identity)[1]


def digest(*parts: str) -> str:
    """Return the SHA-256 of some words."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
