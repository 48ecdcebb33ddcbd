"""Images in, boxes that may hold an object out: selective search, found once for a corpus and kept in a file."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import ArgumentError, DataError, check_range, first_line
from ..files import new_file
from ..processes import START_METHOD
from ..typed_files import Record, decode_json, json_text, made_by
from .corpus import Corpus

__all__ = ["ProposalRules", "Proposals", "find_proposals", "fitting_boxes", "read_proposals", "write_proposals"]

Boxes = NDArray[np.float32]
VERSION = 1
READ_ERRORS = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, IndexError),
    *(zipfile.BadZipFile, zlib.error),
)
WHOLE = np.array([[0, 0, 1, 1]], dtype=np.float32)


@dataclass(frozen=True)
class ProposalRules:
    """Which boxes of selective search (Uijlings et al., 2013) are kept; the defaults are SoCo's.

    Attributes:
        min_side: px of the image.
        max_aspect: of the longer side to the shorter one.
        min_size, max_size: root of the box's share of the image's area.
    """

    min_side: int = 32
    max_aspect: float = 3.0
    min_size: float = 0.3
    max_size: float = 0.8

    def __post_init__(self) -> None:
        check_range("min_side", self.min_side, 1)
        check_range("max_aspect", self.max_aspect, 1)
        check_range("min_size", self.min_size, 0, self.max_size)
        check_range("max_size", self.max_size, self.min_size, 1)


@dataclass(frozen=True)
class Proposals:
    """Boxes of each image of a corpus, as shares of its sides: left, top, right, bottom.

    Attributes:
        boxes: float32 (N, 4) in [0, 1], of all images one after another; each has at least one.
        starts: int64 (images + 1), where those of an image begin.
        about: how they were found, and of which corpus.
    """

    boxes: Boxes
    starts: NDArray[np.int64]
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def digest(self) -> str:
        """Return what tells these boxes from others."""
        return hashlib.sha256(self.boxes.tobytes() + self.starts.tobytes()).hexdigest()[:16]

    def of(self, number: int) -> Boxes:
        """Return the boxes of an image, (n, 4)."""
        found: Boxes = self.boxes[self.starts[number] : self.starts[number + 1]]
        return found


def fitting_boxes(found: NDArray[np.int64], size: tuple[int, int], rules: ProposalRules) -> Boxes:
    """Return the boxes that fit the rules, as shares of the image's sides; the whole image where none does.

    Args:
        found: int64 (n, 4), left, top, width, height in px.
        size: height and width of the image, px.
        rules: which are kept.
    """
    height, width = size
    left, top, across, down = np.asarray(found, dtype=np.float64).reshape(-1, 4).T
    shorter, longer = np.minimum(across, down), np.maximum(across, down)
    share = np.sqrt(across * down / (height * width))
    kept = (shorter >= rules.min_side) & (longer <= rules.max_aspect * shorter)
    kept &= (share >= rules.min_size) & (share <= rules.max_size)
    boxes = np.stack([left / width, top / height, (left + across) / width, (top + down) / height], axis=1)[kept]
    chosen: Boxes = boxes.astype(np.float32) if len(boxes) else WHOLE
    return chosen


def find_proposals(
    corpus: Corpus, *, rules: ProposalRules = ProposalRules(), workers: int = 2, progress: bool = False
) -> Proposals:
    """Run selective search (OpenCV's, fast mode) over a corpus; an image that cannot be read has the whole image.

    Args:
        corpus: the images.
        rules: which boxes are kept.
        workers: processes.
        progress: whether to show a bar.

    Raises:
        ArgumentError: OpenCV with its contributed modules is not installed.
    """
    check_range("workers", workers, 1)
    _segmentation()
    numbers = range(len(corpus))
    with get_context(START_METHOD).Pool(workers, initializer=_start, initargs=(corpus, rules)) as pool:
        shown = tqdm(pool.imap(_boxes_of, numbers, 8), total=len(corpus), desc="proposals", disable=not progress)
        found = list(shown)
    starts = np.concatenate([[0], np.cumsum([len(boxes) for boxes in found])]).astype(np.int64)
    about = {
        "version": VERSION,
        "method": "selective search, fast",
        "rules": asdict(rules),
        "corpus": corpus.describe(),
    }
    return Proposals(np.concatenate(found), starts, about)


def write_proposals(path: Path, proposals: Proposals, *, overwrite: bool = False) -> None:
    """Write proposals to an .npz file that says how they were found."""
    with new_file(path, overwrite=overwrite) as draft, draft.open("wb") as stream:
        about = np.frombuffer(json_text(proposals.about).encode(), dtype=np.uint8)
        # Under our name: what an archive's members are called is what can be read of it as it lies there.
        np.savez_compressed(stream, boxes=proposals.boxes, starts=proposals.starts, couplingkit=about)


class _About(Record, frozen=True):
    version: int
    corpus: dict[str, Any]
    method: str = "given"
    rules: dict[str, Any] = made_by(default_factory=dict)


def read_proposals(path: Path, corpus: Corpus) -> Proposals:
    """Read the proposals of a corpus.

    Raises:
        DataError: the file is not whole, from a newer couplingkit, or of another corpus.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            boxes, starts, said = held["boxes"], held["starts"], held["couplingkit"].tobytes()
        _check_boxes(boxes, starts)
    except READ_ERRORS as error:
        raise DataError(
            f"proposals {path} cannot be read ({first_line(error)}); make them anew by `couplingkit proposals`."
        ) from error
    about = decode_json(said, _About, f"proposals {path}")
    if about.version > VERSION:
        raise DataError(f"proposals {path} were written by a newer couplingkit; update this one.")
    # A path may differ from machine to machine; what the images are must not.
    ours = {key: value for key, value in corpus.describe().items() if key != "data"}
    theirs = {key: value for key, value in about.corpus.items() if key != "data"}
    if ours != theirs or len(starts) != len(corpus) + 1:
        raise DataError(f"proposals {path} are of another corpus ({theirs}) than this one ({ours}); make them anew.")
    return Proposals(boxes, starts, json.loads(said))


def _check_boxes(boxes: Any, starts: Any) -> None:
    """Raise `ValueError` unless boxes lie within their images, and each image has one."""
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError("its boxes are none")
    if starts.dtype != np.int64 or starts.ndim != 1 or not len(starts) or starts[0] or starts[-1] != len(boxes):
        raise ValueError("its boxes and their places do not agree")
    if (np.diff(starts) < 1).any():
        raise ValueError("an image has no box")
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError("a box does not lie within its image")


def _segmentation() -> Any:
    try:
        from cv2 import ximgproc
    except ImportError as error:
        raise ArgumentError(
            "selective search needs OpenCV with its contributed modules: pip install 'couplingkit[soco]'."
        ) from error
    return ximgproc.segmentation


_work: list[Any] = []


def _start(corpus: Corpus, rules: ProposalRules) -> None:
    import cv2

    # The processes share the machine already.
    cv2.setNumThreads(1)
    _work[:] = [corpus, rules]


def _boxes_of(number: int) -> Boxes:
    corpus, rules = _work
    try:
        image: NDArray[np.uint8] = corpus.read(number)
    except DataError:
        return WHOLE
    return _search(image, rules)


def _search(image: NDArray[np.uint8], rules: ProposalRules) -> Boxes:
    search = _segmentation().createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    search.switchToSelectiveSearchFast()
    found: Sequence[Any] = search.process()
    return fitting_boxes(np.asarray(found, dtype=np.int64), (image.shape[0], image.shape[1]), rules)
