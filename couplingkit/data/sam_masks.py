"""JSON with the masks of one photo, as Segment Anything's generator and its dataset write them, in; its objects out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..errors import DataError
from .masked_photos import UNNAMED
from .segmentation import BrokenMask, segmentation_rle

__all__ = ["mask_records", "read_mask_json", "records_objects", "records_size"]

# Where programs put a word on what an object is.
NAMES = ("category", "category_name", "class", "class_name", "label", "name")
LISTS = ("annotations", "masks", "objects", "segments", "predictions")


def mask_records(content: Any, place: Path) -> dict[str | None, list[dict[str, Any]]]:
    """Return photo's name -> its masks' records; None stands for the photo of the file's own name.

    Read are a list of records with a `segmentation` (the generator's), {"image": {"file_name"}, "annotations": [...]}
    (the dataset's), {photo's name: list of records}, and a list of {"file_name", "annotations"}.

    Raises:
        DataError: it is none of them.
    """
    if _is_records(content):
        return {None: content}
    if isinstance(content, list) and all(isinstance(one, dict) for one in content):
        found: dict[str | None, list[dict[str, Any]]] = {}
        for one in content:
            found.update(_of_photo(one, place))
        return found
    if isinstance(content, dict):
        if any(key in content for key in LISTS):
            return _of_photo(content, place)
        if content and all(_is_records(one) for one in content.values()):
            return dict(content)
    raise DataError(
        f"masks {place} hold no masks: a list of records with a `segmentation` was expected, as Segment Anything's "
        'mask generator gives, {"image": ..., "annotations": [...]}, or {photo: [...]}.'
    )


def _is_records(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(one, dict) and "segmentation" in one for one in content)


def _of_photo(content: dict[str, Any], place: Path) -> dict[str | None, list[dict[str, Any]]]:
    image = content.get("image", content)
    name = image if isinstance(image, str) else image.get("file_name") if isinstance(image, dict) else None
    records = next((content[key] for key in LISTS if key in content), None)
    if not _is_records(records) or not (name is None or isinstance(name, str)):
        raise DataError(f"masks {place} have a photo whose masks are no list of records with a `segmentation`.")
    return {name: list(records or [])}


def records_size(records: list[dict[str, Any]]) -> tuple[int, int] | None:
    """Return the (width, height) that the run lengths state; None where no mask has any."""
    for record in records:
        rle = record["segmentation"]
        size = rle.get("size") if isinstance(rle, dict) else None
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
            return size[1], size[0]
    return None


def records_objects(
    records: list[dict[str, Any]], width: int, height: int, place: object
) -> list[tuple[str, dict[str, Any]]]:
    """Return the objects of one photo as (category, RLE); a mask that encloses nothing is none.

    Raises:
        DataError: a mask is broken, or of another size than the photo.
    """
    found = []
    for number, record in enumerate(records):
        try:
            rle = segmentation_rle(record["segmentation"], width, height)
        except BrokenMask as error:
            raise DataError(f"masks {place}: mask {number}: {error}.") from error
        if rle is None:
            continue
        counts = rle["counts"]
        plain = {"size": [height, width], "counts": counts.decode() if isinstance(counts, bytes) else counts}
        words = (record.get(key) for key in NAMES)
        found.append((next((word for word in words if isinstance(word, str) and word), UNNAMED), plain))
    return found


def read_mask_json(path: Path) -> dict[str | None, list[dict[str, Any]]]:
    """Read a file as `mask_records` does.

    Raises:
        DataError: it cannot be read, or holds no masks.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise DataError(f"masks {path} cannot be read ({error.strerror or error}).") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"masks {path} are no JSON ({error}).") from error
    return mask_records(content, path)
