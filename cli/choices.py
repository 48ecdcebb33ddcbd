"""The models of a command: words and options, or a TOML file of them; loaded one after another."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ArgumentError, BackboneError, CouplingKitError, listed, near
from .model_options import BACKBONE_OPTIONS

if TYPE_CHECKING:
    from ..features.backbone import LayeredBackbone
    from ..study import Processes

__all__ = ["Choice", "check_choices", "each_choice", "read_zoo", "stamp"]

Result = TypeVar("Result")
KEYS = ("name", "label", *BACKBONE_OPTIONS)


@dataclass(frozen=True)
class Choice:
    """One model as it was asked for.

    Attributes:
        name: of the model.
        options: of `load_layers`.
        label: what tables call it; its own name by default.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.label or self.name

    def load(self) -> LayeredBackbone:
        """Return the network; errors as in `load_layers`."""
        from ..features.loading import load_layers

        backbone = load_layers(self.name, **self.options)
        if self.label is not None:
            backbone.rename(self.label)
        return backbone

    def check(self) -> None:
        """Raise `ArgumentError` for words that cannot be a model and options out of range, before any work."""
        from ..features.hardware import resolve_device
        from ..features.names import BackboneOptions, parse_model_name, split_layers

        parse_model_name(self.name)
        split_layers(self.options.get("layer", "last"))
        BackboneOptions(**self.options)
        resolve_device(self.options.get("device", "auto"))


def check_choices(choices: Sequence[Choice], *, lenient: bool = False) -> None:
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
    titles = [choice.title for choice in choices]
    twice = [title for title in dict.fromkeys(titles) if titles.count(title) > 1]
    if twice:
        raise ArgumentError(
            f"model {twice[0]!r} is named {titles.count(twice[0])} times; name each once, or give each a label in a "
            "file of --models."
        )


def each_choice(
    choices: Iterable[Choice],
    work: Callable[[LayeredBackbone], list[Result]],
    *,
    alone: bool = False,
    processes: Processes | None = None,
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
    from ..study import ALONE
    from .session import describe

    found: list[Result] = []
    failures = []
    for choice in choices:
        try:
            backbone = _load(choice, processes or ALONE)
            for layer in () if quiet else backbone.layers:
                click.echo(describe(layer.provenance()), err=True)
            found += work(backbone)
        except CouplingKitError as error:
            if alone:
                raise
            failures.append(f"{choice.title}: {error}")
            click.echo(f"Skipped: {failures[-1]}", err=True)
    return found, failures


def _load(choice: Choice, processes: Processes) -> LayeredBackbone:
    # Networks stay in their processes; only whether they could be loaded is agreed upon.
    loaded: list[LayeredBackbone] = []
    processes.each(lambda: loaded.append(choice.load()))
    return loaded[0]


def read_zoo(path: Path, common: dict[str, Any]) -> list[Choice]:
    """Read a TOML file with one [[model]] table a model, over the options of the command line.

    Raises:
        ArgumentError: it cannot be read, or a table has no name or a key that is not known.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"models {path} cannot be read: {error}.") from error
    tables = content.get("model")
    strangers = [key for key in content if key != "model"]
    if not isinstance(tables, list) or not tables or strangers:
        what = f"knows no {listed(strangers)}" if strangers else "has none"
        raise ArgumentError(f"models {path} must have a [[model]] table for each model, and nothing else; it {what}.")
    return [_choice(table, common, f"models {path}, model {number}") for number, table in enumerate(tables, 1)]


def _choice(table: dict[str, Any], common: dict[str, Any], where: str) -> Choice:
    for key in table:
        if key not in KEYS or key in ("device", "seed"):
            raise ArgumentError(f"{where} has the key {key!r}, which is not known{near(key, KEYS)}.")
    if not isinstance(table.get("name"), str):
        raise ArgumentError(f"{where} needs a name, like name = 'resnet50'.")
    own = {key: _value(key, value, where) for key, value in table.items() if key in BACKBONE_OPTIONS}
    label = table.get("label")
    return Choice(table["name"], common | own, label if label is None else str(label))


def _value(key: str, value: Any, where: str) -> Any:
    from ..features.names import parse_size

    try:
        if key == "image_size":
            return parse_size(str(value))
        if key in ("mean", "std"):
            first, second, third = value if isinstance(value, list) else [value] * 3
            return float(first), float(second), float(third)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{where}: {key} cannot be {value!r} ({error}).") from error
    return str(value) if key == "layer" else value


def stamp(name: str) -> Any:
    """Return what tells whether the file or folder that a model names is still the same; None where it names none."""
    from ..data.instances import file_sha256

    source, _, behind = name.partition(":")
    # The code of a clone decides its numbers as much as the weights do.
    paths = [Path(name.rpartition("@")[2]), *([Path(behind.partition(":")[0])] if source == "hub" else [])]
    found: list[Any] = []
    for path in paths:
        if path.is_file():
            found.append(file_sha256(path))
        elif path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts)
            found += [[str(one.relative_to(path)), one.stat().st_size, one.stat().st_mtime_ns] for one in inside]
    return found or None
