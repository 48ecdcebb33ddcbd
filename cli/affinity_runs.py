"""The three runs of `couplingkit affinity`: points of pictures, examples from annotations, a probe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .pictures import open_pictures, photos_of, points_on, read_index, spread_out
from .session import command_line, each_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..study import AffinityMaps, Localization

__all__ = ["draw_examples", "draw_points", "draw_probe"]

# A photo often has several objects, and the examples are to come from different ones.
CANDIDATES_PER_EXAMPLE = 5


def draw_points(
    models: tuple[str, ...], backbone_options: dict[str, Any], folder: Path | None, options: dict[str, Any]
) -> list[str]:
    """Draw the maps of --point on --image; return what failed."""
    from ..figures.affinity_plots import affinity_figure
    from ..study import affinity_maps, map_arrays

    pictures = open_pictures(options["pictures"])
    queries = points_on(pictures, options["points"])
    settings = {"fit": options["fit"], "batch_size": options["batch_size"]}
    found, failures = each_model(
        models, backbone_options, lambda backbone: affinity_maps(backbone, pictures.rgb, queries, **settings)
    )
    figure = affinity_figure(pictures.rgb, queries, found, **_look(options))
    asked = [{"image": pictures.names[query.photo], "x": query.x, "y": query.y} for query in queries]
    document = _document(found, options, queries=asked)
    _write(figure, folder, options, map_arrays(found, queries), document)
    return pictures.failures + failures


def draw_examples(
    models: tuple[str, ...], backbone_options: dict[str, Any], folder: Path | None, options: dict[str, Any]
) -> list[str]:
    """Draw the maps of some annotated objects and score those of many; return what failed."""
    from ..figures.affinity_plots import affinity_figure
    from ..figures.score_tables import render_scores, score_document
    from ..study import Query, affinity_maps, compare_localization, draw_queries, localize, map_arrays

    index = read_index(options)
    scored = options["objects"] if folder is not None else 0
    count = max(scored, CANDIDATES_PER_EXAMPLE * options["examples"])
    drawn = draw_queries(index, count=count, seed=options["seed"])
    examples = spread_out(drawn, options["examples"])
    pictures = photos_of([query.photo for query in examples], options["images"])
    queries = [Query(number, query.x, query.y) for number, query in enumerate(examples)]
    settings = {"fit": options["fit"], "batch_size": options["batch_size"]}

    def work(backbone: Any) -> list[tuple[AffinityMaps, Localization | None]]:
        maps = affinity_maps(backbone, pictures.rgb, queries, **settings)
        if not scored:
            return [(of_layer, None) for of_layer in maps]
        rest = {"how": options["how"], "seed": options["seed"], "progress": True}
        scores = localize(backbone, drawn[:scored], options["images"], **settings, **rest)
        return list(zip(maps, scores, strict=True))

    both, failures = each_model(models, backbone_options, work)
    found = [maps for maps, _ in both]
    scores = [of_layer for _, of_layer in both if of_layer is not None]
    captions = [query.target.category for query in examples]
    figure = affinity_figure(pictures.rgb, queries, found, captions=captions, **_look(options))
    asked = [
        {"image": query.photo.image.file_name, "x": query.x, "y": query.y, "annotation": query.target.annotation_id}
        for query in examples
    ]
    data = {"annotations": str(index.path), "annotations_sha256": index.sha256, "eligibility": vars(index.eligibility)}
    document = _document(found, options, queries=asked, data=data)
    if scores:
        first, *others = scores
        differences = [
            (other.name, first.name, compare_localization(other, first, seed=options["seed"])) for other in others
        ]
        document |= score_document(scores, differences=differences)
    _write(figure, folder, options, map_arrays(found, queries), document, scores)
    if scores:
        click.echo(render_scores(scores, options["form"], differences=differences, document=document))
    return failures


def draw_probe(
    models: tuple[str, ...], backbone_options: dict[str, Any], folder: Path | None, options: dict[str, Any]
) -> list[str]:
    """Draw the maps of a point of A without and with B; return what failed."""
    from ..data.coco import Eligibility
    from ..figures.affinity_plots import probe_figure
    from ..figures.tables import number
    from ..probes.placement import ProbeSpec
    from ..probes.probeset import ProbeSet
    from ..study import AffinityMaps, Query, map_arrays, probe_maps, probe_query

    chosen = options["probe"]
    spec = ProbeSpec(**{key: options[key] for key in ("object_size", "gap", "canvas", "pairing", "visible", "control")})
    eligibility = Eligibility(options["min_area"], options["allow_border"])
    probes = ProbeSet.from_coco(
        options["annotations"],
        options["images"],
        count=chosen + 1,
        seed=options["seed"],
        spec=spec,
        eligibility=eligibility,
    )
    found, failures = each_model(models, backbone_options, lambda backbone: probe_maps(backbone, probes, chosen))
    pair = probes.pairs[chosen]
    a, b, *_ = probes.categories(chosen)
    probe = probes[chosen]
    pictures = [images.permute(1, 2, 0).numpy() for images in (probe.alone, probe.together)]
    x, y = probe_query(probes, chosen)
    caption = f"beside B: {b}, probe {chosen}"
    figure = probe_figure(*pictures, (x, y), found, captions=(f"A alone: {a}", caption), **_look(options))
    for model in found:
        on_a, on_b = (" -> ".join(_decimals(level) for level in levels) for levels in (model.on_a, model.on_b))
        click.echo(f"{model.name}: affinity on A {on_a}, at B's place {on_b} (without B -> with B)")
    # As two photos: A alone, A beside B.
    maps = [AffinityMaps(model.name, (model.alone, model.together), model.provenance) for model in found]
    levels = [
        {"model": model.name, "on_a": [number(x) for x in model.on_a], "on_b": [number(x) for x in model.on_b]}
        for model in found
    ]
    described = {"number": chosen, "annotation_a": pair.annotation_a, "annotation_b": pair.annotation_b}
    document = _document(maps, options, probe={**described, "x": x, "y": y, "spec": vars(spec)}, levels=levels)
    _write(figure, folder, options, map_arrays(maps, [Query(0, x, y), Query(1, x, y)]), document)
    return failures


def _decimals(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _look(options: dict[str, Any]) -> dict[str, Any]:
    from ..figures.plots import COLUMN_IN, PAGE_IN

    width = PAGE_IN if options["width"] == "page" else COLUMN_IN
    return {"width_in": width, "how": options["how"], "colour_range": options["colours"]}


def _document(models: list[AffinityMaps], options: dict[str, Any], **more: Any) -> dict[str, Any]:
    for model in models:
        for note in model.provenance.get("notes", ()):
            click.echo(f"Note on {model.name}: {note}", err=True)
    settings = {key: options[key] for key in ("fit", "how", "seed")}
    return {
        "command": command_line(),
        "models": [{"name": model.name, "provenance": model.provenance} for model in models],
        "settings": settings,
        **more,
    }


def _write(
    figure: Figure,
    folder: Path | None,
    options: dict[str, Any],
    arrays: dict[str, Any],
    document: dict[str, Any],
    scores: list[Localization] | None = None,
) -> None:
    """Write the figure, or a folder of everything."""
    import numpy as np
    import pandas as pd

    from ..figures.plots import save_figure
    from ..files import new_file, new_folder

    if folder is None:
        with new_file(options["out"], overwrite=options["overwrite"]) as draft:
            save_figure(figure, draft)
        click.echo(f"Wrote {options['out']}", err=True)
        return
    with new_folder(folder, overwrite=options["overwrite"]) as draft:
        for suffix in ("png", "pdf"):
            save_figure(figure, draft / f"affinity.{suffix}")
        np.savez_compressed(draft / "maps.npz", **arrays)
        (draft / "summary.json").write_text(json.dumps(document, indent=1) + "\n")
        if scores:
            pd.concat([model.rows for model in scores]).to_csv(draft / "rows.csv", index=False)
            categories = [model.categories.assign(model=model.name) for model in scores]
            pd.concat(categories).to_csv(draft / "categories.csv", index=False)
    click.echo(f"Wrote affinity.png/.pdf, maps.npz and tables to {folder}", err=True)
