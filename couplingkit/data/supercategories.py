"""An instances JSON in, the supercategory of each of its categories out."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path

import msgspec

from ..errors import DataError, first_line, listed

__all__ = ["read_supercategories"]


class _Grouped(msgspec.Struct):
    name: str | None = None
    id: int | str = ""
    supercategory: str | None = None


class _Categories(msgspec.Struct):
    categories: list[_Grouped]


def read_supercategories(path: Path) -> dict[str, str]:
    """Return category -> supercategory of an instances JSON.

    Raises:
        DataError: a category has none.
    """
    try:
        found = msgspec.json.decode(path.read_bytes().removeprefix(BOM_UTF8), type=_Categories).categories
    except (msgspec.DecodeError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"annotations {path} cannot be read ({first_line(error)}).") from error
    bare = [one.name or one.id for one in found if not one.supercategory]
    if bare:
        raise DataError(f"annotations {path}: {listed(bare)} has no supercategory; let each category be a class.")
    return {one.name or str(one.id): str(one.supercategory) for one in found}
