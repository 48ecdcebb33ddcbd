"""Words like `scenes:600+200` or `voc:ROOT` in, photos to train a detector on and photos to score it on out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError, DataError
from ..streams import Stream
from ..words import as_path
from .coco import AnnotatedPhotos
from .detection import CocoDetections, DetectionPhotos, LabelledDetections, SceneDetections
from .labelled_data import VOC_CLASSES, check_halves, open_labelled_data
from .semantic import CocoPhotos, LabelledPhotos, ScenePhotos
from .voc import VocDetections

__all__ = ["DetectionData", "detection_halves_of", "open_detection_data"]

FORMS = ("scenes:TRAIN+TEST", "coco:ROOT", "voc:ROOT", "FILE.toml")


@dataclass(frozen=True)
class DetectionData:
    """Photos in two halves with objects of the same classes.

    Attributes:
        name: what tables call them.
        train: that detectors learn from.
        test: that they are scored on.
    """

    name: str
    train: DetectionPhotos
    test: DetectionPhotos

    def __post_init__(self) -> None:
        check_halves(self.name, self.train, self.test)
        twice = sorted(self.train.sources() & self.test.sources())
        if twice:
            raise DataError(
                f"{len(twice)} photos of {self.name} stand in both halves ({twice[0]}, for one); scores on photos that "
                "were learned from say nothing."
            )

    def identity(self) -> dict[str, str]:
        """Return what decides scores: hashes of both halves."""
        return {"name": self.name, "train": self.train.fingerprint(), "test": self.test.fingerprint()}


def open_detection_data(words: str) -> DetectionData:
    """Open photos with objects.

    Args:
        words: `scenes:600+200`; `coco:ROOT` (annotations/instances_{train,val}2017.json, {train,val}2017/); `voc:ROOT`
            (VOCdevkit; trained on trainval of 2007 and 2012, scored on the test of 2007, or on 2012 alone: train and
            val); or a TOML file: tables [train] and [test] with `images` and `annotations` (any instances JSON), or
            with `masks`, `instances` and [classes].

    Raises:
        ArgumentError: the words are none of these.
        DataError: something is missing or broken there, or a photo stands in both halves.
    """
    kind, colon, rest = words.partition(":")
    if kind in ("coco", "voc") and rest:
        root = as_path(rest)
        if not root.is_dir():
            raise DataError(f"data {words}: {root} is no folder; give the one that the data set was unpacked to.")
        return _coco(root) if kind == "coco" else _voc(root)
    if (kind == "scenes" and colon) or words.lower().endswith(".toml"):
        data = open_labelled_data(words)
        return DetectionData(data.name, _objects_of(data.train), _objects_of(data.test))
    raise ArgumentError(f"data must be one of {', '.join(FORMS)}, not {words[:60]!r}.")


def detection_halves_of(annotations: str | Path, images: str | Path, *, seed: int = 0) -> DetectionData:
    """Return the photos of one instances JSON in two halves, drawn from `seed`."""
    ids = list(AnnotatedPhotos(annotations))
    order = Stream(seed).child("halves").generator().permutation(len(ids))
    parts = [sorted(ids[place] for place in order[begin::2]) for begin in (0, 1)]
    train, test = (CocoDetections(annotations, images, chosen=part) for part in parts)
    return DetectionData(f"{train.name}, halved", train, test)


def _objects_of(photos: LabelledPhotos) -> DetectionPhotos:
    if isinstance(photos, CocoPhotos):
        # Its boxes and areas as the file states them, and not those of labels.
        return CocoDetections(photos.annotated.path, photos.files.path)
    return SceneDetections(photos) if isinstance(photos, ScenePhotos) else LabelledDetections(photos)


def _coco(root: Path) -> DetectionData:
    train, test = (
        CocoDetections(root / "annotations" / f"instances_{half}2017.json", root / f"{half}2017")
        for half in ("train", "val")
    )
    return DetectionData("coco", train, test)


def _voc(root: Path) -> DetectionData:
    base = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    years = [year for year in ("VOC2007", "VOC2012") if (base / year / "ImageSets" / "Main").is_dir()]
    if not years:
        raise DataError(f"data voc:{root} holds no VOC2007 and no VOC2012 with ImageSets/Main.")
    kinds = VOC_CLASSES[1:]
    if "VOC2007" in years:
        train = VocDetections(root, [(year, "trainval") for year in years], kinds)
        return DetectionData("voc", train, VocDetections(root, [("VOC2007", "test")], kinds))
    train, test = (VocDetections(root, [("VOC2012", split)], kinds) for split in ("train", "val"))
    return DetectionData("voc", train, test)
