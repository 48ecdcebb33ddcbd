"""A model's name in, the files that it opens out, with what they hold: what tells one model from another.

The stamp of a run, its provenance and the loader all ask here, so that other weights behind the same words are another
model, whatever stands between the words and the file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..errors import BackboneError, listed
from ..files import file_sha256, file_stamp
from ..typed_files import Record, read_json
from ..words import existing_path
from .names import ModelName, parse_model_name

__all__ = ["StepRecord", "model_digests", "opened_digests", "resolve_folder", "resolve_run"]

# What lies in a folder and decides nothing.
PASSED_OVER = {".git", "__pycache__", ".cache"}


class StepRecord(Record, frozen=True):
    """What step.json says of a checkpoint of `couplingkit train`."""

    step: int
    method: str
    evaluated: str = "teacher"


class _Config(Record, frozen=True):
    """What tells whose folder a config.json lies in."""

    architecture: str | None = None
    model_type: str | None = None


def model_digests(name: str, branch: str | None = None) -> dict[str, str]:
    """Return the files that a model's name opens: path (below its folder) -> SHA-256; empty where it opens none.

    Args:
        name: of the model, as `load_backbone` takes it.
        branch: of a training run, which is another file.

    Raises:
        BackboneError: the name is of no known form, or a training run has no checkpoint.
    """
    return opened_digests(resolve_run(parse_model_name(name), branch))


def opened_digests(model: ModelName) -> dict[str, str]:
    """Return the same of a name that is taken apart already."""
    found: dict[str, str] = {}
    for folder in _folders(model):
        inside = (path for path in sorted(folder.rglob("*")) if path.is_file())
        kept = [path for path in inside if not PASSED_OVER & set(path.relative_to(folder).parts)]
        # The code of a clone decides its numbers as much as the weights do.
        found |= {path.relative_to(folder).as_posix(): _digest(path) for path in kept}
    if model.weights is not None and model.weights.is_file():
        found[model.weights.name] = _digest(model.weights)
    return found


def _folders(model: ModelName) -> list[Path]:
    words = [model.architecture.removeprefix("local-dir:")]
    if model.source == "hub":
        words = [model.architecture.rpartition(":")[0]]
    elif model.source not in ("folder", "transformers") and not model.architecture.startswith("local-dir:"):
        return []
    places = [existing_path(word) for word in words]
    return [place for place in places if place is not None and place.is_dir()]


def _digest(path: Path) -> str:
    return _hashed(path, *file_stamp(path))


@lru_cache(maxsize=10_000)
def _hashed(path: Path, *_stamp: int) -> str:
    return file_sha256(path)


def resolve_run(model: ModelName, branch: str | None) -> ModelName:
    """Return the last checkpoint of a run folder, what its method is evaluated by unless a branch is named.

    Other models are returned as they are.
    """
    folder = Path(model.architecture) if model.source == "folder" else None
    if folder is None or not (folder / "run.json").is_file():
        return model
    whole = sorted(step.parent for step in folder.glob("checkpoints/step-*/step.json"))
    if not whole:
        raise BackboneError(f"model {model.text!r} is a training run without a checkpoint yet.")
    evaluated = read_json(whole[-1] / "step.json", StepRecord, "checkpoint", error=BackboneError).evaluated
    weights = whole[-1] / f"{branch or evaluated}.safetensors"
    if not weights.is_file():
        has = listed(sorted(path.stem for path in whole[-1].glob("*.safetensors")))
        raise BackboneError(f"model {model.text!r} has no branch {branch!r}; its checkpoints hold {has}.")
    return replace(model, source="file", architecture="", weights=weights)


def resolve_folder(model: ModelName) -> ModelName:
    """Return whose folder it is, timm's or transformers', by its config.json."""
    config = Path(model.architecture) / "config.json"
    if not config.is_file():
        raise BackboneError(
            f"model {model.text!r} is a folder without a config.json; give a folder that timm or transformers saved, "
            "or a weights file in it."
        )
    content = read_json(config, _Config, "model", error=BackboneError)
    if content.architecture is not None:
        return replace(model, source="timm", architecture=f"local-dir:{model.architecture}")
    if content.model_type is not None:
        return replace(model, source="transformers")
    raise BackboneError(f"model {model.text!r}: {config} names neither an architecture of timm nor a model_type.")
