"""Index and photo folder in, objects cut tight to their masks out; each decoded once while the cache holds it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError, first_line
from ..files import file_stamp
from .coco import CocoIndex
from .objects import ObjectRecord
from .photo_files import photo_files
from .photos import read_photo
from .segmentation import rle_mask

__all__ = [
    "CutoutStore",
    "ObjectCutout",
    "cut_object",
    "photo_canvas",
    "resize_cutout",
]

CACHE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class ObjectCutout:
    """One object, cut tight to its mask.

    Attributes:
        rgb: uint8 (h, w, 3), sRGB; what lies outside the mask is the rest of the photo and is never shown.
        mask: bool (h, w); touches all four sides.
    """

    annotation_id: int
    image_id: int
    category: str
    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]


class CutoutStore:
    """Objects and photos of one index, decoded on demand and kept in a cache of bounded size.

    Args:
        index: the annotations.
        images: where the photos lie: a folder, a zip or a tar.
        wanted: annotation ids that will be asked for; when a photo is decoded, all of its wanted objects are cut,
            so that a photo is decoded once.
        cache_bytes: bound of the cache, in bytes of pixels; the least recently used objects leave it first.
    """

    def __init__(
        self,
        index: CocoIndex,
        images: str | Path,
        *,
        wanted: Iterable[int] = (),
        cache_bytes: int = CACHE_BYTES,
    ):
        self.index = index
        self.photos = photo_files(images)
        self.cache_bytes = cache_bytes
        self.decoded_photos = 0
        self._records: dict[int, ObjectRecord] = {}
        self._wanted_by_image: dict[int, list[int]] = {}
        for annotation_id in dict.fromkeys(wanted):
            self._wanted_by_image.setdefault(index.image_of(annotation_id), []).append(annotation_id)
        self._cache: OrderedDict[int, ObjectCutout] = OrderedDict()
        self._held_bytes = 0

    def record(self, annotation_id: int) -> ObjectRecord:
        """Return an object with its mask; it is read once."""
        if annotation_id not in self._records:
            self._records[annotation_id] = self.index.record(annotation_id)
        return self._records[annotation_id]

    def check_photos(self, image_ids: Iterable[int]) -> None:
        """Raise `DataError` if a photo's file is missing, before hours are spent on the others."""
        self.photos.check(self.index.images[image_id].file_name for image_id in dict.fromkeys(image_ids))

    def stamps(self, image_ids: Iterable[int]) -> list[tuple[str, int, int, int, int]]:
        """Return names of photos and stamps of their files, which change when one is written anew; see `file_stamp`.

        Raises:
            DataError: one is gone.
        """
        names = [self.index.images[image_id].file_name for image_id in image_ids]
        try:
            return [(name, *file_stamp(self.photos.holder(name))) for name in names]
        except OSError as error:
            raise DataError(f"images {self.photos.path} cannot be read any more ({first_line(error)}).") from error

    def cutout(self, annotation_id: int) -> ObjectCutout:
        """Return an object, from the cache or cut out of its photo now."""
        held = self._cache.get(annotation_id)
        if held is not None:
            self._cache.move_to_end(annotation_id)
            return held
        wanted = self.record(annotation_id)
        pixels = self.photo(wanted.image_id)
        for other in self._wanted_by_image.get(wanted.image_id, []):
            if other not in self._cache and other != annotation_id:
                self._keep(cut_object(pixels, self.record(other)))
        cutout = cut_object(pixels, wanted)
        self._keep(cutout)
        return cutout

    def photo(self, image_id: int) -> NDArray[np.uint8]:
        """Decode a whole photo: uint8 (H, W, 3)."""
        self.decoded_photos += 1
        return read_photo(self.photos, self.index.images[image_id])

    def _keep(self, cutout: ObjectCutout) -> None:
        self._cache[cutout.annotation_id] = cutout
        self._held_bytes += cutout.rgb.nbytes + cutout.mask.nbytes
        while self._held_bytes > self.cache_bytes and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._held_bytes -= oldest.rgb.nbytes + oldest.mask.nbytes


def cut_object(pixels: NDArray[np.uint8], record: ObjectRecord) -> ObjectCutout:
    """Return an object of a photo, uint8 (H, W, 3), cut tight to its mask."""
    window = np.s_[record.top : record.top + record.height, record.left : record.left + record.width]
    # Copies, so that a small object does not keep its whole photo in memory.
    mask = rle_mask(record.rle)[window].copy()
    return ObjectCutout(record.annotation_id, record.image_id, record.category, pixels[window].copy(), mask)


def resize_cutout(cutout: ObjectCutout, width: int, height: int) -> ObjectCutout:
    """Return the object at `width` x `height` px, antialiased, its mask with it.

    The colours are averaged over the object's own pixels only (premultiplied alpha), so no background bleeds into
    its edge; a pixel belongs to the object where the mask covers at least half of it. Pillow's resampling of 8-bit
    images is integer arithmetic: the result is the same, byte for byte, on every machine.
    """
    rgba = np.dstack([cutout.rgb, cutout.mask.astype(np.uint8) * 255])
    resized = np.asarray(Image.fromarray(rgba).resize((width, height), Image.Resampling.BILINEAR))
    mask = resized[..., 3] >= 128
    return ObjectCutout(cutout.annotation_id, cutout.image_id, cutout.category, resized[..., :3].copy(), mask)


def photo_canvas(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the largest centred part of a photo that has the aspect of `size`, as uint8 (*size, 3), antialiased.

    Args:
        pixels: uint8 (h, w, 3).
        size: height and width of the canvas, px.
    """
    height, width = pixels.shape[:2]
    rows = max(1, min(height, width * size[0] // size[1]))
    columns = max(1, min(width, height * size[1] // size[0]))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = Image.fromarray(np.ascontiguousarray(pixels[top : top + rows, left : left + columns]))
    return np.asarray(part.resize((size[1], size[0]), Image.Resampling.BILINEAR))
