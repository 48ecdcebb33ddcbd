"""Ways in which files and words are damaged: a whole one in, many broken ones out, the same every time."""

import json
import re

DEEP = 100_000
VALUES = (None, "x", -1, 10**30, float("nan"), float("inf"), [], {}, True, "\x00", 0.5, "9" * 400)
TOML_VALUES = ("[]", '"x"', "-1", "nan", "1e400", "9" * 30, "true", "{ a = 1 }", "[[", "2024-01-01", '"\\u0000"')
WORDS = (
    *("", " ", "-1", "0", "nan", "inf", "1e400", "9" * 30, "²", "９", "0x10", "1_0", "1,", ",", "1,1,1,1"),
    *("a" * 5000, "a/" * 3000, "\udcff", "~nobody/x", "[", "{", "a:b@c", "@", "x\ny", "../..", "/dev/null", "/"),
)


def damaged_bytes(whole):
    """Yield (name, bytes) of any file: cut, empty, of another encoding, of another kind."""
    yield "empty", b""
    yield "half", whole[: len(whole) // 2]
    yield "cut", whole[:-1] if len(whole) < 2000 else whole[:-1000]
    yield "zeros", bytes(len(whole))
    yield "utf-16", whole.decode("latin-1").encode("utf-16")
    yield "not utf-8", b"\xff\xfe\x80" + whole
    yield "picture", b"\x89PNG\r\n\x1a\n" + whole[:100]
    yield "twice", whole + whole


def damaged_json(whole, *, every=1):
    """Yield (name, bytes) of a JSON text: `damaged_bytes`, other documents, and each value in turn as others.

    Args:
        whole: the text.
        every: of the places in the document one in so many is damaged.
    """
    yield from damaged_bytes(whole.encode())
    for name, text in {
        "null": "null",
        "number": "3",
        "text": '"x"',
        "list": "[1, 2]",
        "deep": "[" * DEEP,
        "deep and whole": "[" * DEEP + "]" * DEEP,
        "deep value": whole.rstrip()[:-1] + ', "extra": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    }.items():
        yield name, text.encode()
    content = json.loads(whole)
    for number, path in enumerate(places(content)):
        if number % every:
            continue
        for step in range(2):
            value = VALUES[(2 * number + 5 * step) % len(VALUES)]
            yield f"{path} = {str(value)[:9]!r}", json.dumps(changed(content, path, value)).encode()
        yield f"{path} gone", json.dumps(changed(content, path)).encode()


def places(content, path=()):
    """Yield the path of each value; of long lists those of the first and the last entry."""
    if path:
        yield path
    if isinstance(content, dict):
        for key in list(content)[:12]:
            yield from places(content[key], (*path, key))
    elif isinstance(content, list):
        for place in sorted({0, len(content) - 1}) if content else ():
            yield from places(content[place], (*path, place))


def changed(content, path, *value):
    """A copy of a document in which the value at a path is another one, or is gone."""
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value:
        inner[path[-1]] = value[0]
    else:
        del inner[path[-1]]
    return copy


def damaged_toml(whole):
    """Yield (name, bytes) of a TOML text: `damaged_bytes`, and each value in turn as others."""
    yield from damaged_bytes(whole.encode())
    yield "deep", ("a = " + "[" * DEEP).encode()
    lines = whole.splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"(\w+) = ", line)
        if found is None:
            continue
        for step in range(2):
            value = TOML_VALUES[(number + 4 * step) % len(TOML_VALUES)]
            text = "\n".join([*lines[:number], f"{found[1]} = {value}", *lines[number + 1 :]])
            yield f"{found[1]} = {value[:9]}", text.encode()
        yield f"{found[1]} twice", "\n".join([*lines[:number], line, *lines[number:]]).encode()
        yield f"{found[1]}s", "\n".join([*lines[:number], line.replace(" =", "s =", 1), *lines[number + 1 :]]).encode()


def damaged_rows(whole):
    """Yield (name, bytes) of a table of rows: `damaged_bytes`, and cells, rows and columns that cannot be."""
    yield from damaged_bytes(whole.encode())
    header, *rows = whole.splitlines()
    names = header.split(",")
    yield "header alone", header.encode()
    yield "no header", "\n".join(rows).encode()
    yield "a row twice", "\n".join([header, *rows, rows[0]]).encode()
    yield "a row less", "\n".join([header, *rows[:3], *rows[4:]]).encode()
    yield "a quote", "\n".join([header, '"' + rows[0], *rows[1:]]).encode()
    yield "longer rows", "\n".join([header, *(row + ",1" for row in rows)]).encode()
    for column, name in enumerate(names):
        without = [
            ",".join(cell for place, cell in enumerate(line.split(",")) if place != column) for line in [header, *rows]
        ]
        yield f"no {name}", "\n".join(without).encode()
        for value in ("x", "-1", "1e9", "inf", "", "9" * 30)[column % 2 :: 2]:
            cells = rows[2].split(",")
            if cells[column] == value:
                continue
            cells[column] = value
            yield f"{name} = {value[:9]}", "\n".join([header, *rows[:2], ",".join(cells), *rows[3:]]).encode()
