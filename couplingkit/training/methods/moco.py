"""MoCo v2 (Chen et al., 2020): two crops of an image agree, against a queue of other images' keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ArgumentError, check_range
from ...features.names import IMAGENET_MEAN, IMAGENET_STD, RGB
from ...features.sources.timm_convnets import convnet_to_train, last_map, last_stride_px, stages_of
from ...pixels import colour_tensor, normalize
from ..method import (
    Batch,
    Cutout,
    Masking,
    Method,
    Progress,
    Views,
    cells_of_view,
    check_normalisation,
    full_precision,
    pixels_of_cells,
)
from ..teacher import ema_update, gathered, mean_statistics, process_count, process_index

__all__ = ["ConvBranch", "MoCo", "MoCoSettings", "Queue", "info_nce", "without_cells"]

QUERY, KEY = 0, 1
VIEWS = 2


@dataclass(frozen=True)
class MoCoSettings:
    """The settings of MoCo v2; the defaults are the authors'.

    Attributes:
        architecture: of timm's, whose features are a map: `resnet50`.
        options: of the architecture.
        hidden, dimensions: widths of the head.
        queue: keys that are kept.
        temperature: of the softmax.
        momentum: of the key encoder.
        norm_group: images that share the statistics of batch normalisation; 0 for those of a process, or for half of
            them where there is one. Queries and keys are grouped differently, so that a query cannot find its key by
            them.
        masking: of the query's view; its cells are filled with the mean colour.
        mean, std: of the normalisation, sRGB in [0, 1]; written into the weights' file.
    """

    architecture: str = "resnet50"
    options: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = 2048
    dimensions: int = 128
    queue: int = 65536
    temperature: float = 0.2
    momentum: float = 0.999
    norm_group: int = 0
    masking: Masking = field(default_factory=lambda: Masking("rcc", 0.2, 0.6, spared=1.0))
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __post_init__(self) -> None:
        for name in ("hidden", "dimensions", "queue"):
            check_range(name, getattr(self, name), 1)
        check_range("norm_group", self.norm_group, 0)
        if self.norm_group == 1:
            raise ArgumentError("norm_group must be 0 (the images of a process) or at least 2, but is 1.")
        check_range("temperature", self.temperature, 1e-4)
        check_range("momentum", self.momentum, 0, 1)
        check_normalisation(self.mean, self.std)


class Queue(nn.Module):
    """The last `length` keys, unit vectors: first in, first out, whatever the size of a batch."""

    keys: Tensor
    place: Tensor

    def __init__(self, length: int, dimensions: int, *, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("keys", F.normalize(torch.randn(length, dimensions, generator=generator), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Put keys (n, D) in the places of the oldest ones; of more than fit, the last stay."""
        length = len(self.keys)
        where = (self.place + torch.arange(len(keys), device=keys.device)) % length
        self.keys[where[-length:]] = keys[-length:].to(self.keys.dtype)
        self.place.copy_((self.place + len(keys)) % length)


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return -log of the share that a query's own key has among it and a queue's (van den Oord et al., 2018).

    Args:
        query: unit vectors (..., D).
        key: the same shape; no gradient reaches it.
        queue: unit vectors (K, D).
        temperature: of the softmax.

    Returns:
        float32 (...).
    """
    query, key = query.float(), key.detach().float()
    own = (query * key).sum(dim=-1, keepdim=True)
    with full_precision(query):
        others = query @ queue.detach().T
    logits = torch.cat([own, others], dim=-1) / temperature
    return torch.logsumexp(logits, dim=-1) - logits[..., 0]


def without_cells(images: Tensor, keep: Tensor, colour: RGB) -> Tensor:
    """Return images (B, 3, H, W) whose cells outside `keep`, bool (B, h, w), show a colour."""
    pixels = pixels_of_cells(keep, (images.shape[-2], images.shape[-1]))
    return torch.where(pixels, images, colour_tensor(colour, images.device).to(images.dtype)[:, None, None])


class ConvBranch(nn.Module):
    """A convolutional network and the heads on its last map."""

    def __init__(self, settings: MoCoSettings, *, seed: int, dense: bool):
        super().__init__()
        backbone: Any = convnet_to_train(settings.architecture, seed=seed, settings=settings.options)
        self.backbone = backbone
        channels, hidden, width = int(backbone.num_features), settings.hidden, settings.dimensions
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, width))
            # Applied to channels-last cells, a linear layer is a convolution of 1 x 1.
            self.dense_head = (
                nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, width)) if dense else None
            )
        self.norm_group = settings.norm_group
        self.mean, self.std = settings.mean, settings.std

    def cells(self, images: Tensor) -> Tensor:
        """Return the last map of images (B, 3, H, W) in [0, 1] as (B, h, w, C)."""
        shown = normalize(images, self.mean, self.std)
        if not self.norm_group and process_count() > 1:
            return last_map(self.backbone, shown).permute(0, 2, 3, 1)
        parts = [last_map(self.backbone, part) for part in _groups(shown, self.norm_group)]
        return torch.cat(parts).permute(0, 2, 3, 1)

    def image_vector(self, cells: Tensor) -> Tensor:
        """Return the unit vector of each image, (B, D)."""
        return F.normalize(self.head(cells.mean(dim=(1, 2))).float(), dim=-1)

    def cell_vectors(self, cells: Tensor) -> Tensor:
        """Return the projection of each cell, (B, h, w, D); not of unit length."""
        assert self.dense_head is not None
        projected: Tensor = self.dense_head(cells).float()
        return projected


def _groups(images: Tensor, size: int) -> list[Tensor]:
    """Return images in groups of `size`; the last one is larger rather than of a single image."""
    if process_count() == 1:
        # Of one group alone, a shuffle would change nothing: queries and keys would share their statistics.
        half = max(len(images) // 2, 2)
        size = min(size, half) if size else half
    count = max(len(images) // size, 1)
    ends = [*range(size, count * size, size), len(images)]
    return [images[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


class MoCo(Method):
    """L = InfoNCE(query of the first crop, key of the second; queue).

    Args:
        settings: of the method.
        seed: of the weights and of the queue's first vectors.
    """

    # The query encoder, as everywhere.
    evaluated = "student"
    norm_trained = True
    dense = False

    def __init__(self, settings: MoCoSettings, *, seed: int):
        super().__init__()
        self.settings = settings
        self.student = ConvBranch(settings, seed=seed, dense=self.dense)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.queue = Queue(settings.queue, settings.dimensions, seed=seed)
        self._observed: dict[str, Tensor] = {}
        # Keys of this step's parts, which enter the queue behind the step.
        self._fresh: list[Tensor] = []

    def grid(self, crop: Tensor) -> tuple[int, int]:
        """Return the cells (h, w) of a crop."""
        return cells_of_view(crop, last_stride_px(self.student.backbone))

    def views(self, batch: Batch) -> Views:
        """Cut the query's view; the key's is whole, and the one that composites are made of."""
        if len(batch.crops) != VIEWS:
            raise ArgumentError(f"views must be two, a query's and a key's, but are {len(batch.crops)}.")
        query = self.settings.masking.draw(batch, self.grid(batch.crops[QUERY]), "view", QUERY)
        height, width = self.grid(batch.crops[KEY])
        whole = torch.ones(len(batch), height, width, dtype=torch.bool, device=query.device)
        return Views(batch, (query, whole), composed=(KEY,))

    def observed(self) -> dict[str, Tensor]:
        """Return the teacher's cells."""
        return self._observed

    def cutouts(self, crops: Sequence[Tensor]) -> list[Cutout]:
        """Return the query's."""
        if len(crops) != VIEWS:
            return []
        return [Cutout(("view", QUERY), self.settings.masking, QUERY, self.grid(crops[QUERY]))]

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return `image`."""
        return {"image": self.image_loss(views, self.queries(views))}

    def queries(self, views: Views) -> Tensor:
        """Return the student's map of the query's view, (B, h, w, C)."""
        return self.student.cells(without_cells(views.batch.crops[QUERY], views.keep[QUERY], self.settings.mean))

    def image_loss(self, views: Views, cells: Tensor) -> Tensor:
        """Return the loss of whole images; their keys enter the queue behind the step."""
        keys = self.keys(views)[0]
        self._fresh.append(keys)
        return info_nce(self.student.image_vector(cells), keys, self.queue.keys, self.settings.temperature).mean()

    @torch.no_grad()
    def keys(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return the keys of the key's view, computed once: of images (B, D), and the teacher's map (B, h, w, C).

        The images of all processes are shuffled first: a key is normalised with other images than its query.
        """
        if "keys" not in views.memo:
            batch = views.batch
            every = gathered(batch.crops[KEY])
            order = torch.randperm(len(every), generator=batch.generator("shuffle"))
            order = order.to(every.device, non_blocking=True)
            count, first = len(batch), process_index() * len(batch)
            cells = gathered(self.teacher.cells(every[order[first : first + count]]))
            self._observed = {"features": cells.flatten(0, 2)}
            back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
            own = cells[back[first : first + count]]
            views.memo["keys"] = (self.teacher.image_vector(own), own)
        found: tuple[Tensor, Tensor] = views.memo["keys"]
        return found

    def after_step(self, progress: Progress) -> None:
        """Move the key encoder towards the query encoder, and the keys of the step into the queue."""
        mean_statistics(self.student)
        ema_update(self.teacher, self.student, self.settings.momentum)
        for keys in self._fresh:
            self.queue.push(gathered(keys))
        self._fresh = []

    def branches(self) -> dict[str, nn.Module]:
        """Return student and teacher."""
        return {"student": self.student.backbone, "teacher": self.teacher.backbone}

    def blocks(self) -> list[nn.Module]:
        """Return what is worth compiling."""
        return [stage for branch in (self.student, self.teacher) for stage in stages_of(branch.backbone)]
