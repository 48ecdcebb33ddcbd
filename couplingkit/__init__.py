"""couplingkit measures how much the dense features of one object soak up its neighbours.

Axes of tensors: N probes, B batch, D channels, H W pixels, h w feature cells. Images are float32 (..., 3, H, W), sRGB
in [0, 1]; masks are bool (..., H, W); cells are float32 (..., h, w). Lengths are in px, or in canvas units (1/224 of
the canvas side) where a probe is described; angles are in rad; a stride is px per cell.

The names below are loaded when they are first used, so that `import couplingkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.coco import Eligibility as Eligibility
    from .data.coco import read_instances as read_instances
    from .data.photos import open_photo as open_photo
    from .data.scenes import write_scenes as write_scenes
    from .errors import CouplingKitError as CouplingKitError
    from .evaluation.object_knn import ObjectKnn as ObjectKnn
    from .evaluation.object_knn import object_knn as object_knn
    from .features.backbone import DenseBackbone as DenseBackbone
    from .features.backbone import LayeredBackbone as LayeredBackbone
    from .features.backbone import NetworkBackbone as NetworkBackbone
    from .features.loading import load_backbone as load_backbone
    from .features.loading import load_layers as load_layers
    from .features.own_format import save_backbone as save_backbone
    from .features.regions import masked_mean as masked_mean
    from .features.regions import region_weights as region_weights
    from .figures.affinity_plots import affinity_figure as affinity_figure
    from .figures.explorer import ExplorerPhoto as ExplorerPhoto
    from .figures.explorer import explorer_page as explorer_page
    from .figures.report import report_page as report_page
    from .metrics.affinity import affinity_map as affinity_map
    from .metrics.angles import angle_between as angle_between
    from .metrics.coupling import coupling_rate as coupling_rate
    from .metrics.summary import paired_difference as paired_difference
    from .metrics.summary import summarize as summarize
    from .probes.placement import ProbeSpec as ProbeSpec
    from .probes.probeset import ProbeSet as ProbeSet
    from .probes.triplet import Probe as Probe
    from .streams import Stream as Stream
    from .study import AffinityMaps as AffinityMaps
    from .study import Comparison as Comparison
    from .study import Localization as Localization
    from .study import Measurement as Measurement
    from .study import ProbeMaps as ProbeMaps
    from .study import Query as Query
    from .study import SweepPoint as SweepPoint
    from .study import affinity_maps as affinity_maps
    from .study import compare as compare
    from .study import compare_localization as compare_localization
    from .study import compare_models as compare_models
    from .study import draw_queries as draw_queries
    from .study import drawing_spec as drawing_spec
    from .study import localize as localize
    from .study import measure as measure
    from .study import measure_layers as measure_layers
    from .study import measure_variants as measure_variants
    from .study import probe_maps as probe_maps
    from .study import probe_query as probe_query
    from .study import read_photos as read_photos
    from .study import read_run as read_run
    from .study import sweep as sweep
    from .study import sweep_variants as sweep_variants

__version__ = "0.1.0"

_HOMES = {
    "AffinityMaps": "study",
    "Comparison": "study",
    "CouplingKitError": "errors",
    "DenseBackbone": "features.backbone",
    "Eligibility": "data.coco",
    "ExplorerPhoto": "figures.explorer",
    "LayeredBackbone": "features.backbone",
    "Localization": "study",
    "Measurement": "study",
    "NetworkBackbone": "features.backbone",
    "ObjectKnn": "evaluation.object_knn",
    "Probe": "probes.triplet",
    "ProbeMaps": "study",
    "ProbeSet": "probes.probeset",
    "ProbeSpec": "probes.placement",
    "Query": "study",
    "Stream": "streams",
    "SweepPoint": "study",
    "affinity_figure": "figures.affinity_plots",
    "affinity_map": "metrics.affinity",
    "affinity_maps": "study",
    "angle_between": "metrics.angles",
    "compare": "study",
    "compare_localization": "study",
    "compare_models": "study",
    "coupling_rate": "metrics.coupling",
    "draw_queries": "study",
    "drawing_spec": "study",
    "explorer_page": "figures.explorer",
    "load_backbone": "features.loading",
    "load_layers": "features.loading",
    "localize": "study",
    "masked_mean": "features.regions",
    "measure": "study",
    "measure_layers": "study",
    "measure_variants": "study",
    "object_knn": "evaluation.object_knn",
    "open_photo": "data.photos",
    "paired_difference": "metrics.summary",
    "probe_maps": "study",
    "probe_query": "study",
    "read_instances": "data.coco",
    "read_photos": "study",
    "read_run": "study",
    "region_weights": "features.regions",
    "report_page": "figures.report",
    "save_backbone": "features.own_format",
    "summarize": "metrics.summary",
    "sweep": "study",
    "sweep_variants": "study",
    "write_scenes": "data.scenes",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'couplingkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
