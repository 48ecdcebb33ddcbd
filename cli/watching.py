"""What `couplingkit train` sees of a run while it goes on: coupling as it is learned, TensorBoard, figures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from .options import together

if TYPE_CHECKING:
    from ..probes.probeset import ProbeSet
    from ..training.watch import Watch

__all__ = ["WATCHED", "draw_run", "probe_files", "watch_options", "watching"]

# Options that a run remembers, so that --resume looks at it as before.
WATCHED = ("probe_every", "probes", "probe_annotations", "probe_images", "tensorboard")
SCENES = 120
# Other pictures than those of any run: their seed is the training's, which nobody sets this high.
SCENES_SEED = 20_240_507

watch_options = together(
    click.option("--probe-every", type=click.IntRange(1), help="Steps between looks at the coupling rate. [none]"),
    click.option(
        "--probes", type=click.IntRange(10), default=100, show_default=True, help="How many, with --probe-every."
    ),
    click.option(
        "--probe-annotations",
        type=click.Path(path_type=Path),
        help="Instances JSON that the probes are cut out of. [default: built-in scenes]",
    ),
    click.option("--probe-images", type=click.Path(path_type=Path), help="Folder of its photos."),
    click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard, too (an extra to be installed)."),
)


@contextmanager
def watching(out: Path, done: int, options: dict[str, Any], device: str) -> Iterator[Watch]:
    """Give what looks at the run in `out`, which has made `done` steps.

    Raises:
        ArgumentError: TensorBoard is not installed, or only one of the two paths of the probes is given.
        DataError: the probes cannot be made.
    """
    from ..training.watch import Watch

    if os.environ.get("RANK", "0") != "0":
        yield Watch(every=options["probe_every"] or 0)
        return
    with ExitStack() as held:
        writer = _writer(out, done, held) if options["tensorboard"] else None
        probes = _probes(options, held) if options["probe_every"] else None

        def line(values: dict[str, float]) -> None:
            if writer is not None:
                for name, value in values.items():
                    if name != "step":
                        writer.add_scalar(name, value, int(values["step"]))

        def look(step: int, weights: Path) -> None:
            from ..study.learning import look_at

            if probes is None:
                return
            found = look_at(out, step, weights, probes, device=device)
            _draw_coupling(out)
            if writer is not None:
                writer.add_scalar("coupling/cr_mean", found.summary.cr_mean, step)

        yield Watch(line=line, look=look, every=options["probe_every"] or 0)


def _writer(out: Path, done: int, held: ExitStack) -> Any:
    from ..errors import ArgumentError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ArgumentError("--tensorboard needs a package: pip install 'couplingkit[tensorboard]'.") from error
    # Made at the first line: a run that is refused leaves no folder.
    writer = _Later(lambda: SummaryWriter(str(out / "tensorboard"), purge_step=done or None))
    held.callback(writer.close)
    return writer


class _Later:
    """A writer that is made when it is first needed."""

    def __init__(self, make: Any):
        self.make = make
        self.made: Any = None

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Write a number."""
        self.made = self.made or self.make()
        self.made.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self.made is not None:
            self.made.close()


def _probes(options: dict[str, Any], held: ExitStack) -> ProbeSet:
    from ..probes.probeset import ProbeSet

    folder = Path(held.enter_context(TemporaryDirectory(prefix="couplingkit-scenes-")))
    files = probe_files(options["probe_annotations"], options["probe_images"], folder)
    return ProbeSet.from_coco(*files, count=options["probes"], seed=0)


def probe_files(annotations: Path | None, images: Path | None, scratch: Path) -> tuple[Path, Path]:
    """Return the instances JSON and the photos that were given; without any, built-in scenes, drawn in `scratch`."""
    from ..data.scenes import write_scenes
    from ..errors import ArgumentError

    if (annotations is None) != (images is None):
        raise ArgumentError("--probe-annotations and --probe-images go together; give both, or none.")
    if annotations is not None and images is not None:
        return annotations, images
    return write_scenes(scratch / "scenes", count=SCENES, seed=SCENES_SEED, progress=True)


def draw_run(out: Path) -> None:
    """Draw loss.png of what the log holds, also of a run that was stopped."""
    from ..figures.plots import save_figure
    from ..figures.training_plots import loss_figure
    from ..files import new_file, read_json_lines

    lines = read_json_lines(out / "metrics.jsonl")
    # torchrun starts several of these; the first one draws.
    if lines and os.environ.get("RANK", "0") == "0":
        with new_file(out / "loss.png", overwrite=True) as draft:
            save_figure(loss_figure(lines), draft)


def _draw_coupling(out: Path) -> None:
    from ..figures.plots import save_figure
    from ..figures.training_plots import coupling_curves
    from ..files import new_file
    from ..study.learning import read_curve

    with new_file(out / "coupling.png", overwrite=True) as draft:
        save_figure(coupling_curves({out.name: [read_curve(out)]}), draft)
