"""Image files of any kind in, 8-bit sRGB as a person would see it out; resized for a network's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..errors import DataError
from .image_files import PLAIN_MODES, READ_ERRORS, opened_image

__all__ = ["open_photo", "resize_photo"]

WHITE = (255, 255, 255, 255)
# 16-bit gray; Pillow opens that of a PNG as I, too, but I of other files has 32 bits.
DEEP_GRAY = ("I;16", "I;16L", "I;16B", "I;16N")


def open_photo(path: Path) -> NDArray[np.uint8]:
    """Return a picture as uint8 (H, W, 3), the way an image viewer shows it.

    Turned as its EXIF data says; gray, palette and CMYK as colours; 16-bit gray scaled to 8; what is transparent on
    white; of an animation the first picture. Colour profiles are not applied.

    (Photos of an annotation file are read by `read_photo` instead: their masks are drawn on the pixels as stored.)

    Raises:
        DataError: the file is missing, no image, cut short, or of a kind whose range is not known (float, 32 bits).
    """
    try:
        with opened_image(path, path) as image:
            turned = ImageOps.exif_transpose(image)
            return np.array(_as_rgb(turned, image.format, path))
    except FileNotFoundError as error:
        raise DataError(f"image {path} is missing; give the path of a picture.") from error
    except IsADirectoryError as error:
        raise DataError(f"image {path} is a folder; give the path of one picture.") from error
    except READ_ERRORS as error:
        raise DataError(f"image {path} cannot be read ({error}); it is cut short or no image.") from error


def _as_rgb(image: Image.Image, kind: str | None, path: Path) -> Image.Image:
    if image.mode in DEEP_GRAY or (image.mode == "I" and kind == "PNG"):
        # 65535 is white, as 255 is; 257 maps one on the other exactly.
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode not in PLAIN_MODES:
        raise DataError(f"image {path} has mode {image.mode}, whose range is not known; 8 or 16 bits can be read.")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colours.size, WHITE), colours).convert("RGB")
    return image.convert("RGB")


def resize_photo(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (*size, 3), bicubic with antialiasing (Pillow's, the same bytes on every machine).

    Args:
        rgb: uint8 (H, W, 3).
        size: height and width, px.
    """
    return np.array(Image.fromarray(rgb).resize((size[1], size[0]), Image.Resampling.BICUBIC))
