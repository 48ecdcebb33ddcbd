"""Files that people and earlier runs wrote in, typed records out; whatever is wrong with one is one sentence.

Text is UTF-8 with or without a byte-order mark. JSON and TOML become records (`Record`, a msgspec struct, or a
dataclass): a value of the wrong type, a number beyond all bounds, a depth that no reader survives are refused alike.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from .errors import CouplingKitError, DataError, first_line

__all__ = [
    "Count",
    "Digest",
    "Record",
    "Share",
    "as_record",
    "decode_json",
    "decode_toml",
    "json_text",
    "made_by",
    "read_json",
    "read_json_lines",
    "read_text",
    "read_toml",
]

Kind = TypeVar("Kind")
# Of a record's field: what makes its default, `made_by(default_factory=dict)`.
made_by = msgspec.field
Refusal = type[CouplingKitError]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
# What decoders raise on depth, size and encoding, besides their own errors.
UNREADABLE = (RecursionError, UnicodeDecodeError, OverflowError, MemoryError, ValueError)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says, each field of a type that is checked when it is read."""


def read_text(path: Path, what: str, *, error: Refusal = DataError) -> str:
    """Return a text file's content, UTF-8 with or without a byte-order mark.

    Args:
        path: of the file.
        what: the file is, for the sentence: `recipe`, `probes`.
        error: that is raised.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{what} {path} is no UTF-8 text ({first_line(problem)}); save it as UTF-8.") from problem
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or first_line(problem)
        raise error(f"{what} {path} cannot be read ({why}).") from problem


def read_json(path: Path, kind: type[Kind], what: str, *, error: Refusal = DataError) -> Kind:
    """Read a JSON file as a record; arguments as in `read_text`, and the record's type.

    Raises:
        CouplingKitError: of the kind `error`, where the file cannot be read or is of another shape.
    """
    return decode_json(read_text(path, what, error=error), kind, f"{what} {path}", error=error)


def decode_json(text: str | bytes, kind: type[Kind], what: str, *, error: Refusal = DataError) -> Kind:
    """Return JSON text as a record; `what` begins the sentence of a refusal."""
    try:
        # Python writes NaN and Infinity, which are no JSON, and which no record of ours holds.
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as problem:
        raise error(f"{what} is not whole: {first_line(problem)}.") from problem
    except (msgspec.DecodeError, *UNREADABLE) as problem:
        raise error(f"{what} is no valid JSON ({_why(problem)}).") from problem


def read_toml(path: Path, what: str, *, error: Refusal = DataError) -> dict[str, Any]:
    """Read a TOML file as plain values; arguments as in `read_text`."""
    return decode_toml(read_text(path, what, error=error), f"{what} {path}", error=error)


def decode_toml(text: str, what: str, *, error: Refusal = DataError) -> dict[str, Any]:
    """Return TOML text as plain values; `what` begins the sentence of a refusal."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, *UNREADABLE) as problem:
        raise error(f"{what} is no valid TOML ({_why(problem)}).") from problem


def as_record(values: Any, kind: type[Kind], what: str, *, error: Refusal = DataError) -> Kind:
    """Return plain values as a record; `what` begins the sentence of a refusal."""
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, *UNREADABLE) as problem:
        raise error(f"{what} is not valid: {first_line(problem).rstrip('.')}.") from problem


def json_text(record: Any) -> str:
    """Return a record, or plain values, as JSON with a line a value; what is not a number is null."""
    plain = msgspec.to_builtins(record)
    return json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_json_lines(path: Path, kind: type[Kind]) -> list[Kind]:
    """Return the records of a log with one JSON object a line; none where there is no file.

    Lines that are not whole, as the last one is where the plug was pulled, are left out.
    """
    try:
        lines: Iterable[bytes] = path.read_bytes().splitlines() if path.is_file() else ()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except (msgspec.DecodeError, *UNREADABLE):
            continue
    return found


def _why(problem: BaseException) -> str:
    return "nested too deeply" if isinstance(problem, RecursionError) else first_line(problem)
