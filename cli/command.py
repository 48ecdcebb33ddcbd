"""A command whose refusals are one sentence: the library's, in the words of the command's own options."""

from __future__ import annotations

import io
import logging
import os
import re
from contextlib import redirect_stderr
from typing import Any

import click

from ..errors import CouplingKitError


class Refusal(click.ClickException):
    """An expected error: its sentence on standard error, exit code 2."""

    exit_code = 2


class Command(click.Command):
    """A command whose refusals are one sentence, in the words of its own options."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.params += [
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Say nothing but results and errors: no notes, no progress.",
            ),
            click.Option(
                ["-v", "--verbose"],
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Say more: what is kept in the cache folder, and why something is not.",
            ),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, as loudly as it is asked for."""
        if ctx.meta.get("verbose"):
            logging.getLogger("couplingkit").setLevel(logging.DEBUG)
        if not ctx.meta.get("quiet"):
            return self._refusing(ctx)
        # Progress bars of this process and of those that it starts.
        before = os.environ.get("TQDM_DISABLE")
        os.environ["TQDM_DISABLE"] = "1"
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                return self._refusing(ctx)
        except SystemExit as end:
            if end.code:
                # What failed is said last.
                click.echo(said.getvalue().strip().rpartition("\n")[2], err=True)
            raise
        finally:
            os.environ.pop("TQDM_DISABLE")
            if before is not None:
                os.environ["TQDM_DISABLE"] = before

    def _refusing(self, ctx: click.Context) -> Any:
        try:
            if "masks" in ctx.params:
                _as_annotations(ctx.params)
            return super().invoke(ctx)
        except CouplingKitError as error:
            raise Refusal(as_options(str(error))) from error


def _remember(ctx: click.Context, option: click.Parameter, value: bool) -> None:
    ctx.meta[str(option.name)] = value


def _as_annotations(params: dict[str, Any]) -> None:
    """Let --annotations be the instances JSON of --masks, where these are given; nothing behind it knows them."""
    masks, values, names = (params.pop(name) for name in ("masks", "mask_values", "mask_names"))
    if masks is None:
        if names is not None or values != "objects":
            raise Refusal("--mask-values and --mask-names say what the numbers of --masks mean, which is missing.")
        return
    if params["annotations"] is not None:
        raise Refusal("--masks and --annotations are two ways to name objects; give one of them.")
    if params["images"] is None:
        raise Refusal("--masks needs --images, the folder of their photos.")
    from ..data.mask_folders import instances_of_masks, read_mask_names

    known = None if names is None else read_mask_names(names)
    chosen: Any = "classes" if known is not None else values
    params["annotations"] = instances_of_masks(masks, params["images"], values=chosen, names=known, progress=True)


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
