"""Sprites and boxes in, what tells pictures from others out: a digest a probe, kept for the next run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import OutputError
from ..kept_files import KeptFiles
from .compositing import DrawnSprites, paste_windows
from .sprites import Pixels

__all__ = ["joined_digest", "keep_digests", "kept_digests", "picture_digest"]

log = logging.getLogger(__name__)
KIND, MOST_BYTES = "digests", 64 * 2**20
LENGTH = hashlib.sha256().digest_size
GRAY_BYTE = 128


def picture_digest(drawn: DrawnSprites, backdrop: Pixels | None) -> bytes:
    """Return the SHA-256 of one probe's images and masks of A and B, in bytes on the gray canvas.

    Args:
        drawn: its sprites.
        backdrop: the photo behind them, uint8 (H, W, 3), which is part of it.
    """
    images: Any = np.full((drawn.images, *drawn.size, 3), GRAY_BYTE, dtype=np.uint8)
    masks = np.zeros((len(drawn.placed), *drawn.size), dtype=bool)
    paste_windows(drawn, images, masks, np.copy, np.full(3, GRAY_BYTE, dtype=np.uint8))
    digest = hashlib.sha256(images.transpose(0, 3, 1, 2).tobytes())
    digest.update(np.packbits(masks[0]).tobytes())
    digest.update(np.packbits(masks[1]).tobytes())
    if backdrop is not None:
        digest.update(np.ascontiguousarray(backdrop).tobytes())
    return digest.digest()


def joined_digest(digests: Sequence[bytes]) -> str:
    """Return the SHA-256 over the digests of all probes, in order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def kept_digests(key: str, count: int) -> list[bytes] | None:
    """Return the digests that were kept under a key; None where there are none, or not whole ones."""
    path = KeptFiles(KIND, MOST_BYTES).path(key)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digests, check = content[:-LENGTH], content[-LENGTH:]
    if len(digests) != count * LENGTH or hashlib.sha256(digests).digest() != check:
        return None
    KeptFiles(KIND, MOST_BYTES).used(path)
    return [digests[start : start + LENGTH] for start in range(0, len(digests), LENGTH)]


def keep_digests(key: str, digests: Sequence[bytes]) -> None:
    """Keep the digests of all probes of a set; where the disk refuses, they are worked out again."""
    content = b"".join(digests)
    try:
        with KeptFiles(KIND, MOST_BYTES).new(key) as draft:
            draft.write_bytes(content + hashlib.sha256(content).digest())
    except OutputError as error:
        log.debug("digests were not kept: %s", error)
