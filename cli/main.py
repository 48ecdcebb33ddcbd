"""The group of all commands, and the one place where refusals and accidents become words and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from typing import Any

import click

from ..version import __version__
from .affinity import affinity
from .backbones import backbones
from .command import as_options
from .compare import compare
from .demo import demo
from .evaluate import evaluate
from .explore import explore
from .finetune import finetune
from .inspect import inspect
from .masks import masks
from .measure import measure
from .plot import plot
from .probes import probes
from .proposals import proposals
from .relate import relate
from .report import report
from .scenes import scenes
from .share import cite, share
from .sweep import sweep
from .tables import tables
from .train import train
from .train_pair import train_pair

__all__ = ["main"]

# Exit code of our own mistakes (EX_SOFTWARE), as 2 is that of refusals.
ACCIDENT = 70


class Spoken(logging.Handler):
    """Says on standard error what the library notes, in the words of the running command."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one line."""
        click.echo(as_options(record.getMessage()), err=True)


class Commands(click.Group):
    """Says what the library notes, and turns an accident into one sentence, for every command below it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        logger, spoken = logging.getLogger("couplingkit"), Spoken()
        logger.addHandler(spoken)
        before, logger.level = logger.level, logging.INFO
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(
                error, click.exceptions.Exit | click.exceptions.Abort | click.ClickException | BrokenPipeError
            ):
                raise
            _accident(error)
        finally:
            logger.removeHandler(spoken)
            logger.level = before


def _accident(error: Exception) -> None:
    """Write what happened into a file, say where it is, and end."""
    if os.environ.get("COUPLINGKIT_DEBUG"):
        raise error
    with tempfile.NamedTemporaryFile(
        "w", prefix="couplingkit-error-", suffix=".txt", delete=False, encoding="utf-8"
    ) as report:
        report.write(f"couplingkit {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n")
        report.write("".join(traceback.format_exception(error)))
    click.echo(f"Error: something went wrong in couplingkit itself; please report it with {report.name}.", err=True)
    raise SystemExit(ACCIDENT)


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
      couplingkit plot --help                the figures of a run, for your paper
      couplingkit affinity --help            draw what a point is similar to, and score it
      couplingkit explore --help             the same as a page to click on
      couplingkit evaluate --help            score the same features: segmentation, objects
      couplingkit finetune --help            train detectors or segmenters on them, and score those
      couplingkit relate --help              set these scores against coupling
      couplingkit train-pair --help          train a coupled and a decoupled model, and compare them
    """


COMMANDS = (affinity, backbones, compare, demo, evaluate, explore, inspect, masks, measure, plot, probes, proposals)
for command in (*COMMANDS, finetune, relate, report, scenes, share, cite, sweep, tables, train, train_pair):
    main.add_command(command)
