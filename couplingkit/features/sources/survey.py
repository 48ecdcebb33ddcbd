"""The name of an architecture in, what it gives out: measured on shapes alone where that can be done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...errors import BackboneError, first_line
from ..backbone import RUN_ERRORS, tiles
from ..catalogue import CatalogueEntry
from ..names import BackboneOptions, ModelName
from ..sources import timm_shapes, torchvision_networks

__all__ = ["survey"]

EVEN_SIDE = 256
Size = tuple[int, int]


def survey(source: str, name: str) -> CatalogueEntry:
    """Build an architecture without memory for its weights, run it once, and say what comes out.

    Args:
        source: timm or torchvision.
        name: of the architecture.
    """
    return _survey_timm(name) if source == "timm" else _survey_torchvision(name)


def _survey_timm(name: str) -> CatalogueEntry:
    model = ModelName(name, "timm", name, random=True)
    network = timm_shapes.blank_network(model, {})
    size = timm_shapes.native_size(network)
    entry: dict[str, Any] = {
        "source": "timm",
        "name": name,
        "family": timm_shapes.family(name),
        "parameters": _thousands(network),
        "input": f"{size[0]}x{size[1]}",
    }
    try:
        maps, own = _all_maps(network, size)
    except RUN_ERRORS:
        # Some ask a tensor for its values on the way; those are built for real.
        network = timm_shapes.build_at_random(model)
    try:
        maps, own = _all_maps(network, size)
    except RUN_ERRORS as error:
        return CatalogueEntry(**entry, stride=0, channels=0, layers=0, other_sizes="no", problem=first_line(error))
    strides = [
        _stride(network, timm_shapes.OWN if own and index == len(maps) - 1 else index, (shape[-2], shape[-1]), size)
        for index, shape in enumerate(maps)
    ]
    odd = [str(index) for index, stride in enumerate(strides) if not stride]
    problem = "" if strides[-1] else f"{maps[-1][-2]} x {maps[-1][-1]} cells are no whole px per cell"
    if odd and not problem:
        problem = f"layer {' '.join(odd)}: no whole px per cell"
    return CatalogueEntry(
        **entry,
        stride=strides[-1],
        channels=maps[-1][1],
        layers=len(maps),
        other_sizes=_other_sizes(model, size, strides[-1]) if strides[-1] else "no",
        problem=problem,
    )


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _thousands(network: nn.Module) -> int:
    return round(sum(parameter.numel() for parameter in network.parameters()) / 1000)


def _all_maps(network: Any, size: Size) -> tuple[list[torch.Size], bool]:
    maps, own = timm_shapes.all_maps(network, torch.zeros(1, 3, *size, device=_device(network)))
    return [features.shape for features in maps], own


def _stride(network: Any, index: int, grid: Size, size: Size) -> int:
    """Return px per cell as a backbone finds it: declared and agreed to, or measured at an even size; 0 if neither."""
    info = getattr(network, "feature_info", None)
    declared = int(info[index]["reduction"]) if info and index < len(info) else 0
    if declared and tiles(grid, size, declared):
        return declared
    try:
        rows = timm_shapes.maps_of(
            network, torch.zeros(1, 3, EVEN_SIDE, EVEN_SIDE, device=_device(network)), [index], False
        )
        side, cells = EVEN_SIDE, rows[0].shape[-2]
    except RUN_ERRORS:
        side, cells = size[0], grid[0]
    measured = side // cells if cells and side % cells == 0 else 0
    return measured if measured and tiles(grid, size, measured) else 0


def _other_sizes(model: ModelName, native: Size, stride: int) -> str:
    step = -(-32 // stride) * stride
    for size, limit in (((native[0] + 2 * step, native[1] + step), ""), ((native[0] + step,) * 2, " (square only)")):
        try:
            for way, extra in timm_shapes.ways_to(model, {}, native=native, size=size):
                if _runs(replace(model, options=extra), size):
                    return f"{way}{limit}"
        except BackboneError:
            continue
    return "no"


def _runs(model: ModelName, size: Size) -> bool:
    """Return whether real numbers go through, too; asked only where relative positions may be looked up in vain."""
    if not any("rel_pos_h" in name for name in timm_shapes.blank_network(model, model.options).state_dict()):
        return True
    try:
        timm_shapes.maps_of(timm_shapes.build_at_random(model), torch.zeros(1, 3, *size), None, False)
    except RUN_ERRORS:
        return False
    return True


def _survey_torchvision(name: str) -> CatalogueEntry:
    model = ModelName(f"random:torchvision:{name}", "torchvision", name, random=True)
    entry: dict[str, Any] = {"source": "torchvision", "name": name, "layers": 0}
    opened = torchvision_networks.open_network(model, BackboneOptions(), None)
    size = opened.size_px
    entry |= {
        "family": type(opened.network).__module__.rpartition(".")[2],
        "parameters": _thousands(opened.network),
        "input": f"{size[0]}x{size[1]}",
    }
    nothing: dict[str, Any] = {"stride": 0, "channels": 0, "other_sizes": "no"}
    network = opened.network.to("meta")
    try:
        with torch.inference_mode():
            found = opened.read(network, torch.zeros(1, 3, *size, device="meta"), [0])[0].shape
    except (BackboneError, *RUN_ERRORS) as error:
        return CatalogueEntry(**entry, **nothing, problem=first_line(error))
    stride = next((step for step in (8, 14, 16, 32) if tiles((found[-2], found[-1]), size, step)), 0)
    if not stride:
        return CatalogueEntry(**entry, **nothing, problem=f"{found[-2]} x {found[-1]} cells are no whole px per cell")
    try:
        with torch.inference_mode():
            opened.read(network, torch.zeros(1, 3, size[0] + 64, size[1] + 32, device="meta"), [0])
        other = "plain call"
    except (BackboneError, *RUN_ERRORS):
        other = "image_size (square only)" if name.startswith("vit_") else "no"
    return CatalogueEntry(**entry, stride=stride, channels=found[1], other_sizes=other, problem="")
