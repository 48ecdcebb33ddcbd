"""Image files of any kind in, 8-bit sRGB out: as a person would see it, or in the frame that masks are drawn in."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import DataError
from .image_files import PLAIN_MODES, READ_ERRORS, opened_image
from .objects import ImageRecord
from .photo_files import PhotoFiles

__all__ = ["open_photo", "read_photo", "resize_photo"]

# EXIF's tag of how a camera was held, and the values of it that turn or mirror; from 5 on the sides change places.
ORIENTATION, TURNED, SIDEWAYS = 0x0112, range(2, 9), 5

WHITE = (255, 255, 255, 255)
# 16-bit gray; Pillow opens that of a PNG as I, too, but I of other files has 32 bits.
DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N")


def open_photo(path: Path) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H, W, 3), the way an image viewer shows it.

    Turned as its EXIF data says; gray, palette and CMYK as colours; 16-bit gray scaled to 8; what is transparent on
    white; of an animation the first picture. Colour profiles are not applied.

    (Photos of an annotation file are read by `read_photo`: their masks decide whether they are turned.)

    Raises:
        DataError: the file is missing, no image, cut short, or of a kind whose range is not known (float, 32 bits).
    """
    try:
        with opened_image(path, path) as image:
            # Which copies a photo that is not turned, too.
            turned = ImageOps.exif_transpose(image) if _orientation(image) in TURNED else image
            return np.array(_as_rgb(turned, image.format, path))
    except FileNotFoundError as error:
        raise DataError(f"image {path} is missing; give the path of a picture.") from error
    except IsADirectoryError as error:
        raise DataError(f"image {path} is a folder; give the path of one picture.") from error
    except READ_ERRORS as error:
        raise DataError(f"image {path} cannot be read ({error}); it is cut short or no image.") from error


def read_photo(photos: PhotoFiles, record: ImageRecord) -> NDArray[np.uint8]:
    """Return a photo of an annotation file as uint8 (H, W, 3), exactly the size its record says; else as `open_photo`.

    Where a rotation tag is in the file, the frame of the masks decides: the pixels are taken as stored or as the tag
    turns them, whichever has the record's size.

    Raises:
        DataError: the file is missing, truncated, no image, or of another size; it has a rotation tag and both frames
            have the record's size (see `Eligibility.exif`).
    """
    place = photos.place(record.file_name)
    try:
        with photos.open(record.file_name) as stream, opened_image(stream, place) as image:
            shown = ImageOps.exif_transpose(image) if _is_turned(image, record, place) else image
            if shown.size != (record.width, record.height):
                raise DataError(
                    f"image {place} is {shown.width} x {shown.height} px, but the annotations say "
                    f"{record.width} x {record.height}; its masks would not fit."
                )
            return np.array(_as_rgb(shown, image.format, place))
    except FileNotFoundError as error:
        raise DataError(f"image {place} is missing; is `images` the folder that file_name starts from?") from error
    except (*READ_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"image {place} cannot be read ({error}); it is truncated or no image.") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except READ_ERRORS:
        return 1


def _is_turned(image: Image.Image, record: ImageRecord, place: str) -> bool:
    """Return whether masks are drawn on the photo as its rotation tag turns it."""
    tag = _orientation(image)
    if tag not in TURNED or record.exif == "ignore":
        return False
    if record.exif == "apply":
        return True
    wanted, stored = (record.width, record.height), image.size
    turned = stored[::-1] if tag >= SIDEWAYS else stored
    if stored == turned == wanted:
        raise DataError(
            f"image {place} has a rotation tag (EXIF orientation {tag}), and its size does not tell whether its masks "
            "are drawn on the pixels as stored (`exif=ignore`) or as a viewer shows them (`exif=apply`)."
        )
    return turned == wanted


def _as_rgb(image: Image.Image, kind: str | None, path: object) -> Image.Image:
    if image.mode in DEEP_GRAY or (image.mode == "I" and kind == "PNG"):
        # 65535 is white, as 255 is; 257 maps one on the other exactly.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode not in PLAIN_MODES:
        raise DataError(f"image {path} has mode {image.mode}, whose range is not known; 8 or 16 bits can be read.")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, WHITE), colours).convert("RGB")
    # Not converted where it is RGB: that would copy a photo of 100 million px once more.
    return image if image.mode == "RGB" else image.convert("RGB")


def resize_photo(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (*size, 3), bicubic with antialiasing (Pillow's, the same bytes on every machine).

    Args:
        rgb: uint8 (H, W, 3).
        size: height and width, px.
    """
    return np.array(Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.BICUBIC))
