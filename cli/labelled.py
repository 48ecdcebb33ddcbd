"""The options of `evaluate` in, the labelled photos and the probes that they stand for out."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from .asked import probes_choice

if TYPE_CHECKING:
    from ..data.labelled_data import LabelledData


def labelled_data(options: dict[str, Any]) -> LabelledData:
    """Return the photos that a command asks for."""
    from ..data.labelled_data import halves_of, open_labelled_data
    from ..errors import ArgumentError

    pair = (options["annotations"], options["images"])
    if options["data"] is not None:
        if any(pair):
            raise ArgumentError("give either --data, or --annotations and --images.")
        return open_labelled_data(options["data"], classes=options["classes"])
    if not all(pair):
        raise ArgumentError("there are no photos: give --data (like scenes:300+300), or --annotations and --images.")
    return halves_of(*pair, classes=options["classes"], seed=options["seed"])


def coupling_probes(options: dict[str, Any]) -> Any:
    """Return what gives the probes of --coupling, or nothing."""
    from ..errors import ArgumentError
    from ..probes.spec import ProbeSpec
    from ..runs.probe_sets import open_probes

    if options["coupling"] is None:
        return nullcontext()
    if options["coupling"].isdecimal():
        raise ArgumentError("--coupling must be a probe set, like scenes_500, not a number.")
    asked = {"probes": options["coupling"], "annotations": None, "images": None, "seed": 0}
    return open_probes(probes_choice({**asked, "min_area": 4096, "allow_border": False}, ProbeSpec(), free=("seed",)))
