"""Words like `scenes:300+300`, `voc:ROOT` or `my.toml` in, photos to learn from and photos to be scored on out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ..errors import ArgumentError, DataError, listed
from ..streams import Stream
from ..typed_files import Record, as_record, made_by, read_text, read_toml
from ..words import as_path, whole_number
from .coco import AnnotatedPhotos
from .label_maps import PngPhotos
from .semantic import BACKGROUND, Classes, CocoPhotos, LabelledPhotos, ScenePhotos

__all__ = ["ADE20K_CLASSES", "FORMS", "VOC_CLASSES", "LabelledData", "check_halves", "halves_of", "open_labelled_data"]

FORMS = ("scenes:TRAIN+TEST", "coco:ROOT", "voc:ROOT", "ade20k:ROOT", "FILE.toml")
# Other scenes than those of any run, which begin with seed 0, and than those of the probes.
SCENES_SEED = 20_261_126
MOST_SCENES = 10**6
VOC_CLASSES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# What the files themselves call them: numbers; names are in a list of their own that not every copy has.
ADE20K_CLASSES = tuple(f"class {number}" for number in range(1, 151))
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class LabelledData:
    """Photos in two halves of the same classes.

    Attributes:
        name: what tables call them.
        train: that banks and heads are made of.
        test: that scores are of.
    """

    name: str
    train: LabelledPhotos
    test: LabelledPhotos

    def __post_init__(self) -> None:
        check_halves(self.name, self.train, self.test)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of both halves."""
        return self.train.classes

    def identity(self) -> dict[str, str]:
        """Return what decides scores: hashes of both halves."""
        return {"name": self.name, "train": self.train.fingerprint(), "test": self.test.fingerprint()}


class Half(Protocol):
    """Photos that are one of two halves: how many, and of which classes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...


def check_halves(name: str, train: Half, test: Half) -> None:
    """Raise `DataError` if a half has no photo, or the two are not of the same classes."""
    for half, photos in (("train", train), ("test", test)):
        if not len(photos):
            raise DataError(f"{name} has no {half} photos; give some.")
    if train.classes != test.classes:
        differ = listed(sorted(set(train.classes) ^ set(test.classes))) or "their order"
        raise DataError(f"the halves of {name} must have the same classes, but differ in {differ}.")


def open_labelled_data(words: str, *, classes: Classes = "category") -> LabelledData:
    """Open labelled photos.

    Args:
        words: `scenes:300+300`, `coco:ROOT` (annotations/instances_{train,val}2017.json, {train,val}2017/), `voc:ROOT`
            (VOCdevkit, or its VOC2012), `ade20k:ROOT` (ADEChallengeData2016), or a TOML file: tables [train] and [test]
            with `images` and `masks` (PNGs of the same names) or `annotations` (an instances JSON); [classes] with
            number = "name" for masks; `ignore`, a list of numbers.
        classes: of an instances JSON: each `category`, or each supercategory (`super`).

    Raises:
        ArgumentError: the words are none of these.
        DataError: something is missing or broken there.
    """
    kind, colon, rest = words.partition(":")
    if kind == "scenes" and colon:
        return _scenes(rest)
    openers: dict[str, Callable[[Path, Classes], LabelledData]] = {"coco": _coco, "voc": _voc, "ade20k": _ade20k}
    if kind in openers and rest:
        root = as_path(rest)
        if not root.is_dir():
            raise DataError(f"data {words}: {root} is no folder; give the one that the data set was unpacked to.")
        return openers[kind](root, classes)
    if words.lower().endswith(".toml"):
        return _described(as_path(words), classes)
    raise ArgumentError(f"data must be one of {', '.join(FORMS)}, not {words[:60]!r}.")


def halves_of(
    annotations: str | Path, images: str | Path, *, classes: Classes = "category", seed: int = 0
) -> LabelledData:
    """Return the photos of one instances JSON in two halves, drawn from `seed`; those without an object count, too."""
    ids = list(AnnotatedPhotos(annotations))
    order = Stream(seed).child("halves").generator().permutation(len(ids))
    parts = [sorted(ids[place] for place in order[begin::2]) for begin in (0, 1)]
    train, test = (CocoPhotos(annotations, images, classes=classes, chosen=part) for part in parts)
    return LabelledData(f"{train.name}, halved", train, test)


def _scenes(counts: str) -> LabelledData:
    try:
        train, test = (whole_number(part, "data", 1, MOST_SCENES) for part in counts.split("+"))
    except ValueError as error:
        raise ArgumentError(f"data scenes:{counts[:40]} must be scenes:TRAIN+TEST, like scenes:300+300.") from error
    first = ScenePhotos(train, seed=SCENES_SEED)
    return LabelledData(f"scenes:{train}+{test}", first, ScenePhotos(test, start=MOST_SCENES, seed=SCENES_SEED))


def _coco(root: Path, classes: Classes) -> LabelledData:
    halves = [
        CocoPhotos(root / "annotations" / f"instances_{half}2017.json", root / f"{half}2017", classes=classes)
        for half in ("train", "val")
    ]
    return LabelledData("coco", *halves)


def _voc(root: Path, _classes: Classes) -> LabelledData:
    place = next((one for one in (root / "VOC2012", root / "VOCdevkit" / "VOC2012", root) if _has_voc(one)), None)
    if place is None:
        raise DataError(f"data voc:{root} holds no VOC2012 with JPEGImages, SegmentationClass and ImageSets.")
    values: dict[int, str | None] = {**dict(enumerate(VOC_CLASSES)), 255: None}

    def half(split: str) -> PngPhotos:
        listing = place / "ImageSets" / "Segmentation" / f"{split}.txt"
        stems = read_text(listing, "list").split()
        files = [(f"{stem}.jpg", f"{stem}.png") for stem in stems]
        folder = place / "SegmentationObject"
        instances = folder if folder.is_dir() and split != "trainaug" else None
        maps = place / "SegmentationClass"
        if split == "trainaug" and (place / "SegmentationClassAug").is_dir():
            maps = place / "SegmentationClassAug"
        return PngPhotos(f"voc {split}", place / "JPEGImages", maps, values, files, instances=instances)

    augmented = (place / "ImageSets" / "Segmentation" / "trainaug.txt").is_file()
    return LabelledData("voc", half("trainaug" if augmented else "train"), half("val"))


def _has_voc(place: Path) -> bool:
    return (place / "ImageSets" / "Segmentation").is_dir() and (place / "SegmentationClass").is_dir()


def _ade20k(root: Path, _classes: Classes) -> LabelledData:
    place = root / "ADEChallengeData2016" if (root / "ADEChallengeData2016").is_dir() else root
    values: dict[int, str | None] = {0: None, **dict(enumerate(ADE20K_CLASSES, 1))}

    def half(split: str) -> PngPhotos:
        images, masks = place / "images" / split, place / "annotations" / split
        return PngPhotos(f"ade20k {split}", images, masks, values, _pairs(images, masks))

    return LabelledData("ade20k", half("training"), half("validation"))


def _pairs(images: Path, masks: Path) -> list[tuple[str, str]]:
    """Return the names of the photos of a folder, and of the maps of the same stems."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise DataError(f"folder {folder} is missing.")
    photos = sorted(path.relative_to(images).as_posix() for path in images.rglob("*") if path.suffix in PHOTO_SUFFIXES)
    found = [(name, str(PurePosixPath(name).with_suffix(".png"))) for name in photos]
    bare = [photo for photo, mask in found if not (masks / mask).is_file()]
    if bare:
        raise DataError(f"{len(bare)} of {len(found)} photos in {images} have no map in {masks} ({listed(bare)}).")
    twice = [mask for _, mask in found]
    if len(set(twice)) < len(twice):
        raise DataError(f"photos in {images} share a stem; each map must belong to one photo.")
    return found


class _Half(Record, frozen=True, forbid_unknown_fields=True):
    images: str
    masks: str | None = None
    annotations: str | None = None
    instances: str | None = None


class _Described(Record, frozen=True, forbid_unknown_fields=True):
    train: _Half
    test: _Half
    classes: dict[str, str] = made_by(default_factory=dict)
    ignore: tuple[int, ...] = (255,)


def _described(path: Path, classes: Classes) -> LabelledData:
    """Return the photos that a TOML file describes; paths are relative to it."""
    what = f"data {path}"
    content: dict[str, Any] = read_toml(path, "data")
    said = as_record(content, _Described, what)
    halves: list[LabelledPhotos] = []
    for name, half in (("train", said.train), ("test", said.test)):
        if (half.masks is None) == (half.annotations is None):
            raise DataError(f"{what}: [{name}] must have either `masks` or `annotations`.")
        images = path.parent / as_path(half.images)
        if half.annotations is not None:
            halves.append(CocoPhotos(path.parent / as_path(half.annotations), images, classes=classes))
        else:
            halves.append(_masked(path, name, half, _values(said, what)))
    if not isinstance(halves[0], type(halves[1])):
        raise DataError(f"{what}: [train] and [test] must both have `masks`, or both `annotations`.")
    return LabelledData(path.stem, *halves)


def _masked(path: Path, name: str, half: _Half, values: dict[int, str | None]) -> LabelledPhotos:
    assert half.masks is not None
    images, masks = (path.parent / as_path(folder) for folder in (half.images, half.masks))
    instances = None if half.instances is None else path.parent / as_path(half.instances)
    return PngPhotos(f"{path.stem} {name}", images, masks, values, _pairs(images, masks), instances=instances)


def _values(said: _Described, what: str) -> dict[int, str | None]:
    """Return number -> class of the masks of a TOML file."""
    if not said.classes:
        raise DataError(f'{what} must have a table [classes] with number = "name" for what the masks hold.')
    numbers = {whole_number(key, f"{what}: classes", 0, 65535): value for key, value in said.classes.items()}
    twice = [name for name in numbers.values() if list(numbers.values()).count(name) > 1]
    if twice:
        raise DataError(f"{what}: two classes are called {twice[0]!r}; names must be different.")
    ignored: dict[int, str | None] = dict.fromkeys(number for number in said.ignore if number not in numbers)
    return {**ignored, **numbers}
