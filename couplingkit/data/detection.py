"""Photos with boxes (and masks) of single objects in, from COCO, VOC or label maps; what a detector is to find out."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError, first_line, near
from .coco import AnnotatedPhotos
from .image_files import READ_ERRORS, opened_image
from .photo_files import photo_files
from .photos import read_photo
from .segmentation import encode_mask, rle_mask
from .semantic import BACKGROUND, LabelledPhotos, Pixels

__all__ = ["CocoDetections", "DetectionPhotos", "LabelledDetections", "Protocol", "Targets", "VocDetections"]

Protocol = Literal["coco", "voc07", "voc10"]
Floats = NDArray[np.float64]


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
        columns = (self.annotations, self.labels, self.boxes, self.areas, self.crowd, self.difficult)
        rles = tuple(rle for rle, kept in zip(self.rles, keep, strict=True) if kept)
        return Targets(*(column[keep] for column in columns), rles)


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

    def has_object(self, identity: str) -> bool:
        """Return whether there is anything on a photo that a detector learns from."""
        return bool((~self.targets(identity).crowd).any())


class CocoDetections(DetectionPhotos):
    """The photos of an instances JSON, with boxes and areas as it states them.

    Args:
        annotations: the JSON.
        images: folder of its photos, or a zip or tar of it.
        name: what tables call them; the JSON's by default.
    """

    def __init__(self, annotations: str | Path, images: str | Path, *, name: str = ""):
        self.annotated = AnnotatedPhotos(annotations)
        self.files = photo_files(images)
        ids = list(self.annotated)
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
        return _digest(self.annotated.sha256, *sizes)


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
        none = np.zeros(len(found), dtype=bool)
        return Targets(
            np.array([one.annotation for one in found], dtype=np.int64),
            np.array([self._place[one.label] for one in found], dtype=np.int64),
            np.array([_box(one.mask) for one in found], dtype=np.float64).reshape(-1, 4),
            np.array([float(one.mask.sum()) for one in found], dtype=np.float64),
            *(none, none),
            tuple(encode_mask(one.mask) for one in found),
        )

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        return _digest("objects of", self.photos.fingerprint())


class VocDetections(DetectionPhotos):
    """Photos of PASCAL VOC with their XML files: boxes, some of them difficult, no masks.

    Args:
        root: VOCdevkit, or what holds it.
        splits: like `("VOC2007", "trainval")`; several are put together.
        classes: of the objects.
    """

    def __init__(self, root: Path, splits: Sequence[tuple[str, str]], classes: Sequence[str]):
        base = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
        self._places: dict[str, tuple[Path, str]] = {}
        for year, split in splits:
            listing = base / year / "ImageSets" / "Main" / f"{split}.txt"
            if not listing.is_file():
                raise DataError(f"data voc:{root} has no {listing.relative_to(base)}; unpack {year} there.")
            for stem in listing.read_text(encoding="utf-8").split():
                self._places[f"{year}/{stem}"] = (base / year, stem)
        self._numbers = {identity: number for number, identity in enumerate(self._places)}
        name = " + ".join(f"{year} {split}" for year, split in splits)
        super().__init__(name, classes, list(self._places), has_masks=False)
        # Its test set decides how it is scored (as detectron2 has it).
        self.protocol = "voc07" if splits[0][0] == "VOC2007" else "voc10"

    def pixels(self, identity: str) -> Pixels:
        """Return a photo; see `DetectionPhotos.pixels`."""
        folder, stem = self._places[identity]
        path = folder / "JPEGImages" / f"{stem}.jpg"
        try:
            with opened_image(path, path) as image:
                return np.array(image.convert("RGB"))
        except FileNotFoundError as error:
            raise DataError(f"image {path} is missing.") from error
        except READ_ERRORS as error:
            raise DataError(f"image {path} cannot be read ({error}).") from error

    def size(self, identity: str) -> tuple[int, int]:
        """Return the height and the width of a photo, px."""
        root, path = self._parsed(identity)
        return int(_number(root, "size/height", path)), int(_number(root, "size/width", path))

    def _parsed(self, identity: str) -> tuple[ElementTree.Element, Path]:
        folder, stem = self._places[identity]
        path = folder / "Annotations" / f"{stem}.xml"
        try:
            return ElementTree.parse(path).getroot(), path
        except (OSError, ElementTree.ParseError) as error:
            raise DataError(f"annotation {path} cannot be read ({first_line(error)}).") from error

    def targets(self, identity: str) -> Targets:
        """Return the objects of a photo; what VOC calls pixel 1 is pixel 0 here, and its last pixel is within."""
        root, path = self._parsed(identity)
        boxes, labels, difficult = [], [], []
        for entry in root.iterfind("object"):
            kind = (entry.findtext("name") or "").strip()
            if kind not in self.classes:
                raise DataError(f"annotation {path} has an object of {kind!r}{near(kind, self.classes)}.")
            left, top, right, bottom = (
                _number(entry, f"bndbox/{side}", path) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append((left - 1, top - 1, right - left + 1, bottom - top + 1))
            labels.append(self.classes.index(kind))
            difficult.append((entry.findtext("difficult") or "0").strip() == "1")
        count, first = len(boxes), self._numbers[identity] * 1000
        sides = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        return Targets(
            np.arange(first, first + count),
            np.array(labels, dtype=np.int64),
            sides,
            sides[:, 2] * sides[:, 3],
            np.zeros(count, dtype=bool),
            np.array(difficult, dtype=bool),
            (None,) * count,
        )

    def fingerprint(self) -> str:
        """Return a hash that other content would change."""
        files = [folder / "Annotations" / f"{stem}.xml" for folder, stem in self._places.values()]
        return _digest(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()))


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)


def _number(entry: ElementTree.Element, name: str, path: Path) -> float:
    try:
        return float(entry.findtext(name) or "")
    except ValueError as error:
        raise DataError(f"annotation {path} has no number at {name}.") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
