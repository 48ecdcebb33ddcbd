"""Items made ahead are the same items, in order, with their errors in their places."""

import threading
import time

import pytest

from couplingkit.ahead import ahead


def test_order_and_errors_keep_their_places():
    def items():
        yield from range(5)
        raise ValueError("the sixth")

    found = []
    with pytest.raises(ValueError, match="the sixth"):
        found.extend(ahead(items(), 3))
    assert found in ([], list(range(5)))  # what extend keeps of an iterator that raises is its own affair
    seen = []
    with pytest.raises(ValueError, match="the sixth"):
        for item in ahead(items(), 3):
            seen.append(item)
    assert seen == list(range(5))
    assert list(ahead([])) == []


def test_the_next_one_is_made_while_one_is_used():
    made = threading.Event()

    def items():
        yield 0
        made.set()
        yield 1

    for item in ahead(items()):
        if item == 0:
            assert made.wait(10), "nobody makes the next one meanwhile"


def test_no_more_are_made_than_are_asked_for():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    source = ahead(items(), 2)
    assert next(source) == 0
    source.close()
    time.sleep(0.05)
    assert len(made) <= 4
