"""Instances JSON in, an index of the objects that may be pasted out; nothing is decoded to pixels here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, check_range, listed
from .segmentation import polygon_extent, segmentation_rle, tight_box

__all__ = ["CocoIndex", "Eligibility", "ImageRecord", "ObjectRecord", "PhotoObjects", "read_instances", "read_objects"]

# Annotators click near the border, not on it: of COCO's objects that the photo cuts off, about a third has a mask
# that ends 1 or 2 px inside. So a mask this close to the border touches it.
BORDER_PX = 2


@dataclass(frozen=True)
class Eligibility:
    """Which annotated objects may become part of a probe.

    Attributes:
        min_area: pixels of the object's mask, at least (default 64 x 64).
        border: also take objects whose mask touches the border of their photo (comes within 2 px of it); they are
            cut off there, which makes another shape of them.
    """

    min_area: int = 64 * 64
    border: bool = False

    def __post_init__(self) -> None:
        check_range("min_area", self.min_area, 1)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One photo of the annotation file; width and height in px."""

    image_id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One eligible object: its mask as compressed RLE, the mask's pixel count and tight box (px of its photo)."""

    annotation_id: int
    image_id: int
    category: str
    area: int
    left: int
    top: int
    width: int
    height: int
    rle: dict[str, Any]


@dataclass(frozen=True)
class CocoIndex:
    """What an instances JSON offers: its photos, its eligible objects by annotation id, and what was dropped.

    Attributes:
        sha256: of the annotation file's bytes.
        annotations: number of annotations in the file.
        dropped: rule -> number of annotations which it dropped, each counted at the first rule it failed.
    """

    path: Path
    sha256: str
    images: dict[int, ImageRecord]
    objects: tuple[ObjectRecord, ...]
    annotations: int
    dropped: dict[str, int]
    eligibility: Eligibility

    def what_was_dropped(self) -> str:
        """Return the counts as the tail of a sentence, with the options that loosen the rules."""
        ways = {
            "crowd": "crowds are never used",
            "no mask": "boxes without masks cannot be cut out",
            "small": f"below {self.eligibility.min_area} px of mask: --min-area loosens it",
            "border": "cut off by the photo's border: --allow-border loosens it",
        }
        parts = [f"{count} {rule} ({ways[rule]})" for rule, count in self.dropped.items() if count]
        return f"of {self.annotations} annotations dropped: {', '.join(parts) or 'none'}"


def read_instances(path: str | Path, eligibility: Eligibility = Eligibility()) -> CocoIndex:
    """Read an instances JSON (polygons, uncompressed and compressed RLE, crowds) into an index.

    Args:
        path: the JSON file, in the format of COCO 2017's `instances_*.json`.
        eligibility: the rules; objects that fail one are counted under its name.

    Raises:
        DataError: the file is missing, not JSON, not COCO, or contradicts itself (unknown or double ids, a polygon
            with an odd number of coordinates or outside its photo, an RLE of another size than its photo).
    """
    path = Path(path)
    content, digest = _read_json(path)
    images = _image_records(content["images"], path)
    categories = _category_names(content["categories"], path)
    dropped = Counter({"crowd": 0, "no mask": 0, "small": 0, "border": 0})
    objects: dict[int, ObjectRecord] = {}
    seen: set[int] = set()
    for annotation in content["annotations"]:
        identity = _identity(annotation, "annotation", path)
        if identity in seen:
            raise DataError(f"{path}: annotation {identity} stands there twice; ids must be unique.")
        seen.add(identity)
        image = images.get(annotation.get("image_id"))
        category = categories.get(annotation.get("category_id"))
        if image is None or category is None:
            key, kind = ("image_id", "image") if image is None else ("category_id", "category")
            raise DataError(
                f"{path}: annotation {identity} has {key} {annotation.get(key)!r}, but no such {kind} is listed."
            )
        found = _object_record(annotation, image, category, eligibility, path)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            objects[identity] = found
    return CocoIndex(
        path=path,
        sha256=digest,
        images=images,
        # By id, not by place in the file: a re-ordered file gives the same probes.
        objects=tuple(objects[key] for key in sorted(objects)),
        annotations=len(seen),
        dropped=dict(dropped),
        eligibility=eligibility,
    )


@dataclass(frozen=True)
class PhotoObjects:
    """Everything annotated on one photo: each object however small or cut off, and the crowds, which are no objects."""

    image: ImageRecord
    objects: tuple[ObjectRecord, ...]
    crowds: tuple[ObjectRecord, ...]


def read_objects(path: str | Path, image_ids: Iterable[int]) -> dict[int, PhotoObjects]:
    """Read all that an instances JSON says of some photos, eligible or not; errors as in `read_instances`."""
    path = Path(path)
    content, _ = _read_json(path)
    images = _image_records(content["images"], path)
    categories = _category_names(content["categories"], path)
    wanted: dict[int, tuple[list[ObjectRecord], list[ObjectRecord]]] = {identity: ([], []) for identity in image_ids}
    every = Eligibility(min_area=1, border=True)
    for annotation in content["annotations"]:
        if annotation.get("image_id") in wanted:
            objects, crowds = wanted[annotation["image_id"]]
            crowd = bool(annotation.get("iscrowd"))
            image, category = images[annotation["image_id"]], categories[annotation["category_id"]]
            found = _object_record({**annotation, "iscrowd": 0}, image, category, every, path)
            if not isinstance(found, str):
                (crowds if crowd else objects).append(found)
    return {
        identity: PhotoObjects(images[identity], *(tuple(sorted(part, key=_by_id)) for part in parts))
        for identity, parts in wanted.items()
    }


def _by_id(record: ObjectRecord) -> int:
    return record.annotation_id


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"annotations {path} cannot be read ({error.strerror}); give the path of an instances JSON."
        ) from error
    if not raw.strip():
        raise DataError(f"annotations {path} is empty; an instances JSON was expected.")
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise DataError(f"annotations {path} is not valid JSON ({error}); was it cut short?") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"annotations {path} is not an instances JSON: it has no list '{key}' "
                "(COCO's instances_*.json has images, annotations and categories)."
            )
    return content, hashlib.sha256(raw).hexdigest()


def _identity(record: Any, kind: str, path: Path) -> int:
    identity = record.get("id") if isinstance(record, dict) else None
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise DataError(f"{path}: the {kind} {str(record)[:80]} has no integer 'id'.")
    return identity


def _image_records(records: Iterable[Any], path: Path) -> dict[int, ImageRecord]:
    images: dict[int, ImageRecord] = {}
    for record in records:
        identity = _identity(record, "image", path)
        name, width, height = (record.get(key) for key in ("file_name", "width", "height"))
        if not (isinstance(name, str) and name and _positive(width) and _positive(height)):
            raise DataError(f"{path}: image {identity} needs a file_name and a positive integer width and height.")
        if identity in images:
            raise DataError(f"{path}: image {identity} stands there twice; ids must be unique.")
        images[identity] = ImageRecord(identity, name, width, height)
    return images


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _category_names(records: Iterable[Any], path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for record in records:
        identity = _identity(record, "category", path)
        if identity in names:
            raise DataError(f"{path}: category {identity} stands there twice; ids must be unique.")
        names[identity] = str(record.get("name", identity))
    doubles = [name for name, count in Counter(names.values()).items() if count > 1]
    if doubles:
        # Pairing goes by name; two ids of one name would pass for two categories.
        raise DataError(f"{path}: categories of the same name: {listed(doubles)}; names must be unique.")
    return names


def _object_record(
    annotation: dict[str, Any], image: ImageRecord, category: str, rules: Eligibility, path: Path
) -> ObjectRecord | str:
    """Return the object, or the name of the first rule that drops it."""
    if annotation.get("iscrowd"):
        return "crowd"
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return "no mask"
    where = f"{path}: annotation {annotation['id']}"
    if isinstance(segmentation, list):
        extent = polygon_extent(segmentation, image.width, image.height, where)
        if extent is None:
            return "no mask"
        # A mask lies within its polygon's extent (rounded outwards); most objects are too small and need no more.
        if (extent[0] + 2) * (extent[1] + 2) < rules.min_area:
            return "small"
    rle = segmentation_rle(segmentation, image.width, image.height, where)
    area, left, top, width, height = tight_box(rle)
    if area < rules.min_area:
        return "small" if area else "no mask"
    margin = min(left, top, image.width - left - width, image.height - top - height)
    if margin <= BORDER_PX and not rules.border:
        return "border"
    return ObjectRecord(annotation["id"], image.image_id, category, area, left, top, width, height, rle)
