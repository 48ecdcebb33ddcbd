"""A TOML file and `KEY=VALUE` words in, a checked recipe out: every setting of a run, and the method it builds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError, DataError, first_line, near
from ..typed_files import as_record, decode_toml, read_toml
from ..words import as_path
from .decoupling import Decoupled
from .method import DenseMethod, Masking, Method
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
    content = _parsed(recipe)
    for change in changes:
        _apply(content, change)
    tables = set(TABLES)
    _check_keys("recipe", content, tables)
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
        method=_record(kind.settings, content.get("method", {}), "method"),
        views=tuple(_record(View, view, "views") for view in views),
        local_views=tuple(_record(LocalView, view, "local_views") for view in local),
        start=_record(Start, content.get("start", {}), "start"),
        decoupling=_record(Decoupling, content.get("decoupling", {}), "decoupling"),
        optimizer=_record(Optimizer, content.get("optimizer", {}), "optimizer"),
        run=_record(Run, content.get("run", {}), "run"),
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
            parts.append("\n".join([head, *_lines(record)]))
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


def _lines(record: Any) -> list[str]:
    # TOML has no word for nothing; what is not there is None again.
    return [f"{key} = {_toml(item)}" for key, item in asdict(record).items() if item is not None]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value)


def _parsed(recipe: str) -> dict[str, Any]:
    path = as_path(recipe)
    if path.suffix != ".toml":
        if recipe not in recipe_names():
            raise ArgumentError(
                f"recipe must be a .toml file or one of {', '.join(recipe_names())}, not {recipe!r}"
                f"{near(recipe, recipe_names())}."
            )
        text = (files(__package__) / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
        return decode_toml(text, f"recipe {recipe}", error=ArgumentError)
    return read_toml(path, "recipe", error=ArgumentError)


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not tables:
        raise ArgumentError(f"change {change!r} must be TABLE.KEY=VALUE, like optimizer.lr=3e-4.")
    try:
        value = decode_toml(f"value = {text}", "change")["value"]
    except DataError:
        value = text.strip()
    place = content
    for table in tables:
        place = _within(place, table, change)
    place[last] = value


def _within(place: dict[str, Any], word: str, change: str) -> dict[str, Any]:
    """Return the table that a word like `method` or `views[0]` names, a new one where there is none."""
    table, bracket, number = word.partition("[")
    found = place.setdefault(table, [] if bracket else {})
    if bracket and not isinstance(found, list):
        raise ArgumentError(f"change {change!r}: {table!r} is a single table, without a number.")
    if bracket:
        places = {f"{index}]": entry for index, entry in enumerate(found)}
        if number not in places:
            raise ArgumentError(f"change {change!r}: the recipe has {len(found)} {table}, numbered from 0.")
        found = places[number]
    if not isinstance(found, dict):
        several = isinstance(found, list)
        how = f"say which of them, like {table}[0]" if several else "write a recipe for it"
        raise ArgumentError(f"change {change!r}: {table!r} is no table of single values; {how}.")
    return found


def _check_keys(table: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            raise ArgumentError(f"{table} has no key {key!r}{near(key, known)}; it has {', '.join(sorted(known))}.")


def _record(kind: type, given: Any, table: str) -> Any:
    """Return a settings record from a table of TOML; every value must be of the type that the record says."""
    if not isinstance(given, dict):
        raise ArgumentError(f"recipe's {table} must be a table, but is {given!r}.")
    known = {part.name: part for part in fields(kind)}
    _check_keys(f"recipe's [{table}]", given, set(known))
    values = dict(given)
    for key, value in given.items():
        default = known[key].default_factory
        kind_of = known[key].type
        if getattr(kind_of, "__name__", str(kind_of)).startswith("Masking") and isinstance(value, dict):
            # What a table leaves out is as the method has it.
            base = {} if default is MISSING else asdict(default())
            _check_keys(f"recipe's {table}.{key}", value, {part.name for part in fields(Masking)})
            values[key] = {**base, **value}
    try:
        return as_record(values, kind, f"recipe's [{table}]", error=ArgumentError)
    except TypeError as error:
        raise ArgumentError(f"recipe's [{table}]: {kind.__name__} cannot be read ({first_line(error)}).") from error
