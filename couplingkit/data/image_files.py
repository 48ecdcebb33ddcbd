"""A file or stream in, an opened image out: however large a person's own photos are, up to a limit that is named."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ..errors import DataError

__all__ = ["MOST_PIXELS", "PLAIN_MODES", "READ_ERRORS", "opened_image"]

# What Pillow's decoders raise on files that they cannot read.
READ_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, RuntimeError, ArithmeticError),
    *(struct.error, Image.DecompressionBombError),
)

# Modes whose conversion to 8-bit sRGB loses nothing that a person would see.
PLAIN_MODES = ("RGB", "L", "P", "RGBA", "LA", "PA", "CMYK", "YCbCr", "1")

# Three bytes each, and as much again while it is decoded.
MOST_PIXELS = 2**29
_LOCK = threading.Lock()


@contextmanager
def opened_image(source: Path | BinaryIO, place: object) -> Iterator[Image.Image]:
    """Open an image whose pixels are not decoded yet.

    Pillow takes more than 179 million pixels for an attack; aerial photos and slides have more, and are their owner's.

    Args:
        source: the file.
        place: what an error calls it.

    Raises:
        DataError: it has more than `MOST_PIXELS`.
    """
    with _LOCK:
        # Pillow looks at its limit while it opens, and only there.
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise DataError(
                f"image {place} has {image.width:,} x {image.height:,} px, and no more than {MOST_PIXELS / 1e6:.0f} "
                "million are read; make it smaller, together with its masks, or cut it into tiles."
            )
        yield image
