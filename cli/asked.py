"""The options of a command in, the records that they stand for out; and the place for its results."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .command import given_names
from .words import tracker_names

if TYPE_CHECKING:
    from ..data.coco import Eligibility
    from ..features.names import BackboneOptions
    from ..probes.spec import ProbeSpec
    from ..runs.learning import WatchSettings
    from ..runs.models import ModelChoice
    from ..runs.probe_sets import ProbesChoice
    from ..study.settings import MeasureSettings

FIGURES = (".png", ".pdf", ".svg")


def default_out(kind: str) -> Path:
    """Return a folder of its own for this run."""
    return Path("runs") / f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"


def claim(out: Path, *, overwrite: bool, folder: bool = True, mark: bytes | None = None) -> None:
    """Refuse a place for results that cannot be, or that holds what this very command reads, before any work."""
    from ..files import MARK, check_place

    check_place(out, overwrite=overwrite, folder=folder, inputs=inputs_of(), mark=mark or MARK)


def inputs_of() -> list[Path]:
    """Return the files and folders that the words of the running command name, but for its --out."""
    from ..words import existing_path

    context = click.get_current_context()
    words: list[Any] = [value for name, value in context.params.items() if name != "out"]
    flat: Iterable[Any] = (one for word in words for one in (word if isinstance(word, list | tuple) else [word]))
    paths = [
        part for one in flat if isinstance(one, str | os.PathLike) for part in (str(one), str(one).rpartition("@")[2])
    ]
    return [path for part in paths if part and (path := existing_path(part)) is not None]


def backbone_options(options: dict[str, Any]) -> BackboneOptions:
    """Return the record of the options that say how a model is read."""
    from dataclasses import fields

    from ..features.names import BackboneOptions

    return BackboneOptions(**{one.name: options[one.name] for one in fields(BackboneOptions) if one.name in options})


def model_choices(models: tuple[str, ...], options: dict[str, Any], zoo: Path | None = None) -> list[ModelChoice]:
    """Return the models of a command, checked: its words, and those of a file."""
    from ..errors import ArgumentError
    from ..runs.models import ModelChoice, check_models, read_zoo

    common, labels = backbone_options(options), options.get("labels") or (None,) * len(models)
    if len(labels) != len(models):
        raise ArgumentError(f"--label must come once per model (--label A --label B), not {len(labels)} times.")
    choices = [ModelChoice(name, common, label) for name, label in zip(models, labels, strict=True)]
    choices += read_zoo(zoo, common) if zoo else []
    if not choices:
        raise click.UsageError("name a MODEL, or a file of them with --models.")
    check_models(choices, lenient=zoo is not None)
    return choices


def eligibility(options: dict[str, Any]) -> Eligibility:
    """Return the record of the rules that choose objects."""
    from ..data.coco import Eligibility

    return Eligibility(options["min_area"], options["allow_border"], options.get("exif", "auto"))


def probe_spec(options: dict[str, Any]) -> ProbeSpec:
    """Return the record of the probes' look."""
    from ..probes.spec import ProbeSpec
    from ..runs.probe_sets import LOOK

    return ProbeSpec(**{key: options[key] for key in LOOK})


def probes_choice(options: dict[str, Any], spec: ProbeSpec, free: Iterable[str] = ()) -> ProbesChoice:
    """Return the record of which probes are asked for."""
    from ..runs.probe_sets import ProbesChoice

    return ProbesChoice(
        options["probes"],
        options["annotations"],
        options["images"],
        eligibility(options),
        spec,
        options["seed"],
        given_names(),
        tuple(free),
        options.get("cache_bytes"),
    )


def measure_settings(options: dict[str, Any]) -> MeasureSettings:
    """Return the record of how probes are measured."""
    from ..study.settings import MeasureSettings

    names = ("batch_size", "eps", "min_cells", "center", "position")
    return MeasureSettings(**{name: options[name] for name in names if name in options})


def watch_settings(options: dict[str, Any], probes: int) -> WatchSettings:
    """Return the record of how a run is looked at while it trains."""
    from ..runs.learning import WatchSettings

    annotations, images = (options[key] and str(options[key]) for key in ("probe_annotations", "probe_images"))
    return WatchSettings(options["probe_every"], probes, annotations, images, tracker_names(options.get("tracker")))


def check_sources(options: dict[str, Any]) -> None:
    """Refuse a command that names no photos, or half of a data set."""
    from ..errors import ArgumentError

    pictures, annotations, images = (options[key] for key in ("pictures", "annotations", "images"))
    if annotations is None and images is not None:
        raise ArgumentError("--images is the folder of --annotations, which is missing; a single picture is --image.")
    if annotations is None and not pictures:
        raise ArgumentError("there is nothing to look at: give --image, or --annotations and --images.")
    if annotations is not None and images is None and not pictures:
        raise ArgumentError("--annotations needs --images, the folder that the JSON's file names start from.")


def named_figure(out: Path | None) -> Path | None:
    """Return --out if it names a figure; None if results go to a folder."""
    from ..errors import ArgumentError

    if out is None or not out.suffix or out.is_dir():
        return None
    if out.suffix.lower() not in FIGURES:
        raise ArgumentError(
            f"out {out} must end in {', '.join(FIGURES)}, which chooses the format, or be a folder (without a suffix)."
        )
    return out
