"""What a command asks for in, a set of probes out: drawn from annotations, or those of a manifest."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from ..data.coco import Eligibility
from ..data.kept_scenes import kept_scenes
from ..errors import ArgumentError, DataError, listed, near
from ..probes.manifest import Manifest, read_manifest
from ..probes.probeset import ProbeSet
from ..probes.spec import ProbeSpec
from ..words import existing_path, whole_number

__all__ = ["LOOK", "MOST_PROBES", "ProbesChoice", "open_probes", "shipped_sets"]

log = logging.getLogger(__name__)
MOST_PROBES = 10**6
LOOK = ("object_size", "gap", "canvas", "pairing", "visible", "control", "design")
# What a manifest decides; the seed does not appear, for random weights come from it, too.
DECIDED = (*LOOK, "min_area", "allow_border", "exif")


@dataclass(frozen=True)
class ProbesChoice:
    """Which probes are asked for.

    Attributes:
        probes: a number, a manifest's path, or the name of a set that comes with couplingkit.
        annotations: instances JSON.
        images: where its photos are.
        eligibility: which objects may be drawn.
        spec: the probes' look.
        seed: of the draws.
        given: names of what was asked for, and not left to its default; a manifest decides it otherwise.
        free: names of what a manifest does not decide, for it is swept.
        cache_bytes: bound of what is kept of all probe sets in the cache folder; see `ProbeSet`.
    """

    probes: str
    annotations: Path | None = None
    images: Path | None = None
    eligibility: Eligibility = field(default_factory=Eligibility)
    spec: ProbeSpec = field(default_factory=ProbeSpec)
    seed: int = 0
    given: Collection[str] = ()
    free: Collection[str] = ()
    cache_bytes: int | None = None


def shipped_sets() -> dict[str, Path]:
    """Return the named sets that come with couplingkit."""
    folder = Path(str(files("couplingkit.data_manifests")))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


@contextmanager
def open_probes(choice: ProbesChoice) -> Iterator[ProbeSet]:
    """Give the probes that are asked for; built-in scenes are kept in the cache folder.

    Raises:
        ArgumentError: what is asked for contradicts itself.
        DataError: photos or annotations cannot be used.
    """
    if not choice.probes.isdecimal():
        with _open_set(choice) as opened:
            yield _bounded(opened, choice)
        return
    count = whole_number(choice.probes, "probes", 1, MOST_PROBES)
    if choice.annotations is None or choice.images is None:
        raise ArgumentError(
            "`annotations` and `images` are needed to draw probes; a set that needs neither: "
            f"`probes={next(iter(shipped_sets()), 'MANIFEST')}`."
        )
    drawn = ProbeSet.from_coco(
        choice.annotations,
        choice.images,
        count=count,
        seed=choice.seed,
        spec=choice.spec,
        eligibility=choice.eligibility,
    )
    yield _bounded(drawn, choice)


def _bounded(probes: ProbeSet, choice: ProbesChoice) -> ProbeSet:
    if choice.cache_bytes is not None:
        probes.pack_bytes = choice.cache_bytes
    return probes


@contextmanager
def _open_set(choice: ProbesChoice) -> Iterator[ProbeSet]:
    shipped = shipped_sets()
    path = existing_path(choice.probes) or shipped.get(choice.probes)
    if path is None:
        raise ArgumentError(
            f"probes {choice.probes} is no number, no file and no set that comes with couplingkit "
            f"({listed(shipped)}){near(choice.probes, shipped)}."
        )
    manifest = read_manifest(path)
    decided = [key for key in DECIDED if key in choice.given and key not in choice.free]
    if decided:
        raise ArgumentError(
            f"`{decided[0]}` is decided by the probe set {manifest.name}; leave it away or draw others."
        )
    with ExitStack() as stack:
        annotations, images = choice.annotations, choice.images
        if annotations is None and images is None and manifest.annotations.scenes is not None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="couplingkit-scenes-")))
            annotations, images = _scenes(manifest, scratch)
        if images is None:
            raise ArgumentError(f"`images` is needed: the photos of {manifest.annotations.file or manifest.name}.")
        annotations = annotations or _near_by(manifest, path, images)
        if manifest.fingerprint is None:
            log.warning("Note: %s promises no fingerprint, so that other photos go unnoticed.", manifest.name)
        yield ProbeSet.from_manifest(manifest, annotations, images)


def _scenes(manifest: Manifest, folder: Path) -> tuple[Path, Path]:
    made = manifest.annotations
    assert made.scenes is not None
    assert made.scenes_seed is not None
    return kept_scenes(made.scenes, made.scenes_seed, scratch=folder / "scenes", progress=True)


def _near_by(manifest: Manifest, path: Path, images: Path) -> Path:
    """Return the annotation file of a manifest where COCO's own folders, or its users, put it."""
    name = manifest.annotations.file
    beside = images.absolute().parent
    places = [path.parent, Path.cwd(), images, beside, beside / "annotations", beside.parent / "annotations"]
    looked = list(dict.fromkeys(place.resolve() for place in places))
    for place in looked:
        if name and (place / name).is_file():
            return place / name
    raise DataError(
        f"the annotation file {name or 'of the probe set'} of {manifest.name} lies in none of "
        f"{listed(looked)}; give it with `annotations`."
    )
