"""`couplingkit demo`: the whole measurement on built-in data, in half a minute."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .choices import Choice
from .model_options import device_option
from .options import out_options, seed_option
from .watching import SCENES_SEED

if TYPE_CHECKING:
    from ..metrics.bootstrap import Estimate
    from ..metrics.summary import RateSummary
    from ..probes.probeset import ProbeSet

__all__ = ["demo"]

COUPLED, DECOUPLED, KNOWN = "bundled:ibot", "bundled:ibot-d", "control:leak:0.2"
MODELS = (COUPLED, DECOUPLED, KNOWN)
SCENES = 60
PROBES = 100
# The probe whose affinity maps are drawn.
SHOWN = 3


@click.command(short_help="See it work: built-in data, nothing downloaded, half a minute.")
@seed_option
@device_option
@out_options("runs/demo-DATE-TIME")
def demo(seed: int, device: str, out: Path | None, overwrite: bool) -> None:
    """Measure a coupled and a decoupled model on procedural scenes, and say what the numbers mean.

    The two are small ViTs that come with couplingkit, trained by `couplingkit train-pair ibot`: iBOT, and iBOT-D, the
    same with the de-coupling branch. Beside them: a network whose leak is planted, and one that cannot leak.
    """
    from ..figures.tables import render
    from ..files import check_free
    from ..study import compare
    from .session import default_out, write_run
    from .study_session import measure_models

    folder = out or default_out("demo")
    check_free(folder, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="couplingkit-demo-") as scratch:
        probes = _scene_probes(Path(scratch), seed)
        options = {"device": device, "precision": "auto", "seed": seed}
        choices = [Choice(name, options) for name in MODELS]
        measurements = measure_models(choices, probes, {"batch_size": 32}).measurements
        figures = {"affinity": _affinity(probes, options)}
        write_run(folder, measurements, probes, [], overwrite=overwrite, figures=figures)
    by_name = {measurement.name: measurement for measurement in measurements}
    gap, _ = compare(by_name[DECOUPLED], by_name[COUPLED], seed=seed)
    click.echo(render(measurements, "table"))
    click.echo()
    for sentence in _meaning({name: measurement.summary for name, measurement in by_name.items()}, gap, folder):
        click.echo(textwrap.fill(sentence, 100))


def _affinity(probes: ProbeSet, options: dict[str, Any]) -> Any:
    """Return the figure of what a point of A is similar to, without and with B, for both models."""
    from ..features.loading import load_backbone
    from ..study import probe_maps
    from .affinity_runs import probe_picture

    maps = [
        found for name in (COUPLED, DECOUPLED) for found in probe_maps(load_backbone(name, **options), probes, SHOWN)
    ]
    return probe_picture(probes, SHOWN, maps)


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


def _scene_probes(folder: Path, seed: int) -> ProbeSet:
    from ..data.scenes import write_scenes
    from ..probes.probeset import ProbeSet

    # Other scenes than those that the bundled pair was trained on.
    annotations, images = write_scenes(folder / "scenes", count=SCENES, seed=seed + SCENES_SEED, progress=True)
    return ProbeSet.from_coco(annotations, images, count=PROBES, seed=seed)
