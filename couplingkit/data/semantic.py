"""Photos with a class for each pixel in, built-in scenes or an instances JSON; photo, labels and objects out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from . import scenes
from .coco import AnnotatedPhotos
from .photo_files import photo_files
from .photos import read_photo
from .scenes import SCENE_CATEGORIES, Scene, draw_scene
from .segmentation import rle_mask
from .supercategories import read_supercategories

__all__ = ["BACKGROUND", "IGNORED", "Classes", "CocoPhotos", "LabelledObject", "LabelledPhotos", "ScenePhotos"]

IGNORED = -1
BACKGROUND = "background"
MOST_CLASSES = 2**15 - 1
Labels = NDArray[np.int16]
Pixels = NDArray[np.uint8]
Classes = Literal["category", "super"]


@dataclass(frozen=True)
class LabelledObject:
    """One object of a photo.

    Attributes:
        annotation: its number, unique within the photos.
        label: its class, a place in `classes`.
        mask: bool (H, W).
    """

    annotation: int
    label: int
    mask: NDArray[np.bool_]


class LabelledPhotos(ABC):
    """Photos and a class for each of their pixels.

    Attributes:
        name: what tables call them.
        classes: names; a label is a place in them.
        ids: of the photos, in the order in which they are read.
        has_objects: whether single objects are known, too.
    """

    def __init__(self, name: str, classes: Sequence[str], ids: Sequence[str], *, has_objects: bool):
        if not 1 <= len(classes) <= MOST_CLASSES or len(set(classes)) < len(classes):
            raise ArgumentError(f"classes of {name} must be up to {MOST_CLASSES} different names.")
        self.name = name
        self.classes = tuple(classes)
        self.ids = tuple(ids)
        self.has_objects = has_objects

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, identity: str) -> tuple[Pixels, Labels]:
        """Return a photo, uint8 (H, W, 3), and the class of each pixel, int16 (H, W), -1 where it is ignored.

        Raises:
            DataError: a file is missing or broken, or the two are of different sizes.
        """

    def objects(self, identity: str) -> list[LabelledObject]:
        """Return the objects of a photo; crowds are none."""
        return []

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that other photos, labels or classes would change."""

    def _hash(self, parts: Iterable[object]) -> str:
        said = [type(self).__name__, *self.classes, "", *self.ids, "", *map(str, parts)]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()


@lru_cache(maxsize=64)
def _drawn(number: int, seed: int) -> Scene:
    # A photo and its objects are asked for one after the other.
    return draw_scene(number, seed=seed)


class ScenePhotos(LabelledPhotos):
    """Built-in scenes `start` to `start + count - 1` of a seed, drawn when they are read; class 0 is the ground."""

    def __init__(self, count: int, *, start: int = 0, seed: int = 0):
        super().__init__(
            f"{count} scenes",
            (BACKGROUND, *SCENE_CATEGORIES),
            [str(number) for number in range(start, start + count)],
            has_objects=True,
        )
        self.seed = seed

    def read(self, identity: str) -> tuple[Pixels, Labels]:
        """Return a photo and its labels; see `LabelledPhotos.read`."""
        scene = _drawn(int(identity), self.seed)
        labels = np.zeros(scene.rgb.shape[:2], dtype=np.int16)
        for kind, mask in scene.objects:
            labels[mask] = kind + 1
        return scene.rgb, labels

    def objects(self, identity: str) -> list[LabelledObject]:
        """Return the objects of a photo."""
        drawn = _drawn(int(identity), self.seed).objects
        first = int(identity) * 100
        return [LabelledObject(first + place, kind + 1, mask) for place, (kind, mask) in enumerate(drawn)]

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        return self._hash([self.seed, hashlib.sha256(Path(scenes.__file__).read_bytes()).hexdigest()])


class CocoPhotos(LabelledPhotos):
    """Photos of an instances JSON: the smaller object lies on top, crowds are ignored, the rest is background.

    No published benchmark is made this way.

    Args:
        annotations: instances JSON.
        images: folder of its photos, or a zip or tar of it.
        classes: whether a class is a `category`, or what the file calls its supercategory (`super`).
        chosen: ids of the photos, of those in the file; all by default.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        classes: Classes = "category",
        chosen: Sequence[int] | None = None,
    ):
        self.annotated = AnnotatedPhotos(annotations)
        self.files = photo_files(images)
        names = self.annotated.category_names
        groups = dict(zip(names, names, strict=True))
        if classes == "super":
            groups = read_supercategories(self.annotated.path)
        kinds = [BACKGROUND, *dict.fromkeys(groups[name] for name in names)]
        ids = list(self.annotated) if chosen is None else list(chosen)
        super().__init__(self.annotated.path.stem, kinds, [str(identity) for identity in ids], has_objects=True)
        self.files.check(self.annotated.images[identity].file_name for identity in ids)
        self._label = {name: kinds.index(groups[name]) for name in names}

    def read(self, identity: str) -> tuple[Pixels, Labels]:
        """Return a photo and its labels; see `LabelledPhotos.read`."""
        found = self.annotated[int(identity)]
        rgb = read_photo(self.files, found.image)
        labels = np.zeros(rgb.shape[:2], dtype=np.int16)
        for crowd in found.crowds:
            labels[rle_mask(crowd.rle)] = IGNORED
        for record in sorted(found.objects, key=lambda one: (-one.area, one.annotation_id)):
            labels[rle_mask(record.rle)] = self._label[record.category]
        return rgb, labels

    def objects(self, identity: str) -> list[LabelledObject]:
        """Return the objects of a photo."""
        return [
            LabelledObject(record.annotation_id, self._label[record.category], rle_mask(record.rle))
            for record in self.annotated[int(identity)].objects
        ]

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        sizes = (self.files.stamp(self.annotated.images[int(identity)].file_name)[0] for identity in self.ids)
        return self._hash([self.annotated.sha256, *sizes])
