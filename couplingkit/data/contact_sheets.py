"""Pictures in, one sheet of them out as an image that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["sheet_html"]

GAP = 4


def sheet_html(rows: Sequence[Sequence[NDArray[np.uint8]]], *, description: str) -> str:
    """Return an HTML image of rows of pictures, uint8 (H, W, 3), all of one size."""
    height, width = rows[0][0].shape[:2]
    sheet = Image.new(
        "RGB", ((width + GAP) * max(map(len, rows)) - GAP, (height + GAP) * len(rows) - GAP), (255, 255, 255)
    )
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            sheet.paste(Image.fromarray(picture), (column * (width + GAP), row * (height + GAP)))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=6)
    content = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{description}" style="max-width: 100%" src="data:image/png;base64,{content}">'
