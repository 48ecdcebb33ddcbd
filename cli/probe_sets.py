"""The words of --probes, --annotations and --images in, a set of probes out: drawn, or those of a manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ArgumentError, DataError, listed, near
from .data_options import SPEC_OPTIONS

if TYPE_CHECKING:
    from ..data.manifest import Manifest
    from ..probes.probeset import ProbeSet

__all__ = ["drawn_options", "open_probes", "shipped_sets"]

# What a manifest decides; --seed does not appear, for random weights come from it, too.
DECIDED = (*SPEC_OPTIONS, "min_area", "allow_border")


def shipped_sets() -> dict[str, Path]:
    """Return the named sets that come with couplingkit."""
    from importlib.resources import files

    folder = Path(str(files("couplingkit.data_manifests")))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


@contextmanager
def open_probes(
    context: click.Context, probes: str, options: dict[str, Any], *, free: Sequence[str] = ()
) -> Iterator[ProbeSet]:
    """Give the probes that a command's options ask for; built-in scenes live as long as the block.

    Args:
        context: of the command; tells which options were given.
        probes: a number, a manifest's path, or the name of a set that comes with couplingkit.
        options: of the command.
        free: options that a manifest does not decide, for they are swept.

    Raises:
        ArgumentError: the options contradict each other.
        DataError: photos or annotations cannot be used.
    """
    from ..probes.probeset import ProbeSet

    if not probes.isdecimal():
        with _open_set(context, probes, options, [key for key in DECIDED if key not in free]) as found:
            yield found
        return
    if options["annotations"] is None or options["images"] is None:
        raise ArgumentError(
            "--annotations and --images are needed to draw probes; a set that needs neither: --probes "
            f"{next(iter(shipped_sets()), 'MANIFEST')}."
        )
    yield ProbeSet.from_coco(options["annotations"], options["images"], count=int(probes), **drawn_options(options))


def drawn_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return what `ProbeSet.from_coco` and `draw_manifest` take from a command's options."""
    from ..data.coco import Eligibility
    from ..probes.placement import ProbeSpec

    spec = ProbeSpec(**{key: options[key] for key in SPEC_OPTIONS})
    rules = Eligibility(options["min_area"], options["allow_border"])
    return {"seed": options["seed"], "spec": spec, "eligibility": rules}


@contextmanager
def _open_set(
    context: click.Context, probes: str, options: dict[str, Any], decided: Sequence[str]
) -> Iterator[ProbeSet]:
    from ..data.manifest import read_manifest
    from ..probes.probeset import ProbeSet

    shipped = shipped_sets()
    path = Path(probes)
    if not path.exists() and probes not in shipped:
        raise ArgumentError(
            f"--probes {probes} is no number, no file and no set that comes with couplingkit "
            f"({listed(shipped)}){near(probes, shipped)}."
        )
    manifest = read_manifest(path if path.exists() else shipped[probes])
    given = [key for key in decided if context.get_parameter_source(key) is click.core.ParameterSource.COMMANDLINE]
    if given:
        raise ArgumentError(
            f"--{given[0].replace('_', '-')} is decided by the probe set {manifest.name}; leave it away or draw others."
        )
    with ExitStack() as stack:
        annotations, images = options["annotations"], options["images"]
        if annotations is None and images is None and "scenes" in manifest.annotations:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="couplingkit-scenes-")))
            annotations, images = _scenes(manifest, scratch)
        if images is None:
            raise ArgumentError(f"--images is needed: the photos of {manifest.annotations.get('file', manifest.name)}.")
        annotations = annotations or _near_by(manifest, path, images)
        if manifest.fingerprint is None:
            click.echo(f"Note: {manifest.name} promises no fingerprint, so that other photos go unnoticed.", err=True)
        yield ProbeSet.from_manifest(manifest, annotations, images)


def _scenes(manifest: Manifest, folder: Path) -> tuple[Path, Path]:
    from ..data.scenes import write_scenes

    made = manifest.annotations
    return write_scenes(folder / "scenes", count=made["scenes"], seed=made["scenes_seed"], progress=True)


def _near_by(manifest: Manifest, path: Path, images: Path) -> Path:
    """Return the annotation file of a manifest where COCO's own folders, or its users, put it."""
    name = str(manifest.annotations.get("file", ""))
    beside = images.absolute().parent
    places = [path.parent, Path.cwd(), images, beside, beside / "annotations", beside.parent / "annotations"]
    looked = list(dict.fromkeys(place.resolve() for place in places))
    for place in looked:
        if name and (place / name).is_file():
            return place / name
    raise DataError(
        f"the annotation file {name or 'of the probe set'} of {manifest.name} lies in none of "
        f"{listed(looked)}; give it with --annotations."
    )
