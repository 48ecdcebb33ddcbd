"""`couplingkit share`: a run folder, with a card, on the Hugging Face hub; `couplingkit cite`: what to cite."""

from __future__ import annotations

from pathlib import Path

import click

from .command import Command
from .words import PATH

__all__ = ["cite", "share"]

CITATION = """\
@inproceedings{{qiu2024mind,
  title     = {{Mind Your Augmentation: The Key to Decoupling Dense Self-Supervised Learning}},
  author    = {{Qiu, Congpei and Zhang, Tong and Wu, Yanhao and Ke, Wei and Salzmann, Mathieu and
               S{{\\"u}}sstrunk, Sabine}},
  booktitle = {{International Conference on Learning Representations}},
  year      = {{2024}}
}}

@software{{couplingkit,
  title   = {{couplingkit: measures the coupling of dense visual features}},
  author  = {{{{The authors of couplingkit}}}},
  version = {{{version}}},
  year    = {{2026}}
}}"""


@click.command(cls=Command, short_help="Put a run folder, with a card, on the Hugging Face hub.")
@click.argument("run", type=PATH)
@click.option("--repo", "repository", metavar="ORG/NAME", help="Of the hub; it is made where it is not there.")
@click.option("--public", is_flag=True, help="Let everybody see it.")
def share(run: Path, repository: str | None, public: bool) -> None:
    """Upload RUN to a repository of the hub (`hf auth login` first); without --repo, print its card.

    \b
    Example:
      couplingkit share runs/ibot-d                     # the card: what was measured on what, with intervals
      couplingkit share runs/ibot-d --repo me/ibot-d
    """
    from ..runs.sharing import model_card, push_to_hub

    if repository is None:
        click.echo(model_card(run))
        return
    click.echo(f"Uploaded to {push_to_hub(run, repository, private=not public)}")


@click.command(cls=Command, short_help="Print what to cite, as BibTeX.")
def cite() -> None:
    """Print BibTeX of the paper whose measure this is, and of this software with its version."""
    from ..version import __version__

    click.echo(CITATION.format(version=__version__))
