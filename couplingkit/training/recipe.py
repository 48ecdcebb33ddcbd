"""A TOML file and `KEY=VALUE` words in, a checked recipe out: every setting of a run, and the method it builds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError, first_line
from .decoupling import Decoupled
from .method import DenseMethod, Method
from .recipe_files import apply_change, check_keys, parsed_recipe, table_lines, table_record
from .registry import SUFFIX, method_kind
from .settings import Decoupling, LocalView, Optimizer, Run, Start
from .views import Augmentation, View

__all__ = [
    "Recipe",
    "build_method",
    "different_keys",
    "read_recipe",
    "recipe_names",
    "recipe_toml",
]

TABLES = ("method", "views", "local_views", "start", "decoupling", "optimizer", "run")


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; `name` is the method's, like `ibot-d`.

    `local_views` are crops that only the student is shown, one table for each kind of them.
    """

    name: str
    method: Any
    views: tuple[View, ...]
    decoupling: Decoupling
    optimizer: Optimizer
    run: Run
    local_views: tuple[LocalView, ...] = ()
    start: Start = field(default_factory=Start)

    @property
    def decoupled(self) -> bool:
        """Whether the method is an X-D."""
        return self.name.endswith(SUFFIX)

    @property
    def augmentation(self) -> Augmentation:
        """What is made of each image; only an X-D asks for a second draw of the colours."""
        local = tuple(view for view in self.local_views for _ in range(view.count))
        boxes = getattr(self.method, "proposals", 0)
        return Augmentation(self.views, local, recolour=self.decoupled, boxes=boxes)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with couplingkit."""
    return sorted(one.name.removesuffix(".toml") for one in (files(__package__) / "recipes").iterdir())


def read_recipe(method: str, recipe: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe for a method.

    Args:
        method: like `ibot` or `ibot-d`.
        recipe: the name of one that comes with couplingkit, or the path of a TOML file.
        changes: `table.key=value` words, like `optimizer.lr=3e-4`; values as in TOML, or plain words.

    Raises:
        ArgumentError: no such method, recipe or key, or a value out of range.
    """
    kind = method_kind(method)
    if method.endswith(SUFFIX) and not kind.dense:
        raise ArgumentError(f"method {method!r}: {method.removesuffix(SUFFIX)} has no dense output, and so no X-D.")
    content = parsed_recipe(recipe, __package__ or "", recipe_names())
    for change in changes:
        apply_change(content, change)
    tables = set(TABLES)
    check_keys("recipe", content, tables)
    views = content.get("views", [])
    if not isinstance(views, list) or not views:
        raise ArgumentError(f"recipe {recipe} must have one [[views]] per crop, but has none.")
    local = content.get("local_views", [])
    if not isinstance(local, list):
        raise ArgumentError(f"recipe {recipe} must have one [[local_views]] for each kind of them, not {local!r}.")
    if local and not kind.build.takes_local_views:
        raise ArgumentError(f"local_views are for methods with a class token, like ibot; {method} has no use for them.")
    return Recipe(
        name=method,
        method=table_record(kind.settings, content.get("method", {}), "method"),
        views=tuple(table_record(View, view, "views") for view in views),
        local_views=tuple(table_record(LocalView, view, "local_views") for view in local),
        start=table_record(Start, content.get("start", {}), "start"),
        decoupling=table_record(Decoupling, content.get("decoupling", {}), "decoupling"),
        optimizer=table_record(Optimizer, content.get("optimizer", {}), "optimizer"),
        run=table_record(Run, content.get("run", {}), "run"),
    )


def build_method(recipe: Recipe) -> Method:
    """Return the networks of a recipe's method, with random weights from its seed.

    Raises:
        ArgumentError: no such network can be built, or there is no memory for it.
    """
    try:
        return _built(recipe)
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError, KeyError, AttributeError) as error:
        raise ArgumentError(f"recipe's [method] gives no network: {first_line(error)}.") from error


def _built(recipe: Recipe) -> Method:
    # A method is built from the settings that it names, which its base class cannot say.
    build: Callable[..., Method] = method_kind(recipe.name).build
    if not recipe.decoupled:
        return build(recipe.method, seed=recipe.run.seed)
    extra = recipe.decoupling
    inner = build(replace(recipe.method, masking=extra.inner), seed=recipe.run.seed)
    assert isinstance(inner, DenseMethod)
    return Decoupled(inner, masking=extra.masking, weight=extra.weight, share=extra.share)


def recipe_toml(recipe: Recipe) -> str:
    """Return the whole recipe as TOML, which `read_recipe` reads again."""
    parts = []
    for name in TABLES:
        value = getattr(recipe, name)
        for record in value if isinstance(value, tuple) else [value]:
            head = f"[[{name}]]" if isinstance(value, tuple) else f"[{name}]"
            parts.append("\n".join([head, *table_lines(record)]))
    return "\n\n".join(parts) + "\n"


def different_keys(one: Recipe, other: Recipe) -> list[str]:
    """Return what two recipes differ in, as `table.key`, or the table where it is of another kind."""
    found = [] if one.name == other.name else ["the method's name"]
    for table in TABLES:
        left, right = getattr(one, table), getattr(other, table)
        if left == right:
            continue
        if isinstance(left, tuple) or type(left) is not type(right):
            found.append(table)
        else:
            names = [part.name for part in fields(left)]
            found += [f"{table}.{name}" for name in names if getattr(left, name) != getattr(right, name)]
    return found
