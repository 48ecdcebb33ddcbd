"""Images in, the crops that a method is shown out: every draw depends on (seed, epoch, image, view) alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from ..errors import ArgumentError, check_range
from ..streams import Stream
from .box_cells import cells_of_boxes
from .colours import ColourDraws, SeparableBlur, draw_colours, stacked
from .corpus import Corpus
from .cutout import grid_boxes
from .method import Cutout, in_place
from .proposals import Proposals
from .sampling import Key, next_whole

__all__ = ["Augmentation", "Collation", "CropDataset", "View", "collate"]

SMALL_KERNEL = 9
# What a sample says of colours that are still to be changed.
DRAWN = ("colours", "colours again", "local colours")
# On which RCC's boxes are drawn when they are proposals.
FINE = (64, 64)


@dataclass(frozen=True)
class View:
    """One crop of an image: its geometry, then its colours; the probabilities are per image.

    Attributes:
        size: side, px.
        scale: range of the crop's share of the image's area; (1, 1) is the whole image, whatever its aspect.
        flip, jitter, gray, blur, solarize: probabilities.
        strength: brightness, contrast, saturation and hue of the jitter.
    """

    size: int = 224
    scale: tuple[float, float] = (0.14, 1.0)
    flip: float = 0.5
    jitter: float = 0.8
    strength: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    gray: float = 0.2
    blur: float = 0.0
    solarize: float = 0.0

    def __post_init__(self) -> None:
        check_range("size", self.size, 8, 2048)
        for name in ("flip", "jitter", "gray", "blur", "solarize"):
            check_range(name, getattr(self, name), 0, 1)
        for part, most in zip(self.strength, (float("inf"), float("inf"), float("inf"), 0.5), strict=True):
            check_range("strength", part, 0, most)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ArgumentError(f"scale must be two shares that go up to at most 1, not {self.scale}.")

    def geometry(self) -> v2.Transform:
        """Return the transform that crops and flips."""
        how: dict[str, Any] = {"interpolation": v2.InterpolationMode.BICUBIC, "antialias": True}
        # A crop of the whole has an aspect of its own, and would lose the sides of a wide photo.
        whole = self.scale[0] == 1
        crop = v2.Resize((self.size, self.size), **how) if whole else v2.RandomResizedCrop(self.size, self.scale, **how)
        return v2.Compose([crop, v2.RandomHorizontalFlip(self.flip)])

    def colours(self) -> v2.Transform:
        """Return the transform of the colours."""
        return v2.Compose(
            [
                v2.RandomApply([v2.ColorJitter(*self.strength)], p=self.jitter),
                v2.RandomGrayscale(self.gray),
                v2.RandomApply([self._blur()], p=self.blur),
                v2.RandomSolarize(128, self.solarize),
            ]
        )

    @property
    def kernel(self) -> int:
        """Side of the blur's kernel, px: the authors' at 224 px, in proportion at other sizes, and odd."""
        return max(3, self.size // 10 // 2 * 2 + 1)

    def _blur(self) -> v2.GaussianBlur:
        # From 11 x 11 on, two passes are quicker than one.
        return (SeparableBlur if self.kernel > SMALL_KERNEL else v2.GaussianBlur)(self.kernel, (0.1, 2.0))

    def draws(self) -> Callable[[], ColourDraws]:
        """Return what draws the colours of an image as `colours` would, to be shown later (see `recolour`)."""
        shares = {name: getattr(self, name) for name in ("jitter", "gray", "blur", "solarize")}
        return partial(draw_colours, v2.ColorJitter(*self.strength), self._blur(), shares)


@dataclass(frozen=True)
class Augmentation:
    """What is made of an image.

    Attributes:
        views: its crops.
        local: further crops, which only a student is shown.
        recolour: whether the colours of the views (not of the local ones) are drawn a second time.
        boxes: how many go with it.
    """

    views: tuple[View, ...]
    local: tuple[View, ...] = ()
    recolour: bool = False
    boxes: int = 0


class CropDataset(Dataset[dict[str, Any]]):
    """The crops of images, addressed by (epoch, number), or (epoch, number, step), which is passed on.

    Args:
        corpus: the images.
        augmentation: what is made of each.
        seed: of the draws.
        proposals: of the corpus, for augmentations with boxes; RCC's boxes over the whole image without any.
        coloured: whether crops come with their colours changed; else with what is to be done to them.
    """

    def __init__(
        self,
        corpus: Corpus,
        augmentation: Augmentation,
        *,
        seed: int,
        proposals: Proposals | None = None,
        coloured: bool = True,
    ):
        self.corpus = corpus
        self.proposals = proposals
        self.augmentation = augmentation
        self.stream = Stream(seed).child("views")
        self.coloured = coloured
        self.transforms = [
            (view.geometry(), view.colours(), view.draws()) for view in (*augmentation.views, *augmentation.local)
        ]

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return what a step needs of an image.

        `crops` and `recoloured`: uint8 (3, H, W) per view; `local`: per local view. `boxes`: float32 (K, 4) per view,
        px left, top, right and bottom, empty where the crop has nothing of them. `broken`: numbers that cannot be read.
        `colours`, `colours again` and `local colours`: of crops, recoloured and local ones, where they are still to be
        changed; then `recoloured` is empty, for these are the same crops.
        """
        epoch, number, step = (*key, 0)[:3]
        pixels, place_read, broken = next_whole(len(self.corpus), number, self.corpus.read)
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        whole = self._boxes(epoch, number, place_read, (pixels.shape[0], pixels.shape[1]))
        crops, changed, again, boxes = [], [], [], []
        wanted = len(self.augmentation.views)
        # torchvision draws from torch's global generator; it is put back when the image is done.
        # `torch.manual_seed` would look for accelerators each time, which takes as long as the crop.
        with torch.random.fork_rng(devices=[]):
            for index, (geometry, colours, draws) in enumerate(self.transforms):
                stream = self.stream.child(epoch, number, index)
                torch.default_generator.manual_seed(stream.child("geometry").torch_seed())
                crop, within = geometry(image), whole
                if whole is not None and index < wanted:
                    # Once more with the boxes, from the same draws: without them the crops are those of every method.
                    torch.default_generator.manual_seed(stream.child("geometry").torch_seed())
                    _, within = geometry(Image(image), whole)
                    boxes.append(within.as_subclass(torch.Tensor))
                crops.append(crop)
                torch.default_generator.manual_seed(stream.child("colours").torch_seed())
                changed.append(colours(crop) if self.coloured else draws())
                if self.augmentation.recolour and index < wanted:
                    torch.default_generator.manual_seed(stream.child("colours again").torch_seed())
                    again.append(colours(crop) if self.coloured else draws())
        sample = {"boxes": boxes, "broken": broken, "step": step}
        if self.coloured:
            own = changed[:wanted]
            return {**sample, "crops": own, "recoloured": again or own, "local": changed[wanted:]}
        drawn = {"colours": changed[:wanted], "colours again": again, "local colours": changed[wanted:]}
        return {**sample, **drawn, "crops": crops[:wanted], "recoloured": [], "local": crops[wanted:]}

    def _boxes(self, epoch: int, number: int, place: int, size: tuple[int, int]) -> BoundingBoxes | None:
        """Return the boxes of an image that are used this time, in its px."""
        count = self.augmentation.boxes
        if not count:
            return None
        stream = self.stream.child(epoch, number, "boxes")
        if self.proposals is None:
            generator = torch.Generator().manual_seed(stream.torch_seed())
            top, left, bottom, right = (grid_boxes(1, FINE, generator)[0].float() / FINE[0]).unbind(dim=1)
            found = torch.stack([left, top, right, bottom], dim=1).numpy()
        else:
            found = self.proposals.of(place)
        order = stream.child("choice").generator().permutation(len(found))
        # Where there are fewer, some come twice.
        chosen = torch.from_numpy(found[np.resize(order, count)])
        scale = torch.tensor([size[1], size[0], size[1], size[0]])
        return BoundingBoxes(chosen * scale, format="XYXY", canvas_size=size)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one batch: a uint8 tensor (B, 3, H, W) per view, and all broken numbers."""
    batch: dict[str, Any] = {
        name: [(stacked if name in DRAWN else torch.stack)(view) for view in zip(*of_all, strict=True)]
        for name in ("crops", "recoloured", "local", "boxes", *DRAWN)
        if (of_all := [sample[name] for sample in samples if name in sample])
    }
    return {**batch, "broken": [number for sample in samples for number in sample["broken"]]}


@dataclass(frozen=True)
class Collation:
    """Makes a batch of samples, and draws its cutouts where the images are read.

    Attributes:
        cutouts: of the method.
        seed: of the run.
        first: place of the first image in the batch of all processes.
        total: images in the batch of all processes.
    """

    cutouts: tuple[Cutout, ...]
    seed: int
    first: int
    total: int

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what `collate` makes of samples of one step, and `cuts`: bool (B, h, w) per cutout, by its names."""
        batch = collate(samples)
        own = slice(self.first, self.first + len(samples))
        return {**batch, "cuts": {cut.names: self._drawn(cut, batch, samples[0]["step"])[own] for cut in self.cutouts}}

    def _drawn(self, cut: Cutout, batch: dict[str, Any], step: int) -> Tensor:
        regions = None
        if cut.regions:
            crop = batch["crops"][cut.view]
            cells = cells_of_boxes(batch["boxes"][cut.view], cut.grid, (crop.shape[-2], crop.shape[-1]))
            regions = in_place(cells, self.first, self.total)
        stream = Stream(self.seed).child("step", step)
        return cut.masking.drawn(stream, cut.grid, cut.names, total=self.total, regions=regions)
