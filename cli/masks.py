"""`couplingkit masks`: how much of real objects survives each way of cutting a view."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import format_option, out_options, seed_option

if TYPE_CHECKING:
    from ..training.survival import Survival

__all__ = ["masks"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def words(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    """Read `blockwise,random,rcc`."""
    return list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def ratios(_context: click.Context, _parameter: click.Parameter, value: str) -> list[float]:
    """Read `.2,.4,.6`."""
    try:
        found = [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers with commas, like .2,.4,.6.") from None
    if not all(0 < ratio < 1 for ratio in found):
        raise click.BadParameter(f"{value!r} must lie between 0 and 1.")
    return list(dict.fromkeys(found))


@click.command(short_help="See how much of real objects survives each cutout strategy.")
@click.option(
    "--annotations", type=click.Path(path_type=Path), required=True, help="Instances JSON with masks, in COCO's format."
)
@click.option("--min-area", type=click.IntRange(1), default=4096, show_default=True, help="Smallest mask used, px.")
@click.option("--allow-border", is_flag=True, help="Use objects that the border of their photo cuts off, too.")
@click.option(
    "--strategy", "strategies", default="blockwise,random,rcc", show_default=True, callback=words, help="With commas."
)
@click.option("--ratio", "shares", default=".2,.4,.6", show_default=True, callback=ratios, help="Cut, with commas.")
@click.option(
    "--grid", type=click.IntRange(2, 256), default=14, show_default=True, help="Cells along each side of the view."
)
@click.option("--draws", type=click.IntRange(1), default=20, show_default=True, help="Masks per photo and setting.")
@seed_option
@format_option
@out_options("runs/masks-DATE-TIME")
def masks(annotations: Path, form: str, out: Path | None, overwrite: bool, **options: Any) -> None:
    """Cut every annotated photo by each strategy and ratio, and say what is left of its objects.

    rcc is Region Collaborative Cutout, blockwise is BEiT's, random cuts single cells. An object with more than 95 % cut
    counts as erased: a loss that asks for its features then asks for what only its surroundings can tell.

    \b
    Example:
      couplingkit masks --annotations instances.json --strategy blockwise,random,rcc --ratio .2,.4,.6

    The folder of --out gets rows.csv (one row per object and setting), summary.json and survival.png/.pdf.
    """
    import pandas as pd

    from ..data.coco import Eligibility, read_instances
    from ..errors import DataError
    from ..figures.plots import save_figure
    from ..figures.survival_plots import survival_figure
    from ..figures.tables import as_text
    from ..files import check_free, new_folder
    from ..training.cutout import check_strategy
    from ..training.survival import ERASED, object_survival
    from .session import command_line, default_out

    folder = out or default_out("masks")
    check_free(folder, overwrite=overwrite)
    for strategy in options["strategies"]:
        check_strategy(strategy)
    index = read_instances(annotations, Eligibility(options["min_area"], options["allow_border"]))
    click.echo(f"{len(index.objects)} eligible objects; {index.what_was_dropped()}", err=True)
    if not index.objects:
        raise DataError(f"annotations {index.path} hold no eligible object; {index.what_was_dropped()}.")
    settings = [(strategy, ratio) for ratio in options["shares"] for strategy in options["strategies"]]
    grid = (options["grid"], options["grid"])
    found = object_survival(index, settings, grid=grid, draws=options["draws"], seed=options["seed"], progress=True)
    records = [_statistics(one, options["seed"]) for one in found]
    figure = survival_figure({(one.strategy, one.ratio): one.visible for one in found}, erased_below=1 - ERASED)
    chosen = {key: options[key] for key in ("grid", "draws", "seed", "min_area", "allow_border")}
    data = {"annotations": str(index.path), "annotations_sha256": index.sha256, "dropped": index.dropped}
    document = {"command": command_line(), "settings": chosen, "data": data, "masks": records}
    with new_folder(folder, overwrite=overwrite) as draft:
        pd.concat([_rows(one) for one in found]).to_csv(draft / "rows.csv", index=False)
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        for suffix in ("png", "pdf"):
            save_figure(figure, draft / f"survival.{suffix}")
    click.echo(f"Wrote rows.csv, summary.json and survival.png/.pdf to {folder}", err=True)
    if form == "json":
        click.echo(json.dumps(document, indent=1))
    elif form == "csv":
        click.echo(pd.json_normalize(records).to_csv(index=False).rstrip())
    else:
        click.echo(as_text(_for_reading(records), form))


def _rows(one: Survival) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "strategy": one.strategy,
            "ratio": one.ratio,
            "annotation": one.annotations,
            "image": one.images,
            "category": one.categories,
            "visible_mean": one.visible.mean(axis=1),
            "visible_min": one.visible.min(axis=1),
            "erased": one.erased,
        }
    )


def _statistics(one: Survival, seed: int) -> dict[str, Any]:
    """Return the numbers of a setting; intervals resample photos, whose objects share their masks."""
    import numpy as np

    from ..figures.tables import number
    from ..metrics.localization import summarize_scores
    from ..streams import Stream

    columns = {"visible": one.visible.mean(axis=1), "erased": one.erased}
    estimates = summarize_scores(columns, one.images, Stream(seed).child("bootstrap", "masks"))
    return {
        "strategy": one.strategy,
        "ratio": one.ratio,
        "objects": len(one.annotations),
        "cut": one.cut,
        **{name: {key: number(value) for key, value in vars(part).items()} for name, part in estimates.items()},
        "quantiles": {f"{level:g}": float(np.quantile(one.visible, level)) for level in QUANTILES},
    }


def _for_reading(records: list[dict[str, Any]]) -> Any:
    import pandas as pd

    from ..figures.tables import estimate_text
    from ..metrics.bootstrap import Estimate

    def text(part: dict[str, float | None]) -> str:
        value, low, high = (float("nan") if (bound := part[key]) is None else bound for key in ("value", "low", "high"))
        return estimate_text(Estimate(value, low, high))

    return pd.DataFrame(
        [
            {
                "ratio": f"{record['ratio']:g}",
                "strategy": record["strategy"],
                "grid cut": f"{record['cut']:.3f}",
                "visible [95%]": text(record["visible"]),
                "5 % of objects below": f"{record['quantiles']['0.05']:.3f}",
                "median": f"{record['quantiles']['0.5']:.3f}",
                "erased [95%]": text(record["erased"]),
            }
            for record in records
        ]
    )
