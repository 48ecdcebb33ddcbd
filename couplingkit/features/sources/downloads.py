"""Whether weights on the Hugging Face hub can be had, asked before its client retries for most of a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

__all__ = ["check_hub"]


def check_hub(repository: str, files: Iterable[str]) -> None:
    """Raise `OSError` at once where none of the files is in the cache and the hub cannot be reached."""
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
        return
    head: Callable[..., Any] = get_session().head
    try:
        head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        raise OSError(f"{constants.ENDPOINT} cannot be reached") from error
