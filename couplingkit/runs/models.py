"""Names of models, their options or a TOML file of them in, backbones one after another out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import ArgumentError, BackboneError, CouplingKitError, listed, near
from ..features.backbone import NetworkBackbone
from ..features.hardware import resolve_device
from ..features.identity import model_digests
from ..features.layered import LayeredBackbone
from ..features.loading import load_layers
from ..features.names import BackboneOptions, parse_model_name, parse_size, split_layers
from ..features.passes import fitting
from ..processes import ALONE, Processes
from ..typed_files import Record, as_record, made_by, read_toml

__all__ = ["CONTROL_ROW", "ModelChoice", "check_models", "describe", "each_model", "read_zoo"]

log = logging.getLogger(__name__)
Result = TypeVar("Result")
# The network that cannot couple: a row of every table, which must be 1.
CONTROL_ROW = "control:cell"
# What holds for all models of a run and so stands in no table of a model's own.
COMMON = ("device", "compile", "seed")
LIBRARIES = ("timm", "torchvision", "torch")


@dataclass(frozen=True)
class ModelChoice:
    """One model as it was asked for.

    Attributes:
        name: of the model.
        options: how it is read.
        label: what tables call it; its own name by default.
        family: method x architecture, of models that are no independent evidence; told by the weights by default.
    """

    name: str
    options: BackboneOptions = field(default_factory=BackboneOptions)
    label: str | None = None
    family: str | None = None

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.label or self.name

    def load(self) -> LayeredBackbone:
        """Return the network; errors as in `load_layers`."""
        backbone = load_layers(self.name, **asdict(self.options))
        if self.label is not None:
            backbone.rename(self.label)
        for layer in backbone.layers if self.family else ():
            if isinstance(layer, NetworkBackbone):
                layer.facts["family"] = self.family
        return backbone

    def check(self) -> None:
        """Raise `ArgumentError` for words that cannot be a model, before any work."""
        parse_model_name(self.name)
        split_layers(self.options.layer)
        resolve_device(self.options.device)

    def identity(self) -> dict[str, Any]:
        """Return what decides its features, as JSON values: options, and the content of every file that it opens."""
        options = {key: value for key, value in asdict(self.options).items() if key != "device"}
        found = {"name": self.name, "label": self.label, "options": options}
        try:
            digests = model_digests(self.name, self.options.branch)
        except BackboneError:
            # Of a zoo, a model that is not there fails when its turn comes.
            digests = {}
        if self.family:
            found["family"] = self.family
        return {**found, "files": digests, "libraries": {name: version(name) for name in LIBRARIES}}


def check_models(choices: Sequence[ModelChoice], *, lenient: bool = False) -> None:
    """Refuse what cannot be a model, and two of one name, before any photo is read.

    Args:
        choices: the models.
        lenient: whether a file that is not there may wait until its turn comes, for the others are to go on.
    """
    for choice in choices:
        try:
            choice.check()
        except BackboneError:
            if not lenient:
                raise
        if choice.title == CONTROL_ROW != choice.name:
            raise ArgumentError(f"label of {choice.name} must not be {CONTROL_ROW}, which every table has a row of.")
    titles = [choice.title for choice in choices]
    twice = [title for title in dict.fromkeys(titles) if titles.count(title) > 1]
    if twice:
        raise ArgumentError(
            f"model {twice[0]!r} is named {titles.count(twice[0])} times; name each once, or give each a `label`."
        )


def each_model(
    choices: Iterable[ModelChoice],
    work: Callable[[LayeredBackbone], list[Result]],
    *,
    alone: bool = False,
    processes: Processes = ALONE,
    quiet: bool = False,
) -> tuple[list[Result], list[str]]:
    """Load one model after another and do some work with it; a model that fails does not stop the others.

    Args:
        choices: the models.
        work: what is done with each; its results are put together.
        alone: whether a failure is raised, for there is no other model.
        processes: that do it together; what fails in one fails in all.
        quiet: whether to say nothing of how a model is read.

    Returns:
        What the work gave, and a sentence for each model that failed.
    """
    results: list[Result] = []
    failures = []
    for choice in choices:
        try:
            backbone = _load(choice, processes)
            for layer in () if quiet else backbone.layers:
                log.info(describe(layer.provenance()))
            with fitting(choice.title, "take a smaller `batch_size`, or another `device`"):
                results += work(backbone)
        except CouplingKitError as error:
            if alone:
                raise
            failures.append(f"{choice.title}: {error}")
            log.warning("Skipped: %s", failures[-1])
    return results, failures


def _load(choice: ModelChoice, processes: Processes) -> LayeredBackbone:
    # Networks stay in their processes; only whether they could be loaded is agreed upon.
    loaded: list[LayeredBackbone] = []

    def load() -> None:
        with fitting(choice.title, "take a smaller model, or another `device`"):
            loaded.append(choice.load())

    processes.each(load)
    return loaded[0]


def describe(provenance: dict[str, Any]) -> str:
    """Return one line on how a model is read: the defaults that came from its weights, and what was chosen."""
    mean, std = (",".join(f"{value:g}" for value in provenance[key]) for key in ("mean", "std"))
    height, width = provenance["image_size"]
    read = "".join(f"{provenance[key]}, " for key in ("format", "branch") if provenance.get(key))
    compiled = ", compiled" if provenance.get("compiled") else ""
    return (
        f"{provenance['name']}: {read}input {height} x {width} px, stride {provenance['stride_px']} px, "
        f"{provenance['channels']} channels, layer {provenance.get('layer', 'last')}, "
        f"norm {provenance.get('norm', 'none')}, mean {mean}, std {std} "
        f"({provenance.get('normalisation', 'as built')}), {provenance['precision']} on {provenance['device']}"
        f"{compiled}"
    )


class _Entry(Record, frozen=True):
    """A [[model]] table of a file of models."""

    name: str
    label: str | None = None
    family: str | None = None
    layer: str | int | None = None
    norm: Literal["applied", "raw"] | None = None
    image_size: int | str | tuple[int, int] | None = None
    output_stride: int | None = None
    mean: float | tuple[float, float, float] | None = None
    std: float | tuple[float, float, float] | None = None
    branch: str | None = None
    key: str | None = None
    trust_checkpoint: bool | None = None
    precision: Literal["auto", "float32", "bfloat16"] | None = None


class _Zoo(Record, frozen=True):
    model: list[dict[str, Any]] = made_by(default_factory=list)


def read_zoo(path: Path, common: BackboneOptions) -> list[ModelChoice]:
    """Read a TOML file with one [[model]] table a model, over the options that all models have.

    Raises:
        ArgumentError: it cannot be read, or a table has no name or a key that is not known.
    """
    what = f"models {path}"
    content = read_toml(path, "models", error=ArgumentError)
    strangers = [key for key in content if key != "model"]
    tables = as_record(content, _Zoo, what, error=ArgumentError).model
    if strangers or not tables:
        has = f"knows no {listed(strangers)}" if strangers else "has none"
        raise ArgumentError(f"{what} must have a [[model]] table for each model, and nothing else; it {has}.")
    return [_choice(table, common, f"{what}, model {number}") for number, table in enumerate(tables, 1)]


def _choice(table: dict[str, Any], common: BackboneOptions, what: str) -> ModelChoice:
    known = _Entry.__struct_fields__
    for key in table:
        if key not in known:
            raise ArgumentError(f"{what} has the key {key!r}, which is not known{near(key, known)}.")
    entry = as_record(table, _Entry, what, error=ArgumentError)
    own: dict[str, Any] = {
        part.name: getattr(entry, part.name, None) for part in fields(BackboneOptions) if part.name not in COMMON
    }
    own = {name: value for name, value in own.items() if value is not None}
    try:
        if isinstance(own.get("image_size"), str):
            own["image_size"] = parse_size(own["image_size"])
        for name in ("mean", "std"):
            if isinstance(own.get(name), float):
                own[name] = (own[name],) * 3
        if "layer" in own:
            own["layer"] = str(own["layer"])
        return ModelChoice(entry.name, replace(common, **own), entry.label, entry.family)
    except ArgumentError as error:
        raise ArgumentError(f"{what}: {error}") from error
