"""A recipe, a pretrained network and photos in, what the trainer's loop makes of them out."""

from __future__ import annotations

import ast
import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..data.detection import DetectionPhotos
from ..data.semantic import LabelledPhotos
from ..errors import ArgumentError
from ..features.names import RGB
from ..features.own_format import BackboneHeader, save_backbone
from ..training.checkpoint import read_run_record
from ..training.job import Job, Place
from ..training.objective import Objective
from ..training.sampling import GroupedSampler
from .photo_views import ShownPhotos, collated, groups_of, learnable
from .rcnn import DetectorObjective, build_detector
from .recipe import FineTuneRecipe
from .segment_views import LabelledCrops
from .upernet import SegmenterObjective, build_segmenter

__all__ = ["DetectJob", "FineTuneJob", "Pretrained", "SegmentJob"]


@dataclass(frozen=True)
class Pretrained:
    """A network that fine-tuning begins with; it stays as it is.

    Attributes:
        network: of timm's.
        mean, std: of its images.
        facts: of its provenance.
    """

    network: nn.Module
    mean: RGB
    std: RGB
    facts: Mapping[str, Any]

    def copied(self) -> nn.Module:
        """Return a copy on the CPU that can learn."""
        found = copy.deepcopy(self.network).cpu().float()
        # What was read in inference mode cannot be saved for a gradient.
        for parameter in found.parameters():
            parameter.data = parameter.data.clone()
        return found.requires_grad_(True)


class FineTuneJob(Job):
    """What both tasks share.

    Args:
        recipe: all settings.
        model: what it begins with.
        corpus: what tells the photos from others, as JSON values.
        groups: of each photo; a batch is of one.
    """

    def __init__(self, recipe: FineTuneRecipe, model: Pretrained, corpus: dict[str, Any], groups: NDArray[np.int64]):
        self.recipe, self.model, self.corpus, self._groups = recipe, model, corpus, groups
        self.name, self.run, self.optimizer = recipe.task, recipe.run, recipe.optimizer

    @property
    def evaluated(self) -> str:
        """The one network that is written."""
        return "backbone"

    def toml(self) -> str:
        """Return the whole recipe."""
        return self.recipe.toml()

    def record(self) -> dict[str, Any]:
        """Return what run.json is to say."""
        return {"method": self.name, "corpus": self.corpus}

    def check(self, out: Path) -> None:
        """Raise `ArgumentError` if the run in a folder was begun on other photos."""
        said = read_run_record(out)
        if said.corpus != self.corpus:
            raise ArgumentError(f"run {out} was begun on {said.corpus}, and cannot go on with {self.corpus}.")

    @abstractmethod
    def dataset(self) -> Dataset[dict[str, Any]]:
        """Return the photos by (epoch, number, step)."""

    def sampler(self, place: Place) -> GroupedSampler:
        """Return which photos a process shows in each step."""
        return GroupedSampler(self._groups, **self.sampling(place))

    def loader(self, objective: Objective, place: Place) -> DataLoader[Any]:
        """Return the batches of a process from a step on."""
        return DataLoader(
            self.dataset(),
            batch_sampler=self.sampler(place),
            collate_fn=collated,
            **self.loading(place),
        )

    def write_networks(self, folder: Path, objective: Objective) -> None:
        """Write the backbone as it has become, which `load_backbone` reads, and all weights, for `torch.load`."""
        facts = self.model.facts
        header = BackboneHeader(
            architecture=str(facts["architecture"]),
            settings={name: _plain(value) for name, value in facts.get("options", {}).items()},
            mean=self.model.mean,
            std=self.model.std,
            norm_trained=facts.get("norm") != "raw",
            branch="backbone",
            method=self.name,
        )
        save_backbone(folder / "backbone.safetensors", objective.branches()["backbone"].state_dict(), header)
        torch.save(objective.state_dict(), folder / "trained.pt")


def _plain(value: str) -> Any:
    """Return a setting of an architecture as the value that it was written from."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


class DetectJob(FineTuneJob):
    """Trains a detector on photos with objects.

    Args:
        recipe: of the task `detect`.
        model: what it begins with.
        photos: to learn from.

    Raises:
        DataError: no photo has an object.
        ArgumentError: there are fewer photos than a batch has.
    """

    def __init__(self, recipe: FineTuneRecipe, model: Pretrained, photos: DetectionPhotos):
        if recipe.head.masks and not photos.has_masks:
            raise ArgumentError(f"{photos.name} has boxes alone; set head.masks to false, or take a recipe without.")
        ids = learnable(photos)
        said = {"data": photos.name, "photos": len(ids), "fingerprint": photos.fingerprint()}
        groups = groups_of(photos, ids, batch=recipe.run.batch_size, grouped=recipe.photos.grouped)
        super().__init__(recipe, model, said, groups)
        self.photos, self.ids = photos, tuple(ids)

    def build(self) -> DetectorObjective:
        """Return the detector, with the pretrained network's weights and new ones from the recipe's seed."""
        detector = build_detector(
            self.model.copied(),
            normalisation=(self.model.mean, self.model.std),
            classes=len(self.photos.classes),
            use=self.recipe.backbone,
            head=self.recipe.head,
            photos=self.recipe.photos,
            seed=self.run.seed,
            precision=self.run.precision,
        )
        return DetectorObjective(detector, synchronised=self.recipe.backbone.synchronised)

    def dataset(self) -> ShownPhotos:
        """Return the photos as they are shown."""
        return ShownPhotos(self.photos, self.ids, self.recipe.photos, self.recipe.head.masks, self.run.seed)

    def parts(self, sample: dict[str, Any], place: Place, step: int) -> Sequence[Any]:
        """Return the photos of this process, as so many parts as gradients are accumulated over."""
        images = [image.to(torch.float32) / 255 for image in sample["images"]]
        size = len(images) // self.run.accumulate
        begins = range(0, size * self.run.accumulate, size)
        columns = (images, sample["targets"], sample["sides"])
        return [tuple(column[begin : begin + size] for column in columns) for begin in begins]


class SegmentJob(FineTuneJob):
    """Trains a segmenter on photos with a class for each pixel.

    Args:
        recipe: of the task `segment`.
        model: what it begins with.
        photos: to learn from.

    Raises:
        ArgumentError: there are fewer photos than a batch has.
    """

    def __init__(self, recipe: FineTuneRecipe, model: Pretrained, photos: LabelledPhotos):
        said = {"data": photos.name, "photos": len(photos), "fingerprint": photos.fingerprint()}
        super().__init__(recipe, model, said, np.zeros(len(photos), dtype=np.int64))
        self.photos = photos

    def share(self, index: int, count: int) -> tuple[int, int]:
        """Return the photos of a process; batch normalisation of a map of one cell needs two of them at once."""
        first, own = super().share(index, count)
        if own // self.run.accumulate < 2:
            raise ArgumentError(
                f"run.batch_size must be two photos or more for each process and each part of a step, but is "
                f"{self.run.batch_size} for {count} x {self.run.accumulate}."
            )
        return first, own

    def build(self) -> SegmenterObjective:
        """Return the segmenter, with the pretrained network's weights and new ones from the recipe's seed."""
        head = self.recipe.head
        segmenter = build_segmenter(
            self.model.copied(),
            normalisation=(self.model.mean, self.model.std),
            classes=len(self.photos.classes),
            use=self.recipe.backbone,
            head=head,
            seed=self.run.seed,
        )
        return SegmenterObjective(segmenter, auxiliary=head.auxiliary, synchronised=self.recipe.backbone.synchronised)

    def dataset(self) -> LabelledCrops:
        """Return the photos as they are shown."""
        return LabelledCrops(self.photos, self.recipe.photos, self.run.seed)

    def parts(self, sample: dict[str, Any], place: Place, step: int) -> Sequence[Any]:
        """Return the crops of this process, as so many parts as gradients are accumulated over."""
        images = torch.stack(sample["images"]).to(torch.float32) / 255
        labels = torch.stack(sample["targets"])
        size = len(images) // self.run.accumulate
        begins = range(0, size * self.run.accumulate, size)
        return [(images[begin : begin + size], labels[begin : begin + size]) for begin in begins]
