"""The three runs of `couplingkit affinity`: points of pictures, examples from annotations, a probe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .affinity_outputs import decimals, document, look, write
from .annotated import photos_of, read_index, spread_out
from .model_options import labels_of
from .pictures import open_pictures, points_on
from .session import each_model

if TYPE_CHECKING:
    from ..probes.probeset import ProbeSet
    from ..study import AffinityMaps, Localization, ProbeMaps

__all__ = ["draw_examples", "draw_points", "draw_probe", "probe_picture"]

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
    labels = labels_of([model.name for model in found], models, options["labels"])
    figure = affinity_figure(pictures.rgb, queries, found, labels=labels, **look(options))
    asked = [{"image": pictures.names[query.photo], "x": query.x, "y": query.y} for query in queries]
    summary = document(found, options, queries=asked)
    write(figure, folder, options, map_arrays(found, queries), summary)
    return pictures.failures + failures


def draw_examples(
    models: tuple[str, ...], backbone_options: dict[str, Any], folder: Path | None, options: dict[str, Any]
) -> list[str]:
    """Draw the maps of some annotated objects and score those of many; return what failed."""
    from ..data.segmentation import rle_mask
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
    outlines = [rle_mask(query.target.rle) for query in examples]
    labels = labels_of([model.name for model in found], models, options["labels"])
    figure = affinity_figure(
        pictures.rgb, queries, found, captions=captions, outlines=outlines, labels=labels, **look(options)
    )
    asked = [
        {"image": query.photo.image.file_name, "x": query.x, "y": query.y, "annotation": query.target.annotation_id}
        for query in examples
    ]
    data = {"annotations": str(index.path), "annotations_sha256": index.sha256, "eligibility": vars(index.eligibility)}
    summary = document(found, options, queries=asked, data=data)
    if scores:
        first, *others = scores
        differences = [
            (other.name, first.name, compare_localization(other, first, seed=options["seed"])) for other in others
        ]
        summary |= score_document(scores, differences=differences)
    write(figure, folder, options, map_arrays(found, queries), summary, scores)
    if scores:
        click.echo(render_scores(scores, options["form"], differences=differences, document=summary))
    return failures


def probe_picture(probes: ProbeSet, chosen: int, maps: list[ProbeMaps], **look: Any) -> Any:
    """Return the figure of a probe: A alone, A beside B, and each model's map of a point of A in both."""
    from ..figures.affinity_plots import probe_figure
    from ..study import probe_query

    a, b, *_ = probes.categories(chosen)
    probe = probes[chosen]
    alone, together = (images.permute(1, 2, 0).numpy() for images in (probe.alone, probe.together))
    captions = (f"A alone: {a}", f"probe {chosen}, beside B: {b}")
    return probe_figure(alone, together, probe_query(probes, chosen), maps, captions=captions, **look)


def draw_probe(
    models: tuple[str, ...], backbone_options: dict[str, Any], folder: Path | None, options: dict[str, Any]
) -> list[str]:
    """Draw the maps of a point of A without and with B; return what failed."""
    from ..data.coco import Eligibility
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
    x, y = probe_query(probes, chosen)
    labels = labels_of([model.name for model in found], models, options["labels"])
    figure = probe_picture(probes, chosen, found, labels=labels, **look(options))
    for model in found:
        on_a, on_b = (" -> ".join(decimals(level) for level in levels) for levels in (model.on_a, model.on_b))
        click.echo(f"{model.name}: affinity on A {on_a}, at B's place {on_b} (without B -> with B)")
    # As two photos: A alone, A beside B.
    maps = [AffinityMaps(model.name, (model.alone, model.together), model.provenance) for model in found]
    levels = [
        {"model": model.name, "on_a": [number(x) for x in model.on_a], "on_b": [number(x) for x in model.on_b]}
        for model in found
    ]
    described = {"number": chosen, "annotation_a": pair.annotation_a, "annotation_b": pair.annotation_b}
    summary = document(maps, options, probe={**described, "x": x, "y": y, "spec": vars(spec)}, levels=levels)
    write(figure, folder, options, map_arrays(maps, [Query(0, x, y), Query(1, x, y)]), summary)
    return failures
