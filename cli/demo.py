"""`couplingkit demo`: the whole measurement on built-in data, in half a minute."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .model_options import device_option
from .options import out_options, seed_option

if TYPE_CHECKING:
    from ..metrics.bootstrap import Estimate
    from ..metrics.summary import RateSummary
    from ..probes.probeset import ProbeSet

__all__ = ["demo"]

MODELS = ("random:vit_tiny_patch16_224", "control:leak:0.2", "control:leak:0.4")
SCENES = 60
PROBES = 100


@click.command(short_help="See it work: built-in data, nothing downloaded, half a minute.")
@seed_option
@device_option
@out_options("runs/demo-DATE-TIME")
def demo(seed: int, device: str, out: Path | None, overwrite: bool) -> None:
    """Measure a seeded network and networks of known coupling on procedural scenes, and say what the numbers mean."""
    from ..figures.tables import render
    from ..files import check_free
    from .session import default_out, measure_models, write_run

    folder = out or default_out("demo")
    check_free(folder, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="couplingkit-demo-") as scratch:
        probes = _scene_probes(Path(scratch), seed)
        options = {"device": device, "precision": "auto", "seed": seed}
        measurements, _ = measure_models(MODELS, probes, options, {"batch_size": 32})
        write_run(folder, measurements, probes, [], overwrite=overwrite)
        click.echo(render(measurements, "table"))
        click.echo()
        for sentence in _meaning({measurement.name: measurement.summary for measurement in measurements}):
            click.echo(textwrap.fill(sentence, 100))


def _meaning(found: dict[str, RateSummary]) -> list[str]:
    network, weak, strong = (found[name] for name in MODELS)
    specific = network.estimates["specificity"]
    return [
        f"Each of {network.probes} probes shows one object alone and then beside another; the coupling rate (CR) is "
        "how similar the features of the two are side by side, divided by how similar they are apart, so that "
        f"control:cell, which reads every cell by itself, has {found['control:cell'].cr_mean:.6f}, and planted leaks "
        f"of 0.2 and 0.4 have {weak.cr_mean:.4f} and {strong.cr_mean:.4f}.",
        f"The random ViT-Tiny has {network.cr_mean:.3f}: the neighbour turns the object's feature by "
        f"{network.displacement:.3f} rad, {'away from' if network.cr_mean < 1 else 'towards'} its own, which says that "
        f"the feature is {'disturbed' if network.cr_mean < 1 else 'coupled'}.",
        f"Its specificity, CR minus the CR with a third object in the neighbour's place, is {specific.value:.3f} "
        f"[{specific.low:.3f}, {specific.high:.3f}]: {_of_specificity(specific)}.",
    ]


def _of_specificity(specific: Estimate) -> str:
    if specific.low > 0:
        return "some of what the neighbour looks like does reach the feature, even through random weights"
    return "what reaches the feature does not tell which object stands there"


def _scene_probes(folder: Path, seed: int) -> ProbeSet:
    from ..data.scenes import write_scenes
    from ..probes.probeset import ProbeSet

    annotations, images = write_scenes(folder / "scenes", count=SCENES, seed=seed, progress=True)
    return ProbeSet.from_coco(annotations, images, count=PROBES, seed=seed)
