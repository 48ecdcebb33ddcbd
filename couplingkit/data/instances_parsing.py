"""Instances JSON in, its annotations as columns out.

What is not needed cannot stop anybody: fields are looked at only where something depends on them, one annotation that
cannot be used is dropped and counted, and where a field says twice what the mask says, the mask decides.
"""

from __future__ import annotations

import math
import mmap
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, first_line
from .annotation_formats import other_format
from .annotation_ids import id_numbers, renumbered
from .instances import FAULTS, InstanceTable
from .mask_checks import checked_masks

__all__ = ["parse_instances"]

Ints = NDArray[np.int64]
LONGEST_SIDE = 2**24
# What Python writes and JSON has not; within quotes it is text. Replaced by as many letters, so that places stay.
NO_NUMBERS = re.compile(rb'"(?:[^"\\]|\\.)*"|\bNaN\b|-?\bInfinity\b')


class _Image(msgspec.Struct, gc=False):
    id: Any = None
    width: Any = None
    height: Any = None
    file_name: Any = None
    # LVIS has no other name of a photo.
    coco_url: Any = None


class _Category(msgspec.Struct, gc=False):
    id: Any = None
    name: Any = None


class _Annotation(msgspec.Struct, gc=False):
    image_id: Any
    category_id: Any
    id: Any = None
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    iscrowd: Any = 0
    area: Any = None
    bbox: Any = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def parse_instances(path: Path) -> InstanceTable:
    """Read an instances JSON; errors as in `read_instances`."""
    with path.open("rb") as stream:
        try:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):
            raise DataError(f"annotations {path} is empty, or no file; an instances JSON was expected.") from None
        # The pages are the file's own: nothing of it is copied, and the system may drop them again.
        text = memoryview(mapped)
        # Windows' editors write a mark in front of UTF-8.
        mark = len(BOM_UTF8) if bytes(text[:3]) == BOM_UTF8 else 0
        content, whole = _decoded(text[mark:], path)
        table = _columns(content, whole, mark, path)
        # What was parsed is given back before masks are built.
        del content, whole
    return checked_masks(table, path)


def _decoded(raw: Any, path: Path) -> tuple[_Content, Any]:
    """Return the content, and the bytes that its segmentations are views of."""
    try:
        return msgspec.json.decode(raw, type=_Content), raw
    except msgspec.ValidationError as error:
        kind = other_format(raw)
        if kind is not None:
            raise DataError(f"annotations {path} is no instances JSON: it is {kind}.") from error
        raise DataError(
            f"annotations {path} is no instances JSON (COCO's instances_*.json has images, annotations, categories): "
            f"{error}."
        ) from error
    except RecursionError as error:
        raise DataError(f"annotations {path} is no instances JSON: it is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        numbers = _with_numbers(raw)
        if numbers is not None:
            return _decoded(numbers, path)
        kind = other_format(raw)
        if kind is not None:
            raise DataError(f"annotations {path} is no instances JSON: it is {kind}.") from error
        raise DataError(f"annotations {path} is not valid JSON ({first_line(error)}); was it cut short?") from error


def _with_numbers(raw: Any) -> bytes | None:
    """Return the text with -1 for each NaN and infinity, of the same length; None where there is none."""

    def replaced(found: re.Match[bytes]) -> bytes:
        text = found[0]
        return text if text.startswith(b'"') else b"-1".ljust(len(text))

    text = bytes(raw)
    changed = NO_NUMBERS.sub(replaced, text)
    return changed if changed != text else None


def _columns(content: _Content, raw: Any, mark: int, path: Path) -> InstanceTable:
    numbers, odd_images = id_numbers([image.id for image in content.images])
    image_ids, places = np.unique(numbers, return_index=True)
    images = [content.images[place] for place in places]
    _check_repeated(content.images, numbers, dict(zip(image_ids.tolist(), images, strict=True)), path)
    category_ids, names = _categories(content.categories, path)
    distinct = list(dict.fromkeys(names))
    own, odd = id_numbers([one.id if one.id is not None else f"{n}" for n, one in enumerate(content.annotations)])
    ids, repeated = renumbered(own)
    order = np.argsort(ids, kind="stable")
    annotations = [content.annotations[place] for place in order]
    image, no_image = _rows(image_ids, id_numbers([one.image_id for one in annotations])[0])
    category, no_category = _rows(category_ids, id_numbers([one.category_id for one in annotations])[0])
    merged = np.array([distinct.index(name) for name in names], dtype=np.int64)
    sizes = np.array([(_side(one.width), _side(one.height)) for one in images], dtype=np.int64).reshape(-1, 2)
    words = [_file_name(one) for one in images]
    fault = _faults(no_image, no_category, image, sizes, words)
    _check_sizes(image[fault != FAULTS.index("its image is not listed")], sizes, image_ids, path)
    file_names, name_ends = _texts(words)
    letters, category_ends = _texts(distinct)
    starts = _starts([one.segmentation for one in annotations], raw)
    starts[starts[:, 1] > 0, 0] += mark
    return InstanceTable(
        image_ids=image_ids,
        sizes=np.maximum(sizes, 0),
        file_names=file_names,
        name_ends=name_ends,
        categories=letters,
        category_ends=category_ends,
        ids=ids[order],
        image=image,
        category=merged[category] if merged.size else category,
        crowd=np.array([_is_crowd(one.iscrowd) for one in annotations], dtype=bool),
        area=np.array([_area(one.area) for one in annotations], dtype=np.float64),
        box=np.array([_box(one.bbox) for one in annotations], dtype=np.float64).reshape(-1, 4),
        start=starts[:, 0],
        length=starts[:, 1],
        fault=fault,
        contradicts=np.zeros(len(annotations), dtype=bool),
        stated=np.zeros((0, 5)),
        counts=np.array([repeated, odd + odd_images, len(names) - len(distinct)], dtype=np.int64),
    )


def _check_repeated(images: Sequence[_Image], numbers: Ints, kept: dict[int, _Image], path: Path) -> None:
    """Refuse two photos of one id, of which nobody can say which the masks belong to."""
    if len(kept) == len(images):
        return
    for number, image in zip(numbers.tolist(), images, strict=True):
        if (_file_name(image), image.width, image.height) != (
            _file_name(kept[number]),
            kept[number].width,
            kept[number].height,
        ):
            raise DataError(
                f"{path}: image {number} stands there twice, as {_file_name(kept[number])!r} and as "
                f"{_file_name(image)!r}; ids of images must be unique."
            )


def _categories(listed: Sequence[_Category], path: Path) -> tuple[Ints, list[str]]:
    """Return ids and names; several ids may have one name, and then are one category."""
    numbers, _ = id_numbers([one.id for one in listed])
    found: dict[int, str] = {}
    for number, one in zip(numbers.tolist(), listed, strict=True):
        name = str(one.id if one.name is None else one.name)
        if found.setdefault(number, name) != name:
            raise DataError(
                f"{path}: category {number} is there twice, as {found[number]!r} and as {name!r}; category "
                "ids must be unique."
            )
    return np.array(list(found), dtype=np.int64), list(found.values())


def _rows(known: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the place of each wanted id among the known ones (0 where it is not there), and where it is not."""
    if not known.size:
        return np.zeros(wanted.size, dtype=np.int64), np.ones(wanted.size, dtype=bool)
    order = np.argsort(known, kind="stable")
    places = np.minimum(np.searchsorted(known, wanted, sorter=order), known.size - 1)
    rows: Ints = order[places]
    strange = known[rows] != wanted
    rows[strange] = 0
    return rows, strange


def _faults(
    no_image: NDArray[np.bool_], no_category: NDArray[np.bool_], image: Ints, sizes: Ints, words: Sequence[str]
) -> Ints:
    unsized = (sizes == 0).any(axis=1) if len(sizes) else np.zeros(1, dtype=bool)
    nameless = np.array([not word for word in words] or [False])
    return np.select([no_image, no_category, unsized[image], nameless[image]], [1, 2, 3, 4], 0).astype(np.int64)


def _check_sizes(used: Ints, sizes: Ints, image_ids: Ints, path: Path) -> None:
    """Refuse a photo with masks whose size is stated, and is none."""
    bad = [row for row in np.unique(used).tolist() if (sizes[row] < 0).any()]
    if bad:
        raise DataError(
            f"annotations {path}: width and height of image {image_ids[bad[0]]} must be whole numbers of px from 1 to "
            f"{LONGEST_SIDE:,}."
        )


def _side(value: Any) -> int:
    """Return a side in px; 0 where none is stated, -1 where what is stated is none."""
    if value is None:
        return 0
    number = _number(value)
    return int(number) if 1 <= number <= LONGEST_SIDE and number.is_integer() else -1


def _number(value: Any) -> float:
    """Return a finite number; NaN of anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _area(value: Any) -> float:
    number = _number(value)
    return number if number >= 0 else math.nan


def _box(value: Any) -> tuple[float, ...]:
    numbers = [_number(side) for side in value] if isinstance(value, list) and len(value) == 4 else []
    return tuple(numbers) if numbers and not any(map(math.isnan, numbers)) else (math.nan,) * 4


def _is_crowd(value: Any) -> bool:
    number = _number(value) if not isinstance(value, bool) else float(value)
    return bool(number and not math.isnan(number))


def _file_name(image: _Image) -> str:
    if isinstance(image.file_name, str) and image.file_name:
        return image.file_name
    return image.coco_url.rpartition("/")[2] if isinstance(image.coco_url, str) else ""


def _texts(words: Sequence[str]) -> tuple[NDArray[np.uint8], Ints]:
    """Return texts as the bytes of all of them and where each ends."""
    encoded = [word.encode("utf-8", "replace") for word in words]
    ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), ends


def _starts(segmentations: Sequence[msgspec.Raw], raw: Any) -> Ints:
    """Return (start, length) of each segmentation within the file; they are views of its bytes."""
    base = _address(raw)
    found = np.zeros((len(segmentations), 2), dtype=np.int64)
    for row, segmentation in enumerate(segmentations):
        length = memoryview(segmentation).nbytes
        if length > 2 and bytes(segmentation) != b"null":
            found[row] = _address(segmentation) - base, length
    return found


def _address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, dtype=np.uint8).__array_interface__["data"][0])
