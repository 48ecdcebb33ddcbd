"""Models and points of pictures, annotated objects or a probe in; maps, scores and what is written of them out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.coco import CocoIndex
from ..data.segmentation import rle_mask
from ..errors import CouplingKitError
from ..evaluation.affinity import AffinityMaps, ProbeMaps, Query, affinity_maps, probe_maps, probe_query
from ..evaluation.localization import Localization, LocalizeSettings, compare_localization, localize
from ..features.layered import LayeredBackbone
from ..metrics.bootstrap import Estimate
from ..probes.probeset import GRAY, ProbeSet
from .figure_rows import FigureRow, open_rows
from .models import ModelChoice, each_model
from .pictures import Pictures, example_queries, photos_of, points_on
from .records import EstimateEntry
from .writing import command_line

__all__ = [
    "AffinityRun",
    "ScoreDifference",
    "map_examples",
    "map_points",
    "map_probe",
    "map_rows",
    "score_document",
]

log = logging.getLogger(__name__)
# (first, second, score -> estimate and objects in common)
ScoreDifference = tuple[str, str, Mapping[str, tuple[Estimate, int]]]


@dataclass(frozen=True)
class AffinityRun:
    """The affinity maps of some models.

    Attributes:
        photos: uint8 or float (H, W, 3) each.
        queries: points of them.
        maps: of each model, one per query.
        document: what summary.json says.
        captions: of the queries; empty where their coordinates do.
        outlines: mask (H, W) of the object of each query; empty where there are none.
        scores: of each model, where objects were scored.
        differences: of the models' scores, to the first.
        probe: of each model, where a probe was mapped: the maps without and with B.
        findings: sentences on what the maps of a probe show.
        failures: what could not be done.
        faults: annotations that cannot be used, and why.
    """

    photos: Sequence[NDArray]
    queries: Sequence[Query]
    maps: Sequence[AffinityMaps]
    document: dict[str, Any]
    captions: Sequence[str] = ()
    outlines: Sequence[NDArray[np.bool_]] = ()
    scores: Sequence[Localization] = ()
    differences: Sequence[ScoreDifference] = ()
    probe: Sequence[ProbeMaps] = field(default_factory=list)
    findings: Sequence[str] = ()
    failures: Sequence[str] = ()
    faults: Mapping[int, str] = field(default_factory=dict)


def map_points(
    models: Sequence[ModelChoice],
    pictures: Pictures,
    points: Sequence[tuple[float, float]],
    settings: LocalizeSettings = LocalizeSettings(),  # noqa: B008 - frozen
) -> AffinityRun:
    """Map points (x, y), px, of pictures, each on each."""
    return _mapped(models, pictures, points_on(pictures, points), settings)


def map_rows(
    models: Sequence[ModelChoice],
    rows: Sequence[FigureRow],
    settings: LocalizeSettings = LocalizeSettings(),  # noqa: B008 - frozen
) -> AffinityRun:
    """Map the point of each row on its photo; errors as in `open_rows`."""
    pictures, queries, captions = open_rows(rows)
    return _mapped(models, pictures, queries, settings, captions)


def _mapped(
    models: Sequence[ModelChoice],
    pictures: Pictures,
    queries: Sequence[Query],
    settings: LocalizeSettings,
    captions: Sequence[str] = (),
) -> AffinityRun:
    def work(backbone: LayeredBackbone) -> list[AffinityMaps]:
        return affinity_maps(backbone, pictures.rgb, queries, fit=settings.fit, batch_size=settings.batch_size)

    maps, failures = _each(models, work)
    asked = [{"image": pictures.names[query.photo], "x": query.x, "y": query.y} for query in queries]
    document = _document(maps, settings, queries=asked)
    return AffinityRun(pictures.rgb, queries, maps, document, captions, failures=[*pictures.failures, *failures])


def map_examples(
    models: Sequence[ModelChoice],
    index: CocoIndex,
    images: Path,
    settings: LocalizeSettings = LocalizeSettings(),  # noqa: B008 - frozen
    *,
    examples: int = 6,
    objects: int = 200,
    progress: bool = False,
) -> AffinityRun:
    """Map points deepest inside some annotated objects, and score the maps of many against their masks.

    Args:
        models: with their options.
        index: the annotations.
        images: folder of their photos.
        settings: how photos are shown and maps are scored.
        examples: objects that are mapped.
        objects: that are scored, at most; 0 scores none.
        progress: whether to show bars.
    """
    chosen, drawn = example_queries(index, examples=examples, scored=objects, seed=settings.seed)
    pictures = photos_of([query.photo for query in chosen], images)
    queries = [Query(number, query.x, query.y) for number, query in enumerate(chosen)]

    def work(backbone: LayeredBackbone) -> list[tuple[AffinityMaps, Localization | None]]:
        maps = affinity_maps(backbone, pictures.rgb, queries, fit=settings.fit, batch_size=settings.batch_size)
        if not objects:
            return [(of_layer, None) for of_layer in maps]
        scores = localize(backbone, drawn[:objects], images, settings, progress=progress)
        return list(zip(maps, scores, strict=True))

    both, failures = _each(models, work)
    maps, scores = [one for one, _ in both], [one for _, one in both if one is not None]
    asked = [
        {"image": query.photo.image.file_name, "x": query.x, "y": query.y, "annotation": query.target.annotation_id}
        for query in chosen
    ]
    data = {
        "annotations": str(index.path),
        "annotations_sha256": index.sha256,
        "eligibility": index.eligibility.stored(),
    }
    document = _document(maps, settings, queries=asked, data=data)
    differences = _to_the_first(scores, settings.seed)
    if scores:
        document |= score_document(scores, differences)
    captions = [query.target.category for query in chosen]
    outlines = [rle_mask(query.target.rle) for query in chosen]
    return AffinityRun(
        pictures.rgb,
        queries,
        maps,
        document,
        captions,
        outlines,
        scores,
        differences,
        failures=failures,
        faults=index.faults,
    )


def _to_the_first(scores: Sequence[Localization], seed: int) -> list[ScoreDifference]:
    return [(other.name, scores[0].name, compare_localization(other, scores[0], seed=seed)) for other in scores[1:]]


def map_probe(
    models: Sequence[ModelChoice],
    probes: ProbeSet,
    number: int,
    settings: LocalizeSettings = LocalizeSettings(),  # noqa: B008 - frozen
) -> AffinityRun:
    """Map a point of A without and with B, in the probe that `measure` calls `number`."""
    found, failures = _each(models, lambda backbone: probe_maps(backbone, probes, number))
    # As the networks saw it, where their mean colours are the same; on gray else.
    colours = {tuple(one.provenance["mean"]) for one in found}
    probe = probes.render([number], mean=colours.pop() if len(colours) == 1 else GRAY)
    pair = probes.pairs[number]
    x, y = probe_query(probes, number)
    a, b, *_ = probes.categories(number)
    # As two photos: A alone, A beside B.
    maps = [AffinityMaps(one.name, (one.alone, one.together), one.provenance) for one in found]
    levels = [{"model": one.name, "on_a": _plain(one.on_a), "on_b": _plain(one.on_b)} for one in found]
    said: dict[str, Any] = {"number": number, "annotation_a": pair.annotation_a, "annotation_b": pair.annotation_b}
    said |= {"x": x, "y": y, "spec": asdict(probes.spec)}
    photos = [images.permute(1, 2, 0).numpy() for images in (probe.alone[0], probe.together[0])]
    return AffinityRun(
        photos,
        [Query(0, x, y), Query(1, x, y)],
        maps,
        _document(maps, settings, probe=said, levels=levels),
        [f"A alone: {a}", f"probe {number}, beside B: {b}"],
        probe=found,
        findings=[_finding(one) for one in found],
        failures=failures,
    )


def _each(models: Sequence[ModelChoice], work: Any) -> tuple[list[Any], list[str]]:
    results, failures = each_model(models, work, alone=len(models) == 1)
    if not results:
        raise CouplingKitError(f"no model could be used: {' '.join(failures)}")
    return results, failures


def _finding(maps: ProbeMaps) -> str:
    on_a, on_b = (" -> ".join(_level_text(level) for level in levels) for levels in (maps.on_a, maps.on_b))
    return f"{maps.name}: affinity on A {on_a}, at B's place {on_b} (without B -> with B)"


def _level_text(level: float) -> str:
    return "undefined" if np.isnan(level) else f"{level:.3f}"


def _plain(levels: tuple[float, float]) -> list[float | None]:
    return [None if np.isnan(level) else level for level in levels]


def _document(maps: Sequence[AffinityMaps], settings: LocalizeSettings, **more: Any) -> dict[str, Any]:
    for model in maps:
        for note in model.provenance.get("notes", ()):
            log.info("Note on %s: %s", model.name, note)
    # A probe is drawn at the model's own size, and nothing is fitted.
    asked = ("how", "seed") if "probe" in more else ("fit", "how", "seed")
    return {
        "command": command_line(),
        "models": [{"name": model.name, "provenance": model.provenance} for model in maps],
        "settings": {key: getattr(settings, key) for key in asked},
        **more,
    }


def score_document(models: Sequence[Localization], differences: Sequence[ScoreDifference] = ()) -> dict[str, Any]:
    """Return the scores, their intervals and where they come from, as JSON values (undefined numbers are null)."""
    return {
        "scores": [
            {
                "model": model.name,
                "statistics": {
                    name: _bounds(estimate) | {"objects": int(model.rows[name].notna().sum())}
                    for name, estimate in model.estimates.items()
                },
                "counts": model.counts,
                "provenance": model.provenance,
            }
            for model in models
        ],
        "differences": [
            {
                "first": first,
                "second": second,
                "statistics": {
                    name: _bounds(estimate) | {"objects": count} for name, (estimate, count) in scores.items()
                },
            }
            for first, second, scores in differences
        ],
    }


def _bounds(estimate: Estimate) -> dict[str, float | None]:
    entry = EstimateEntry.of(estimate)
    return {"value": entry.value, "low": entry.low, "high": entry.high}
