"""A number and a seed of scenes in, their photos and annotations out: written to the cache folder once, then kept."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from ..errors import OutputError
from ..files import cache_folder, file_stamp
from ..kept_files import KeptFiles
from .scene_cache import drawer
from .scenes import write_scenes

__all__ = ["kept_scenes"]

log = logging.getLogger(__name__)
KIND = "scene-sets"


def kept_scenes(count: int, seed: int, *, scratch: Path, progress: bool = False) -> tuple[Path, Path]:
    """Return the annotation file and the photo folder of scenes 0 .. count-1, in the user's cache folder.

    They are believed where every file is as it was written, by its stamp; else they are written again.

    Args:
        count: of the scenes.
        seed: of the set.
        scratch: a folder to write them to where the cache folder cannot be written.
        progress: whether to show a bar.
    """
    files = KeptFiles(KIND, 0)
    key = hashlib.sha256(repr((drawer(), count, seed)).encode()).hexdigest()
    folder, record = files.folder / key[:16], files.path(key)
    try:
        with files.building(key):
            if not _is_whole(folder, record):
                write_scenes(folder, count=count, seed=seed, overwrite=True, progress=progress)
                record.write_text(json.dumps(_stamps(folder)), encoding="utf-8")
        return folder / "instances.json", folder / "images"
    except (OutputError, OSError) as error:
        log.debug("scenes are not kept in %s: %s", cache_folder(), error)
    return write_scenes(scratch, count=count, seed=seed, progress=progress)


def _stamps(folder: Path) -> list[list[str | int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[path.relative_to(folder).as_posix(), *file_stamp(path)] for path in paths]


def _is_whole(folder: Path, record: Path) -> bool:
    try:
        return bool(json.loads(record.read_text(encoding="utf-8")) == _stamps(folder))
    except (OSError, ValueError, RecursionError):
        return False
