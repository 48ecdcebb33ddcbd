"""A command whose refusals are one sentence: the library's, in the words of the command's own options."""

from __future__ import annotations

import re
from typing import Any

import click

from ..errors import CouplingKitError


class Refusal(click.ClickException):
    """An expected error: its sentence on standard error, exit code 2."""

    exit_code = 2


class Command(click.Command):
    """A command whose refusals are one sentence, in the words of its own options."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except CouplingKitError as error:
            raise Refusal(as_options(str(error))) from error


def as_options(text: str) -> str:
    """Return a sentence of the library in the words of the running command: `image_size` becomes --image-size."""
    context = click.get_current_context(silent=True)
    if context is None:
        return text
    known: dict[str | None, click.Option] = {}
    for option in context.command.params:
        if isinstance(option, click.Option):
            # A parameter of a command may have another name than its option, as several --point are `points`.
            known |= dict.fromkeys((max(option.opts, key=len).lstrip("-").replace("-", "_"), option.name), option)

    def spelled(match: re.Match[str]) -> str:
        option = known.get(match[1])
        if option is None:
            return match[0]
        if match[2] in ("True", "False"):
            return (option.opts if match[2] == "True" else option.secondary_opts or option.opts)[-1]
        return max(option.opts, key=len) + (f" {match[2]}" if match[2] else "")

    # What the library itself says of the command line stands in brackets behind.
    return re.sub(r"`(\w+)(?:=([^`]*))?`(?: \(--[\w-]+\))?", spelled, text)


def given_names() -> frozenset[str]:
    """Return the names of the options that were typed, and not left to their defaults."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return frozenset(name for name in context.params if context.get_parameter_source(name) is typed)
