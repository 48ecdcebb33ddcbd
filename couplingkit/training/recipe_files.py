"""The words of a recipe in, checked tables out: TOML, `KEY=VALUE` changes, and records written as TOML again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError, DataError, first_line, near
from ..typed_files import as_record, decode_toml, read_toml
from ..words import as_path
from .masking import Masking

__all__ = ["apply_change", "check_keys", "parsed_recipe", "table_lines", "table_record"]


def table_lines(record: Any) -> list[str]:
    """Return a record's fields as lines of TOML."""
    # TOML has no word for nothing; what is not there is None again.
    return [f"{key} = {_toml(item)}" for key, item in asdict(record).items() if item is not None]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value)


def parsed_recipe(recipe: str, package: str, names: Iterable[str]) -> dict[str, Any]:
    """Return the tables of a recipe: a .toml file, or one of the `names` that lie in a package's `recipes`.

    Raises:
        ArgumentError: there is no such recipe, or it is no TOML.
    """
    path = as_path(recipe)
    if path.suffix != ".toml":
        known = list(names)
        if recipe not in known:
            raise ArgumentError(
                f"recipe must be a .toml file or one of {', '.join(known)}, not {recipe!r}{near(recipe, known)}."
            )
        text = (files(package) / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
        return decode_toml(text, f"recipe {recipe}", error=ArgumentError)
    return read_toml(path, "recipe", error=ArgumentError)


def apply_change(content: dict[str, Any], change: str) -> None:
    """Set what a `table.key=value` word says, in place; raises `ArgumentError` where it says nothing."""
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


def check_keys(table: str, given: Mapping[str, Any], known: set[str]) -> None:
    """Raise `ArgumentError` if a table has a key that is not known."""
    for key in given:
        if key not in known:
            raise ArgumentError(f"{table} has no key {key!r}{near(key, known)}; it has {', '.join(sorted(known))}.")


def table_record(kind: type, given: Any, table: str) -> Any:
    """Return a settings record from a table of TOML; every value must be of the type that the record says."""
    if not isinstance(given, dict):
        raise ArgumentError(f"recipe's {table} must be a table, but is {given!r}.")
    known = {part.name: part for part in fields(kind)}
    check_keys(f"recipe's [{table}]", given, set(known))
    values = dict(given)
    for key, value in given.items():
        default = known[key].default_factory
        kind_of = known[key].type
        if getattr(kind_of, "__name__", str(kind_of)).startswith("Masking") and isinstance(value, dict):
            # What a table leaves out is as the method has it.
            base = {} if default is MISSING else asdict(default())
            check_keys(f"recipe's {table}.{key}", value, {part.name for part in fields(Masking)})
            values[key] = {**base, **value}
    try:
        return as_record(values, kind, f"recipe's [{table}]", error=ArgumentError)
    except TypeError as error:
        raise ArgumentError(f"recipe's [{table}]: {kind.__name__} cannot be read ({first_line(error)}).") from error
