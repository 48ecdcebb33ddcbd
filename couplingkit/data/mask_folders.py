"""A folder of masks (PNG label maps, or JSON) and the photos' place in, an instances JSON in the cache folder out."""

from __future__ import annotations

import atexit
import hashlib
import logging
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ..errors import DataError, OutputError, listed
from ..files import cache_folder, file_stamp, new_file
from ..typed_files import read_json, read_toml
from ..words import as_path
from .image_files import READ_ERRORS, opened_image
from .label_maps import read_map
from .masked_photos import MaskedPhoto, MaskValues, check_mask_values, instances_json, label_objects
from .photo_files import PhotoFiles, photo_files
from .sam_masks import read_mask_json, records_objects, records_size

__all__ = ["instances_of_masks", "read_mask_names"]

log = logging.getLogger(__name__)
# Moves on when the same masks would become another file.
FORMAT = 1
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
# What people add to the name of a photo for that of its mask.
ENDINGS = re.compile(r"[-_. ](?:masks?|gt|seg|segmentation|labels?|instances?|instanceids?|labelids?)$", re.IGNORECASE)


@dataclass(frozen=True)
class _MaskFile:
    """A file of masks, and the photo it belongs to; None of a JSON that names its photos itself."""

    path: Path
    photo: str | None


def instances_of_masks(
    masks: str | Path,
    images: str | Path,
    *,
    values: MaskValues = "objects",
    names: Mapping[int, str] | None = None,
    progress: bool = False,
) -> Path:
    """Return an instances JSON of the masks that a user has, kept in the cache folder and made once.

    Args:
        masks: a folder of PNG label maps named like their photos (`a.png` or `a_mask.png` of `a.jpg`; 0 is no object,
            255 of 8 bits is none but in a map of 0 and 255), or with a folder of binary PNGs for each photo
            (`a/0.png`, `a/1.png`); or JSON of masks, a file or a folder of one per photo (see `sam_masks`).
        images: the photos: a folder, a zip or a tar.
        values, names: what the numbers of a label map mean; see `label_objects`.
        progress: whether to show a bar.

    Raises:
        DataError: there are no masks, a mask has no photo or another size, or a file cannot be read.
    """
    check_mask_values(values)
    masks = as_path(masks)
    photos = photo_files(images)
    found = _mask_files(masks, photos)
    # The time of a file as well: it may be written anew with as many bytes.
    stamps = [(str(one.path.resolve()), one.photo, *file_stamp(one.path)) for one in found]
    key = repr((FORMAT, values, sorted((names or {}).items()), str(photos.path.resolve()), stamps))
    name = f"{re.sub(r'[^A-Za-z0-9]+', '-', masks.stem)[:40]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    kept = cache_folder() / "masks" / name
    if kept.is_file():
        return kept
    content = instances_json(_read_all(found, photos, values, names, progress=progress), masks.name)
    return _kept(kept, content)


def _kept(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True, mark=None) as draft:
            draft.write_bytes(content)
        return path
    except (OutputError, OSError) as error:
        log.debug("masks are not kept in %s: %s", path.parent, error)
    scratch = Path(tempfile.mkdtemp(prefix="couplingkit-masks-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    (scratch / path.name).write_bytes(content)
    return scratch / path.name


def read_mask_names(path: str | Path) -> dict[int, str]:
    """Read what the numbers of label maps are called: a TOML of `number = "name"`, or a JSON {"number": "name"}.

    Raises:
        DataError: it cannot be read, or is none.
    """
    path = as_path(path)
    content = read_toml(path, "mask_names") if path.suffix == ".toml" else read_json(path, dict, "mask_names")
    try:
        found = {int(number): str(name) for number, name in content.items() if isinstance(name, str)}
    except ValueError:
        found = {}
    if not found or len(found) < len(content) or min(found) < 0:
        raise DataError(f'mask_names {path} must name every number of a map, like 1 = "cat", and nothing else.')
    return found


def _mask_files(masks: Path, photos: PhotoFiles) -> list[_MaskFile]:
    """Return the files of masks in the order of their names, each with its photo."""
    if masks.is_file() and masks.suffix.lower() == ".json":
        return [_MaskFile(masks, None)]
    if not masks.is_dir():
        what = "is neither a folder of PNG label maps nor a JSON" if masks.exists() else "does not exist"
        raise DataError(f"masks {masks} {what}; give the folder that has a map or a JSON for each photo.")
    paths = sorted(path for path in masks.rglob("*") if path.suffix.lower() in (".json", ".png"))
    # Who keeps photos and their masks' JSON in one folder may have photos of PNG.
    jsons = [path for path in paths if path.suffix.lower() == ".json"]
    if jsons:
        return [_MaskFile(path, None) for path in jsons]
    photo_of = _PhotoNames(photos, masks)
    found = [_MaskFile(path, photo_of(path.relative_to(masks))) for path in paths]
    known = [one for one in found if one.photo is not None]
    if not known:
        example = f"; of {paths[0].name} a photo {paths[0].stem}.jpg or .png was looked for" if paths else ""
        raise DataError(f"masks {masks} hold {len(paths)} PNG files and no mask of a photo of {photos.path}{example}.")
    if len(known) < len(found):
        lost = [str(one.path.relative_to(masks)) for one in found if one.photo is None]
        log.warning(
            "Note: %d of %d masks are of no photo of %s: %s.", len(lost), len(found), photos.path, listed(lost, most=3)
        )
    return known


class _PhotoNames:
    """Which photo a mask belongs to, by its path below the folder of masks."""

    def __init__(self, photos: PhotoFiles, masks: Path):
        inside = masks.resolve().relative_to(photos.path.resolve()) if _lies_in(masks, photos.path) else None
        self._by_path: dict[str, str] = {}
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in photos.names():
            path = PurePosixPath(name)
            if path.suffix.lower() in PHOTOS and not (inside is not None and path.is_relative_to(inside.as_posix())):
                self._by_path[str(path.with_suffix(""))] = name
                self._by_stem[path.stem].append(name)

    def __call__(self, mask: Path) -> str | None:
        """Return the photo's name; None where there is none, or several."""
        path = PurePosixPath(mask.as_posix()).with_suffix("")
        plain = path.with_name(ENDINGS.sub("", path.name))
        # `a/0.png` is an object of the photo `a`.
        for one in (path, plain, path.parent):
            if str(one) in self._by_path:
                return self._by_path[str(one)]
            if len(self._by_stem.get(one.name, [])) == 1:
                return self._by_stem[one.name][0]
        return None


def _lies_in(path: Path, folder: Path) -> bool:
    return folder.is_dir() and folder.resolve() in path.resolve().parents


def _read_all(
    found: Sequence[_MaskFile],
    photos: PhotoFiles,
    values: MaskValues,
    names: Mapping[int, str] | None,
    *,
    progress: bool,
) -> Iterator[MaskedPhoto]:
    """Yield the photos, each once, with all its objects."""
    together: dict[str, MaskedPhoto] = {}
    for one in tqdm(found, desc="reading masks", unit="file", disable=not progress, leave=False):
        read = _of_json(one.path, photos) if one.photo is None else [_of_map(one.path, one.photo, values, names)]
        for photo in read:
            before = together.get(photo.file_name)
            if before is not None and (before.width, before.height) != (photo.width, photo.height):
                raise DataError(
                    f"masks {one.path} are {photo.width} x {photo.height} px, and others of {photo.file_name} are "
                    f"{before.width} x {before.height}; all masks of a photo have its size."
                )
            objects = (*before.objects, *photo.objects) if before else photo.objects
            together[photo.file_name] = MaskedPhoto(photo.file_name, photo.width, photo.height, objects)
    return iter([together[name] for name in sorted(together)])


def _of_map(path: Path, photo: str, values: MaskValues, names: Mapping[int, str] | None) -> MaskedPhoto:
    numbers, bits = read_map(path)
    void = (255,) if bits == 8 else ()
    objects = label_objects(numbers, values, names, void=void)
    return MaskedPhoto(photo, numbers.shape[1], numbers.shape[0], tuple(objects))


def _of_json(path: Path, photos: PhotoFiles) -> list[MaskedPhoto]:
    found = []
    for named, records in read_mask_json(path).items():
        photo = _photo_of_json(path, named, photos)
        width, height = records_size(records) or _size_of(photo, photos)
        found.append(MaskedPhoto(photo, width, height, tuple(records_objects(records, width, height, path))))
    return found


def _photo_of_json(path: Path, named: str | None, photos: PhotoFiles) -> str:
    stem = path.stem if named is None else named
    names = [stem] if named is not None else []
    names += [f"{stem}{ending}" for suffix in PHOTOS for ending in (suffix, suffix.upper())]
    names += [f"{ENDINGS.sub('', stem)}{ending}" for suffix in PHOTOS for ending in (suffix, suffix.upper())]
    for name in names:
        if photos.holds(name):
            return name
    raise DataError(f"masks {path} are of {named or f'a photo {stem}'}, which is not in {photos.path}.")


def _size_of(photo: str, photos: PhotoFiles) -> tuple[int, int]:
    try:
        with photos.open(photo) as stream, opened_image(stream, photos.place(photo)) as image:
            return image.size
    except READ_ERRORS as error:
        raise DataError(f"image {photos.place(photo)} cannot be read ({error}).") from error
