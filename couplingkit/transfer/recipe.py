"""A TOML file and `KEY=VALUE` words in, a checked fine-tuning recipe out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError
from ..training.recipe_files import apply_change, check_keys, parsed_recipe, table_lines, table_record
from ..training.settings import Optimizer, Run
from .settings import BackboneUse, DetectHead, DetectPhotos, SegmentHead, SegmentPhotos

__all__ = ["TASKS", "FineTuneRecipe", "read_fine_tune_recipe", "recipe_names", "recipe_status"]

# Of each task the records of its head and of its photos.
TASKS: dict[str, tuple[type, type]] = {"detect": (DetectHead, DetectPhotos), "segment": (SegmentHead, SegmentPhotos)}
TABLES = ("backbone", "head", "photos", "optimizer", "run")


@dataclass(frozen=True)
class FineTuneRecipe:
    """All settings of a fine-tuning run.

    Attributes:
        task: detect or segment.
        status: on what it was run, or that it was not.
        backbone: what becomes of the pretrained network.
        head: what is built on it.
        photos: how they are shown.
        optimizer: how weights move.
        run: length, batch, checkpoints.
    """

    task: str
    status: str
    backbone: BackboneUse
    head: Any
    photos: Any
    optimizer: Optimizer
    run: Run

    def toml(self) -> str:
        """Return the whole recipe as TOML, which `read_fine_tune_recipe` reads again."""
        parts = [f'task = "{self.task}"\nstatus = "{self.status}"']
        parts += ["\n".join([f"[{name}]", *table_lines(getattr(self, name))]) for name in TABLES]
        return "\n\n".join(parts) + "\n"

    def tables(self) -> dict[str, Any]:
        """Return what decides the weights, as JSON values."""
        return {
            name: {part.name: getattr(getattr(self, name), part.name) for part in fields(getattr(self, name))}
            for name in TABLES
        }


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with couplingkit."""
    return sorted(one.name.removesuffix(".toml") for one in (files(__package__) / "recipes").iterdir())


def recipe_status(recipe: str) -> tuple[str, str]:
    """Return the task of a recipe that comes with couplingkit, and on what it was run."""
    content = parsed_recipe(recipe, __package__ or "", recipe_names())
    return str(content["task"]), str(content["status"])


def read_fine_tune_recipe(task: str, recipe: str, changes: Sequence[str] = ()) -> FineTuneRecipe:
    """Read a recipe for a task.

    Args:
        task: detect or segment.
        recipe: the name of one that comes with couplingkit, or the path of a TOML file.
        changes: `table.key=value` words, like `optimizer.lr=3e-4`.

    Raises:
        ArgumentError: no such recipe or key, a value out of range, or it is of the other task.
    """
    if task not in TASKS:
        raise ArgumentError(f"task must be one of {', '.join(TASKS)}, not {task!r}.")
    content = parsed_recipe(recipe, __package__ or "", recipe_names())
    for change in changes:
        apply_change(content, change)
    check_keys(f"recipe {recipe}", content, {*TABLES, "task", "status"})
    if content.get("task") != task:
        raise ArgumentError(f"recipe {recipe} is for the task {content.get('task')!r}, not for {task!r}.")
    head, photos = TASKS[task]
    kinds = {"backbone": BackboneUse, "head": head, "photos": photos, "optimizer": Optimizer, "run": Run}
    tables = {name: table_record(kind, content.get(name, {}), name) for name, kind in kinds.items()}
    status = content.get("status", "not run")
    if not isinstance(status, str) or '"' in status or "\n" in status:
        raise ArgumentError(f"recipe {recipe}: status must be a line of words, but is {status!r}.")
    if tables["run"].gradient_checkpointing and tables["backbone"].frozen:
        raise ArgumentError("run.gradient_checkpointing saves nothing where backbone.frozen is true; leave one away.")
    return FineTuneRecipe(task, status, **tables)
