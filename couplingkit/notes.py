"""What the library notes in, each sentence once on standard error out, where nobody else listens."""

from __future__ import annotations

import logging
import sys

__all__ = ["OnceHandler"]


class OnceHandler(logging.Handler):
    """Says a warning once in a program, so that a loop of a notebook does not repeat it.

    As soon as the program has handlers of its own (`logging.basicConfig`, a command line, tests), it says nothing.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Say one line, unless it was said or somebody else says it."""
        own = logging.getLogger("couplingkit").handlers
        sentence = record.getMessage()
        if logging.getLogger().handlers or any(other is not self for other in own) or sentence in self.said:
            return
        self.said.add(sentence)
        print(sentence, file=sys.stderr)
