"""All sprites of a probe set in one memory-mapped file of the cache folder: each photo is decoded once for it, ever.

The file is named by a hash of what decides its pixels: the sprites, their objects' masks, the photos' files as they
are, and the code that cuts. It is believed where its digest is right, and built anew where it is not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import version
from multiprocessing import current_process
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import CouplingKitError, OutputError
from ..kept_files import KeptFiles
from ..processes import follow_parent
from .manifest import object_check
from .sprites import Backdrop, CutSprites, Pixels, Sprite

__all__ = ["PACK_BYTES", "Recipe", "SpritePack", "open_pack"]

log = logging.getLogger(__name__)

PACK_BYTES = 4 * 2**30
KIND = "sprites"
# Moves on when the same sprites would come out otherwise.
FORMAT = 2
HEADER_BYTES = 512
# Photos below which starting workers takes longer than it saves; and workers at most.
FEW_PHOTOS, MOST_WORKERS = 64, 8

Wanted = Sprite | Backdrop


@dataclass(frozen=True)
class Recipe:
    """What a pack is made of.

    Attributes:
        source: cuts sprites out of photos.
        sprites, backdrops: all that are wanted, each once.
    """

    source: CutSprites
    sprites: Sequence[Sprite]
    backdrops: Sequence[Backdrop]

    def bytes(self) -> int:
        """Return how many bytes of pixels they are."""
        shown = sum(sprite.width * sprite.height for sprite in self.sprites)
        return 4 * shown + 3 * sum(backdrop.width * backdrop.height for backdrop in self.backdrops)

    def of_photos(self) -> list[tuple[int, list[Wanted]]]:
        """Return photo after photo, with what is cut out of it."""
        found: dict[int, list[Wanted]] = {}
        for sprite in self.sprites:
            found.setdefault(self.source.store.record(sprite.annotation_id).image_id, []).append(sprite)
        for backdrop in self.backdrops:
            found.setdefault(backdrop.image_id, []).append(backdrop)
        return sorted(found.items())

    def key(self) -> str:
        """Return a SHA-256 of all that decides the pixels.

        Raises:
            DataError: a photo's file is gone.
        """
        store, spec = self.source.store, self.source.spec
        ids = sorted({sprite.annotation_id for sprite in self.sprites})
        images = [image_id for image_id, _ in self.of_photos()]
        hidden = any(sprite.hidden >= 0 for sprite in self.sprites)
        said = {
            "format": FORMAT,
            "pillow": version("pillow"),
            "sprites": sorted(astuple(sprite) for sprite in self.sprites),
            "backdrops": sorted(astuple(backdrop) for backdrop in self.backdrops),
            "objects": [object_check(store.record(key)) for key in ids],
            "hidden": [asdict(spec), self.source.seed, self.source.side] if hidden else None,
            **({} if store.index.eligibility.exif == "auto" else {"exif": store.index.eligibility.exif}),
            "photos": [str(store.photos.path.resolve()), *store.stamps(images)],
        }
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class SpritePack:
    """A pack that was opened; a `SpriteSource`.

    Args:
        path: of its file.
        header: that was read of it.
        pixels: uint8, all of them one after another.
        table: int64 (n, 6): kind, id, width, height, hidden, where its pixels start.
    """

    def __init__(self, path: Path, header: dict[str, Any], pixels: NDArray[np.uint8], table: NDArray[np.int64]):
        self.path = path
        self.key = str(header["key"])
        self.photos = int(header["photos"])
        self._pixels = np.asarray(pixels)  # a plain array over the same memory, whose slices cost less
        rows = table.tolist()
        self._starts: dict[Wanted, int] = {_entry(row): row[5] for row in rows}

    def sprite(self, sprite: Sprite) -> Pixels:
        """Return uint8 (h, w, 4), a view of the file."""
        return self._view(sprite, 4)

    def backdrop(self, backdrop: Backdrop) -> Pixels:
        """Return uint8 (h, w, 3), a view of the file."""
        return self._view(backdrop, 3)

    def _view(self, wanted: Wanted, channels: int) -> Pixels:
        start = self._starts[wanted]
        stop = start + wanted.width * wanted.height * channels
        return self._pixels[start:stop].reshape(wanted.height, wanted.width, channels)


def _entry(row: Sequence[int]) -> Wanted:
    kind, identity, width, height, hidden, _ = row
    return Backdrop(identity, width, height) if kind else Sprite(identity, width, height, hidden)


def open_pack(recipe: Recipe, *, most_bytes: int = PACK_BYTES, progress: bool = False) -> SpritePack | None:
    """Return the pack of a recipe: from the cache folder, or built now; None where there can be none.

    Args:
        recipe: what is to be in it.
        most_bytes: of all packs in the cache folder together.
        progress: whether to show a bar while it is built.

    Raises:
        DataError: a photo cannot be used.
    """
    if not recipe.sprites or recipe.bytes() > most_bytes:
        if most_bytes:
            log.warning(
                "Note: the sprites of these probes take %.1f GiB, and `cache_size` allows %.1f: photos are decoded "
                "for each model anew.",
                recipe.bytes() / 2**30,
                most_bytes / 2**30,
            )
        return None
    files, key = KeptFiles(KIND, most_bytes), recipe.key()
    path = files.path(key)
    found = _opened(path, key)
    if found is not None:
        files.used(path)
        return found
    try:
        with files.building(key):
            found = _opened(path, key)
            if found is None:
                with files.new(key) as draft:
                    _build(draft, recipe, key, progress=progress)
                found = _opened(path, key)
    except OutputError as error:
        # A full or read-only disk costs time, and nothing else.
        log.warning(
            "Note: no sprites can be kept (%s); photos are decoded for each model anew.", str(error).rstrip(".")
        )
        return None
    # What was written while the photos were must not be taken for what they are now.
    return found if recipe.key() == key else None


def _opened(path: Path, key: str) -> SpritePack | None:
    """Return a pack if its file is whole, and the one of this key."""
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        header = json.loads(raw[:HEADER_BYTES].tobytes())
        if header["format"] != FORMAT or header["key"] != key:
            return None
        content = raw[HEADER_BYTES:]
        pixels, rows = int(header["pixels"]), int(header["rows"])
        if len(content) != pixels + rows * 6 * 8 or hashlib.sha256(content.data).hexdigest() != header["sha256"]:
            return None
        table = np.frombuffer(content[pixels:].tobytes(), dtype="<i8").reshape(rows, 6)
        return SpritePack(path, header, content[:pixels], table)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _build(draft: Path, recipe: Recipe, key: str, *, progress: bool) -> None:
    """Write a pack: pixels as they come, photo after photo; then the table of what is where; the header last."""
    table: list[tuple[int, ...]] = []
    digest, start = hashlib.sha256(), 0
    with draft.open("r+b") as stream:
        stream.write(b" " * HEADER_BYTES)
        photos = recipe.of_photos()
        with tqdm(total=len(photos), desc="cutting objects", unit="photo", disable=not progress) as bar:
            for wanted, pixels in _cut(recipe, photos):
                for item, content in zip(wanted, pixels, strict=True):
                    table.append((*_row(item), start))
                    start += _append(stream, digest, content)
                bar.update()
        rows = np.array(table, dtype="<i8")
        _append(stream, digest, rows)
        header = {"format": FORMAT, "key": key, "photos": len(photos), "pixels": start, "rows": len(table)}
        stream.seek(0)
        stream.write(json.dumps({**header, "sha256": digest.hexdigest()}).encode().ljust(HEADER_BYTES))


def _row(wanted: Wanted) -> tuple[int, ...]:
    if isinstance(wanted, Backdrop):
        return 1, wanted.image_id, wanted.width, wanted.height, -1
    return 0, wanted.annotation_id, wanted.width, wanted.height, wanted.hidden


def _append(stream: BinaryIO, digest: Any, content: NDArray[Any]) -> int:
    raw = np.ascontiguousarray(content).tobytes()
    digest.update(raw)
    return stream.write(raw)


class _PhotoSprites(torch.utils.data.Dataset[Any]):
    """All that is cut out of a photo, photo after photo, so that a worker decodes it once."""

    def __init__(self, source: CutSprites, photos: Sequence[tuple[int, list[Wanted]]]):
        self._source, self._photos = source, photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place: int) -> list[Pixels] | CouplingKitError:
        image_id, wanted = self._photos[place]
        try:
            return self._source.of_photo(image_id, wanted)
        except CouplingKitError as error:
            # Raised in the worker it would come out with its traceback as its sentence.
            return error


def _as_it_is(item: Any) -> Any:
    return item


def _cut(recipe: Recipe, photos: Sequence[tuple[int, list[Wanted]]]) -> Iterator[tuple[list[Wanted], list[Pixels]]]:
    workers = _workers(len(photos))
    options: dict[str, Any] = {"num_workers": workers, "prefetch_factor": 8, "worker_init_fn": follow_parent}
    dataset = _PhotoSprites(recipe.source, photos)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, shuffle=False, collate_fn=_as_it_is, **(options if workers else {})
    )
    for (_, wanted), pixels in zip(photos, loader, strict=True):
        if isinstance(pixels, CouplingKitError):
            raise pixels
        yield wanted, pixels


def _workers(photos: int) -> int:
    """Return how many processes cut: one per core that this process may use; none for a few photos."""
    if photos < FEW_PHOTOS or current_process().daemon:
        return 0
    allowed: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(cores, MOST_WORKERS) if cores > 1 else 0
