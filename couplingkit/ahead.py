"""Items that take time to make in, the same ones out: the next are made while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")


def ahead(items: Iterable[Item], count: int = 1) -> Iterator[Item]:
    """Yield items in their order; up to `count` of them are made ahead, by a thread of their own.

    What raises where an item is made raises here when its turn comes; nothing is made any more when nobody asks.

    >>> list(ahead((number * number for number in range(4)), 2))
    [0, 1, 4, 9]
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as beside:
        under_way: deque[Future[object]] = deque(beside.submit(next, source, end) for _ in range(count))
        try:
            while (item := under_way.popleft().result()) is not end:
                under_way.append(beside.submit(next, source, end))
                yield item  # type: ignore[misc]
        finally:
            for future in under_way:
                future.cancel()
