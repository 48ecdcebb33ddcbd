"""A recipe of a self-supervised method and a corpus in, what the loop makes of them out: crops and both networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..streams import Stream
from .batch import Batch
from .checkpoint import check_corpus, write_branches
from .colours import ColourDraws, recolour
from .corpus import Corpus
from .job import Job, Place
from .method import Method
from .objective import Objective
from .proposals import Proposals
from .recipe import Recipe, build_method, recipe_toml
from .sampling import StepSampler
from .starting import check_start, load_start
from .views import Collation, CropDataset, View

__all__ = ["MethodJob"]


class MethodJob(Job):
    """Trains a method on images without labels.

    Args:
        recipe: all its settings.
        corpus: the images.
        proposals: boxes of the images, for a plain method that wants some.
    """

    # An image and its donor.
    pairs = True

    def __init__(self, recipe: Recipe, corpus: Corpus, proposals: Proposals | None = None):
        self.recipe, self.corpus, self.proposals = recipe, corpus, proposals
        self.name, self.run, self.optimizer = recipe.name, recipe.run, recipe.optimizer
        self.head_steps = recipe.start.head_steps
        self._evaluated = ""

    def build(self) -> Method:
        """Return the networks of the method, with random weights from the recipe's seed."""
        method = build_method(self.recipe)
        check_start(self.recipe)
        self._evaluated = method.evaluated
        return method

    def begin(self, objective: Objective) -> None:
        """Load the model that the recipe starts from, if any."""
        assert isinstance(objective, Method)
        if self.recipe.start.model:
            load_start(objective, self.recipe)

    @property
    def evaluated(self) -> str:
        """The branch that is the result."""
        return self._evaluated

    def toml(self) -> str:
        """Return the whole recipe."""
        return recipe_toml(self.recipe)

    def record(self) -> dict[str, Any]:
        """Return what run.json is to say."""
        boxes = self.proposals.digest() if self.proposals is not None else None
        return {"method": self.name, "corpus": self.corpus.describe(), "boxes": boxes}

    def check(self, out: Path) -> None:
        """Raise `ArgumentError` if the run in a folder was begun on other images, or with other boxes."""
        check_corpus(out, self.corpus, self.proposals)

    def sampler(self, place: Place) -> StepSampler:
        """Return which images a process shows in each step."""
        return StepSampler(len(self.corpus), **self.sampling(place))

    def loader(self, objective: Objective, place: Place) -> DataLoader[Any]:
        """Return the batches of a process, cropped, and coloured where that is not left to the device."""
        assert isinstance(objective, Method)
        recipe = self.recipe
        shapes = [torch.empty(0, 3, view.size, view.size) for view in recipe.views]
        cutouts = tuple(objective.cutouts(shapes))
        # The regions of an X-D are RCC's.
        boxes = None if recipe.decoupled else self.proposals
        return DataLoader(
            CropDataset(
                self.corpus,
                recipe.augmentation,
                seed=self.run.seed,
                proposals=boxes,
                # A device changes the colours of a whole batch in less time than all workers together.
                coloured=place.device.type == "cpu",
            ),
            batch_sampler=self.sampler(place),
            collate_fn=Collation(cutouts, self.run.seed, place.first, self.run.batch_size),
            **self.loading(place),
        )

    def parts(self, sample: dict[str, Any], place: Place, step: int) -> list[Batch]:
        """Return the batch of this process, as so many parts as the recipe accumulates gradients over."""
        recipe, boxes, cuts = self.recipe, sample["boxes"], sample["cuts"]
        crops = _shown(sample["crops"], recipe.views, sample.get("colours"))
        recoloured = crops
        if recipe.decoupled:
            again = sample.get("colours again")
            recoloured = _shown(sample["crops" if again else "recoloured"], recipe.views, again)
        local = _shown(sample["local"], recipe.augmentation.local, sample.get("local colours"))
        stream, size = Stream(self.run.seed).child("step", step), len(crops[0]) // self.run.accumulate

        def batch(begin: int) -> Batch:
            own = slice(begin, begin + size)
            views = [tuple(view[own] for view in views) for views in (crops, recoloured, boxes, local)]
            return Batch(
                crops=views[0],
                recoloured=views[1],
                stream=stream,
                first=place.first + begin,
                total=self.run.batch_size,
                boxes=views[2],
                local=views[3],
                cuts={names: keep[own] for names, keep in cuts.items()},
            )

        return [batch(begin) for begin in range(0, size * self.run.accumulate, size)]

    def write_networks(self, folder: Path, objective: Objective) -> None:
        """Write student and teacher, which `load_backbone` reads."""
        assert isinstance(objective, Method)
        write_branches(folder, self.recipe, objective)


def _shown(crops: Sequence[Tensor], views: Sequence[View], colours: Sequence[ColourDraws] | None) -> tuple[Tensor, ...]:
    """Return crops as float32 in [0, 1], with their colours changed where that is still to be done."""
    if colours is None:
        return tuple(crop.to(torch.float32) / 255 for crop in crops)
    of_each = zip(crops, views, colours, strict=True)
    return tuple(recolour(crop, draws, kernel=view.kernel) for crop, view, draws in of_each)
