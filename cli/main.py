"""The group of all commands, and the one place where a refusal becomes an exit code."""

from __future__ import annotations

from typing import Any

import click

from .. import __version__
from ..errors import CouplingKitError
from .affinity import affinity
from .backbones import backbones
from .compare import compare
from .demo import demo
from .explore import explore
from .inspect import inspect
from .masks import masks
from .measure import measure
from .probes import probes
from .proposals import proposals
from .report import report
from .scenes import scenes
from .sweep import sweep
from .train import train
from .train_pair import train_pair

__all__ = ["main"]


class Refusal(click.ClickException):
    """An expected error: its sentence on standard error, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """Turns `CouplingKitError` into one sentence and exit code 2, for every command below it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except CouplingKitError as error:
            raise Refusal(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="couplingkit")
def main() -> None:
    """Measure how much the dense features of one object soak up its neighbours.

    Two objects are cut out of photos by their masks and pasted onto a canvas, apart and side by side. If the feature
    of the first moves towards the second, the two are coupled; the coupling rate (Qiu et al., ICLR 2024) says how much.

    \b
    Start here:
      couplingkit demo                       nothing to download, half a minute
      couplingkit probes preview --help      look at the probes of your own data
      couplingkit inspect --help             see how a checkpoint will be read
      couplingkit measure --help             measure your models
      couplingkit sweep --help               curves over gaps, visible shares, layers, ...
      couplingkit compare --help             paired differences between runs
      couplingkit report --help              all of it on one page
      couplingkit affinity --help            draw what a point is similar to, and score it
      couplingkit explore --help             the same as a page to click on
      couplingkit train-pair --help          train a coupled and a decoupled model, and compare them
    """


for command in (
    affinity,
    backbones,
    compare,
    demo,
    explore,
    inspect,
    masks,
    measure,
    probes,
    proposals,
    report,
    scenes,
    sweep,
    train,
    train_pair,
):
    main.add_command(command)
