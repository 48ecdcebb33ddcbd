"""PASCAL VOC's folders of photos and XML files in, photos with boxes of single objects out."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, first_line, near
from .detection import DetectionPhotos, Targets, digest
from .image_files import READ_ERRORS, opened_image
from .semantic import Pixels

__all__ = ["VocDetections"]


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
            if not (right >= left and bottom >= top):
                raise DataError(f"annotation {path} has a box from {left:g}, {top:g} to {right:g}, {bottom:g}.")
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
        return digest(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()))

    def sources(self) -> set[str]:
        """Return the paths of the photos."""
        return {str(folder / "JPEGImages" / f"{stem}.jpg") for folder, stem in self._places.values()}


def _number(entry: ElementTree.Element, name: str, path: Path) -> float:
    try:
        return float(entry.findtext(name) or "")
    except ValueError as error:
        raise DataError(f"annotation {path} has no number at {name}.") from error
