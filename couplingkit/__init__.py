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
    from .data.scenes import write_scenes as write_scenes
    from .errors import CouplingKitError as CouplingKitError
    from .features.backbone import DenseBackbone as DenseBackbone
    from .features.backbone import LayeredBackbone as LayeredBackbone
    from .features.backbone import NetworkBackbone as NetworkBackbone
    from .features.loading import load_backbone as load_backbone
    from .features.loading import load_layers as load_layers
    from .features.own_format import save_backbone as save_backbone
    from .features.regions import masked_mean as masked_mean
    from .features.regions import region_weights as region_weights
    from .metrics.angles import angle_between as angle_between
    from .metrics.coupling import coupling_rate as coupling_rate
    from .metrics.summary import paired_difference as paired_difference
    from .metrics.summary import summarize as summarize
    from .probes.placement import ProbeSpec as ProbeSpec
    from .probes.probeset import ProbeSet as ProbeSet
    from .probes.triplet import Probe as Probe
    from .streams import Stream as Stream
    from .study import Measurement as Measurement
    from .study import compare as compare
    from .study import measure as measure
    from .study import measure_layers as measure_layers

__version__ = "0.1.0"

_HOMES = {
    "CouplingKitError": "errors",
    "DenseBackbone": "features.backbone",
    "Eligibility": "data.coco",
    "LayeredBackbone": "features.backbone",
    "Measurement": "study",
    "NetworkBackbone": "features.backbone",
    "Probe": "probes.triplet",
    "ProbeSet": "probes.probeset",
    "ProbeSpec": "probes.placement",
    "Stream": "streams",
    "angle_between": "metrics.angles",
    "compare": "study",
    "coupling_rate": "metrics.coupling",
    "load_backbone": "features.loading",
    "load_layers": "features.loading",
    "masked_mean": "features.regions",
    "measure": "study",
    "measure_layers": "study",
    "paired_difference": "metrics.summary",
    "region_weights": "features.regions",
    "save_backbone": "features.own_format",
    "summarize": "metrics.summary",
    "write_scenes": "data.scenes",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'couplingkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
