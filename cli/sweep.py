"""`couplingkit sweep`: the coupling rate along gaps, visible shares, canvases, object sizes and layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .data_options import optional_data_options, pair_options
from .model_options import BACKBONE_OPTIONS, model_options
from .options import batch_size_option, format_option, out_options, seed_option

__all__ = ["sweep"]


def _values(read: Callable[[str], Any]) -> Callable[..., tuple[Any, ...]]:
    def parse(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[Any, ...]:
        try:
            found = tuple(read(part.strip()) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not a value, or several with commas between them.") from None
        if len(set(found)) < len(found):
            raise click.BadParameter(f"{text!r} names a value twice.")
        return found

    return parse


@click.command(short_help="Measure along gaps, visible shares, canvases, object sizes, layers.")
@click.argument("models", nargs=-1, metavar="MODEL...")
@click.option("--models", "zoo", type=click.Path(path_type=Path), help="TOML file of models, as of `measure`.")
@optional_data_options
@click.option(
    "--probes", default="500", show_default=True, metavar="NUMBER|SET", help="As of `measure`; a set decides the pairs."
)
@click.option("--gap", callback=_values(int), default="16", show_default=True, help="In units, like 0,16,32,64.")
@click.option("--visible", callback=_values(float), default="1", show_default=True, help="Share of A, like 1,.8,.6,.4.")
@click.option("--canvas", callback=_values(str), default="mean", show_default=True, help="Like mean,noise,image.")
@click.option("--object-size", callback=_values(int), default="80", show_default=True, help="In units, like 48,64,80.")
@pair_options
@model_options
@batch_size_option
@click.option("--eps", default=0.01, show_default=True, help="As of `measure`.")
@click.option("--min-cells", default=1.0, show_default=True, help="As of `measure`.")
@seed_option
@format_option
@out_options("runs/sweep-DATE-TIME")
@click.pass_context
def sweep(
    context: click.Context,
    /,
    models: tuple[str, ...],
    zoo: Path | None,
    form: str,
    out: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Measure each MODEL along every option that has several values, one at a time.

    Where an option is not swept it has the value of `measure` if that is among its values, else its first; a set of
    --probes decides by itself. Images that do not depend on what is swept go through the network once; --layer 3,7,11
    takes one pass. Along --gap, A stands where the widest gap needs it and B moves, so that a gap's row there is not
    that of `measure`, nor of the other axes.

    \b
    Examples:
      couplingkit sweep dino.pth moco.pth --annotations instances.json --images images/ --gap 0,16,32,64 --out sweep
      couplingkit sweep bundled:ibot bundled:ibot-d --probes scenes_500 --visible 1,.8,.6,.4 --layer 0,1,2,3

    The folder of --out gets rows.csv (one row per probe, model and value), sweep.csv (one row per model and value),
    summary.json, probes.json, and sweep-AXIS.png/.pdf. A run that is stopped goes on with the same command and --out.
    """
    from .choices import Choice, check_choices, read_zoo
    from .session import default_out
    from .study_session import join
    from .sweeping import sweep_run

    processes = join()
    layers = tuple(part.strip() for part in options["layer"].split(","))
    axes = {name: options[name] for name in ("gap", "visible", "canvas", "object_size")} | {"layer": layers}
    common = {key: options[key] for key in BACKBONE_OPTIONS} | {"layer": layers[0] if len(layers) == 1 else "last"}
    choices = [Choice(name, common) for name in models] + (read_zoo(zoo, common) if zoo else [])
    if not choices:
        raise click.UsageError("name a MODEL, or a file of them with --models.")
    if all(len(values) == 1 for values in axes.values()):
        raise click.UsageError(
            "give several values with commas to --gap, --visible, --canvas, --object-size or --layer."
        )
    check_choices(choices, lenient=zoo is not None)
    folder = processes.only_first(lambda: out or default_out("sweep"))
    sweep_run(processes, context, folder, choices, axes, options, form=form, overwrite=overwrite)
