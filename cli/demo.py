"""`couplingkit demo`: the whole measurement on built-in data, in half a minute."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .asked import claim, default_out
from .command import Command
from .options import device_option, out_options, seed_option

if TYPE_CHECKING:
    from ..features.names import BackboneOptions
    from ..metrics.bootstrap import Estimate
    from ..metrics.summary import RateSummary
    from ..probes.probeset import ProbeSet
    from ..runs.records import Run
    from ..runs.writing import Writer

__all__ = ["demo"]

COUPLED, DECOUPLED, KNOWN = "bundled:ibot", "bundled:ibot-d", "control:leak:0.2"
MODELS = (COUPLED, DECOUPLED, KNOWN)
SCENES = 60
PROBES = 100
# The probe whose affinity maps are drawn.
SHOWN = 3


@click.command(cls=Command, short_help="See it work: built-in data, nothing downloaded, half a minute.")
@seed_option
@device_option
@out_options("runs/demo-DATE-TIME")
def demo(seed: int, device: str, out: Path | None, overwrite: bool) -> None:
    """Measure a coupled and a decoupled model on procedural scenes, and say what the numbers mean.

    The two are small ViTs that come with couplingkit, trained by `couplingkit train-pair ibot`: iBOT, and iBOT-D, the
    same with the de-coupling branch. Beside them: a network whose leak is planted, and one that cannot leak.
    """
    from ..data.scenes import write_scenes
    from ..features.names import BackboneOptions
    from ..figures.tables import render
    from ..probes.probeset import ProbeSet
    from ..runs.learning import SCENES_SEED
    from ..runs.measuring import RunPlace, measure_models
    from ..runs.models import ModelChoice
    from ..study.measurement import compare

    folder = out or default_out("demo")
    claim(folder, overwrite=overwrite)
    options = BackboneOptions(device=device, seed=seed)
    with tempfile.TemporaryDirectory(prefix="couplingkit-demo-") as scratch:
        # Other scenes than those that the bundled pair was trained on.
        files = write_scenes(Path(scratch) / "scenes", count=SCENES, seed=seed + SCENES_SEED, progress=True)
        probes = ProbeSet.from_coco(*files, count=PROBES, seed=seed)
        place = RunPlace(folder, overwrite, partial(_files, probes, options))
        choices = [ModelChoice(name, options) for name in MODELS]
        run = measure_models(choices, probes, place=place, progress=True)
    by_name = {measurement.name: measurement for measurement in run.measurements}
    gap, _ = compare(by_name[DECOUPLED], by_name[COUPLED], seed=seed)
    click.echo(f"Wrote rows.csv, summary.json, probes.json, coupling.png, affinity.png to {folder}", err=True)
    click.echo(render(run, "table"))
    click.echo()
    for sentence in _meaning({name: measurement.summary for name, measurement in by_name.items()}, gap, folder):
        click.echo(textwrap.fill(sentence, 100))


def _files(probes: ProbeSet, options: BackboneOptions, run: Run) -> Mapping[str, Writer]:
    """Return what writes the figures: the rates, and what a point of A is similar to, without and with B."""
    from ..figures.affinity_plots import run_figure
    from ..figures.plots import coupling_figure, figure_files
    from ..runs.affinity import map_probe
    from ..runs.models import ModelChoice

    maps = map_probe([ModelChoice(name, options) for name in (COUPLED, DECOUPLED)], probes, SHOWN)
    return figure_files({"coupling": coupling_figure(run.measurements), "affinity": run_figure(maps)})


def _meaning(found: dict[str, RateSummary], gap: Estimate, folder: Path) -> list[str]:
    coupled, decoupled, known = (found[name] for name in MODELS)
    return [
        f"Each of {coupled.probes} probes shows one object alone and then beside another; the coupling rate (CR) is "
        "how similar the features of the two are side by side, divided by how similar they are apart, so that "
        f"control:cell, which reads every cell by itself, has {found['control:cell'].cr_mean:.6f}, and a planted leak "
        f"of 0.2 has {known.cr_mean:.4f}.",
        f"iBOT has {coupled.cr_mean:.3f} and iBOT-D {decoupled.cr_mean:.3f}: the difference on the same probes is "
        f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}], which {_of_gap(gap)}.",
        "A rate below 1 says that the neighbour disturbs the feature without drawing it to itself; what is due to the "
        f"neighbour's content is the specificity, {coupled.specificity:.3f} in iBOT and {decoupled.specificity:.3f} in "
        f"iBOT-D, and {folder / 'affinity.png'} shows what the neighbour does to the map of a point.",
    ]


def _of_gap(gap: Estimate) -> str:
    if gap.high < 0:
        return "says that the decoupled one's features turn less towards their neighbours"
    if gap.low > 0:
        return "says that the decoupled one's features turn more towards their neighbours"
    return "does not tell the two apart"
