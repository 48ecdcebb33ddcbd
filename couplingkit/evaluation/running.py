"""A network, tasks and labelled photos in, evaluations out: one pass over the photos for all tasks and layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from ..data.labelled_data import LabelledData
from ..errors import DataError
from ..features.backbone import DenseBackbone
from ..features.layered import LayeredBackbone
from ..processes import ALONE, Processes
from ..streams import Stream
from .bank import Bank, shuffled
from .chunks import Arrays, Chunks
from .concluding import discovered, discovery_evaluations, joined, object_evaluations, provenance_of, segmentation
from .photo_pass import Heads, read_test, read_train
from .scores import Evaluation
from .task import EvaluateSettings, Task, check_tasks

__all__ = ["CHUNK", "evaluate"]

# Photos of a chunk; whole batches, so that batches are the same wherever a run goes on.
CHUNK = 32


def evaluate(
    backbone: DenseBackbone | LayeredBackbone,
    tasks: str | Sequence[str],
    data: LabelledData,
    settings: EvaluateSettings = EvaluateSettings(),  # noqa: B008 - frozen
    *,
    processes: Processes = ALONE,
    chunks: Chunks | None = None,
    progress: bool = False,
) -> list[Evaluation]:
    """Score frozen features on labelled photos.

    Args:
        backbone: the network, with one layer or several.
        tasks: names of `TASKS`, as a list or with commas.
        data: photos to learn from and photos to be scored on.
        settings: of the tasks.
        processes: those that do it together; they need `chunks` in a folder that all of them see.
        chunks: where what was read is kept; what is there already is not read again.
        progress: whether to show bars.

    Returns:
        One evaluation per layer and score, the layers one after another.

    Raises:
        ArgumentError: a task is unknown.
        DataError: a photo cannot be read, or stands in both halves.
        MeasurementError: features are not finite, or there is nothing to score.
    """
    network = backbone if isinstance(backbone, LayeredBackbone) else LayeredBackbone([backbone])
    names = tasks.split(",") if isinstance(tasks, str) else list(tasks)
    chosen = check_tasks([name.strip() for name in names], data)
    kept = chunks or Chunks()
    heads: list[Heads] = []
    trained: list[Arrays] = []
    if any(task.fitted for task in chosen):

        def learn(places: Sequence[int]) -> Arrays:
            return read_train(network, data, places, settings)

        bar = f"{network.name}, train"
        trained = _in_chunks(kept, "train", len(data.train), learn, processes=processes, bar=bar if progress else None)
        heads = processes.only_first(lambda: _fitted(network, chosen, trained, settings))

    def look(places: Sequence[int]) -> Arrays:
        return read_test(network, data, places, settings, tasks=chosen, heads=heads)

    # What a chunk holds depends on the tasks that it was read for.
    label = "test-" + "-".join(sorted(task.name for task in chosen))
    tested = _in_chunks(
        kept, label, len(data.test), look, processes=processes, bar=f"{network.name}, test" if progress else None
    )
    _check_halves(data, trained, tested)
    arrays = joined(tested)
    return [
        evaluation
        for layer in range(len(network.layers))
        for evaluation in _concluded(network.layers[layer], layer, chosen, arrays, data, settings, processes=processes)
    ]


def _in_chunks(
    chunks: Chunks,
    label: str,
    count: int,
    read: Callable[[Sequence[int]], Arrays],
    *,
    processes: Processes,
    bar: str | None,
) -> list[Arrays]:
    """Return all chunks of some photos, each read by one process unless it is there already."""
    starts = range(0, count, CHUNK)
    names = {start: f"{label}-{start // CHUNK:06d}" for start in starts}

    def work() -> None:
        with tqdm(total=count, desc=bar, unit="photo", disable=bar is None) as shown:
            for start in starts:
                places = range(start, min(start + CHUNK, count))
                if (start // CHUNK) % processes.count == processes.index and not chunks.has(names[start]):
                    chunks.write(names[start], read(places))
                shown.update(len(places))

    processes.each(work)
    found = [chunks.read(names[start]) for start in starts]
    return [one for one in found if one is not None]


def _fitted(
    network: LayeredBackbone, tasks: Sequence[Task], trained: Sequence[Arrays], settings: EvaluateSettings
) -> list[Heads]:
    """Return what each layer's tasks learn from the training cells."""
    heads = []
    for layer in range(len(network.layers)):
        parts = [Bank(*(part[f"{layer}/{name}"] for name in ("vectors", "shares", "photos"))) for part in trained]
        bank = shuffled(parts, Stream(settings.seed).child("bank", "order"))
        segmenters = {task.name: task.fitted(bank, settings, network.device) for task in tasks if task.fitted}
        heads.append(Heads(segmenters, bank.commonest))
    return heads


def _check_halves(data: LabelledData, trained: Sequence[Arrays], tested: Sequence[Arrays]) -> None:
    """Raise `DataError` if a photo that was learned from is one that is scored."""
    if not trained:
        return
    ours, theirs = (np.concatenate([part["hashes"] for part in parts]) for parts in (trained, tested))
    twice = np.flatnonzero(np.isin(theirs, ours))
    if len(twice):
        raise DataError(
            f"{len(twice)} photos of {data.name} stand in both halves (test photo {data.test.ids[twice[0]]}, for one); "
            "scores on photos that were learned from say nothing."
        )


def _concluded(
    layer: DenseBackbone,
    number: int,
    tasks: Sequence[Task],
    arrays: Arrays,
    data: LabelledData,
    settings: EvaluateSettings,
    *,
    processes: Processes,
) -> list[Evaluation]:
    """Return the evaluations of one layer."""
    provenance = provenance_of(layer.provenance(), data, settings)
    found: list[Evaluation] = []
    for task in tasks:
        if task.fitted:
            found.append(segmentation(layer.name, task.name, number, arrays, data, provenance=provenance))
        elif task.name == "objects":
            found += object_evaluations(layer.name, number, arrays, data, settings, provenance)
        else:
            own = processes.share(range(len(data.test)))
            parts = processes.gather(discovered(number, arrays, own))
            every = [one for part in parts for one in part]
            found += discovery_evaluations(layer.name, every, data, provenance)
    return found
