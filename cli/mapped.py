"""The options of `affinity` in, its maps and how they are drawn out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .asked import check_sources, eligibility, probe_spec

if TYPE_CHECKING:
    from ..figures.affinity_plots import MapLook
    from ..figures.style import FigureStyle
    from ..runs.affinity import AffinityRun
    from ..runs.models import ModelChoice


def check_words(options: dict[str, Any]) -> None:
    """Refuse options that contradict each other."""
    from ..errors import ArgumentError

    if options["rows"]:
        if any(options[name] for name in ("pictures", "points", "annotations")) or options["probe"] is not None:
            raise ArgumentError("--rows name photos and points themselves: leave --image, --point, --annotations away.")
        return
    check_sources(options)
    if options["pictures"] and options["annotations"] is not None:
        raise ArgumentError("--image and --annotations are two ways to choose queries; give one of them.")
    if options["probe"] is not None and options["annotations"] is None:
        raise ArgumentError("--probe needs --annotations and --images, from which probes are made.")
    if options["points"] and not options["pictures"]:
        raise ArgumentError("--point belongs to --image; with --annotations the points are chosen from the masks.")


def map_look(options: dict[str, Any]) -> tuple[MapLook, FigureStyle]:
    """Return how maps are drawn, and in which style."""
    from ..figures.affinity_plots import MapLook
    from ..figures.style import chosen_style

    style = chosen_style(options["style"])
    width = style.page_in if options["width"] == "page" else style.column_in
    shared = {"none": "panel"}.get(options["share_range"], options["share_range"])
    return MapLook(width, options["how"], options["limits"] or shared, options["cmap"], options["overlay"]), style


def mapped(choices: list[ModelChoice], options: dict[str, Any], *, scored: bool) -> AffinityRun:
    """Map points of pictures, rows of a figure, examples from annotations, or a probe."""
    from ..evaluation.localization import LocalizeSettings
    from ..probes.probeset import ProbeSet
    from ..runs.affinity import map_examples, map_points, map_probe, map_rows
    from ..runs.figure_rows import read_rows
    from ..runs.pictures import open_pictures, read_index

    settings = LocalizeSettings(options["fit"], options["how"], options["batch_size"], options["seed"])
    if options["rows"]:
        return map_rows(choices, read_rows(options["rows"]), settings)
    if options["pictures"]:
        return map_points(choices, open_pictures(options["pictures"]), options["points"], settings)
    rules, files = eligibility(options), (options["annotations"], options["images"])
    if options["probe"] is None:
        counts = {"examples": options["examples"], "objects": options["objects"] if scored else 0}
        return map_examples(choices, read_index(files[0], rules), files[1], settings, **counts, progress=True)
    look, number = probe_spec(options), options["probe"]
    probes = ProbeSet.from_coco(*files, count=number + 1, seed=options["seed"], spec=look, eligibility=rules)
    return map_probe(choices, probes, number, settings)
