"""Our step against the same step written plainly, and against lightly's DenseCL where lightly is installed.

    python tests/benchmarks/training_against.py [--method ibot|densecl] [--batch 32] [--rounds 8]

Plainly is as the originals have it: heads and logits of all cells, centres from all logits, clipping by torch's
function, maps channels first, scenes drawn whenever they are asked for. All of it runs in turn, in one process, so that
whatever else the machine does falls on all alike. Wanted on a CPU: at least 1.2 without data, 1.5 with data.
"""

import argparse
import copy
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from couplingkit.data.scenes import draw_scene
from couplingkit.features.sources.timm_convnets import convnet_to_train
from couplingkit.streams import Stream
from couplingkit.training.corpus import SCENE_PX, open_corpus
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.method import Batch, Progress
from couplingkit.training.optimizers import build_optimizer
from couplingkit.training.recipe import build_method, read_recipe
from couplingkit.training.step import clip_gradients
from couplingkit.training.views import CropDataset, collate


def ours(recipe):
    """Return a function that makes one of our steps of crops."""
    method = build_method(recipe).train()
    optimizer = build_optimizer(method, recipe.optimizer)
    where = Progress(50, 100, 25)

    def step(crops):
        batch = Batch(crops, crops, Stream(0).child("step", 0), 0, len(crops[0]))
        method.before_step(where)
        optimizer.zero_grad()
        torch.stack(list(method.losses(method.views(batch)).values())).sum().backward()
        clip_gradients(method, recipe.optimizer)
        optimizer.step()
        method.after_step(where)

    return step


def plain_ibot(recipe):
    """iBOT's step with the logits of every cell, as its authors' loop has them."""
    method = build_method(recipe).train()
    student, teacher, settings = method.student, method.teacher, recipe.method
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.04)
    centre = torch.zeros(2, settings.prototypes)

    def step(crops):
        keep = method.views(Batch(crops, crops, Stream(0).child("step", 0), 0, len(crops[0]))).keep
        optimizer.zero_grad()
        with torch.no_grad():
            told = [[teacher.head(part) for part in teacher(crop)] for crop in crops]
        said = [
            [student.head(part) for part in student(crop, keep=kept)] for crop, kept in zip(crops, keep, strict=True)
        ]
        losses = []
        for q in range(2):
            for v in range(2):
                part = int(v == q)
                target = F.softmax((told[q][part] - centre[part]) / settings.teacher_temperature, dim=-1)
                each = -(target * F.log_softmax(said[v][part] / settings.student_temperature, dim=-1)).sum(dim=-1)
                if part:
                    cut = ~keep[v]
                    each = (each * cut).sum(dim=(1, 2)) / cut.sum(dim=(1, 2)).clamp(min=1)
                losses.append(each.mean())
        torch.stack(losses).sum().backward()
        for parameter in student.parameters():
            if parameter.grad is not None:
                torch.nn.utils.clip_grad_norm_([parameter], 3.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.mul_(0.996).add_(fast, alpha=0.004)
            for part in range(2):
                every = torch.cat([one[part].flatten(0, -2) for one in told]).mean(dim=0)
                centre[part].mul_(0.9).add_(every, alpha=0.1)

    return step


def plain_densecl(recipe):
    """DenseCL's step as MoCo's code has it: two encoders, channels first, two queues, SGD."""
    settings = recipe.method

    def encoder():
        network = convnet_to_train(settings.architecture, seed=0, settings=settings.options)
        network = network.to(memory_format=torch.contiguous_format)
        width, hidden, out = network.num_features, settings.hidden, settings.dimensions
        heads = [nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out)) for _ in range(2)]
        return nn.ModuleList([network, *heads])

    query, queues = encoder(), [F.normalize(torch.randn(settings.queue, settings.dimensions), dim=1) for _ in range(2)]
    key = copy.deepcopy(query).requires_grad_(False)
    optimizer = torch.optim.SGD(query.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def run(encoder, crop):
        maps = encoder[0].forward_features(crop).flatten(2).transpose(1, 2)
        return maps, F.normalize(encoder[1](maps.mean(dim=1)), dim=-1), F.normalize(encoder[2](maps), dim=-1)

    def contrast(one, other, queue):
        logits = torch.cat([(one * other).sum(dim=-1, keepdim=True), one @ queue.T], dim=-1) / settings.temperature
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    def step(crops):
        optimizer.zero_grad()
        maps, image, cells = run(query, crops[0])
        with torch.no_grad():
            key_maps, key_image, key_cells = run(key, crops[1])
            alike = (F.normalize(maps, dim=-1) @ F.normalize(key_maps, dim=-1).transpose(1, 2)).argmax(dim=-1)
            matched = key_cells.gather(1, alike[..., None].expand(-1, -1, key_cells.shape[-1]))
        loss = contrast(image, key_image, queues[0]) + contrast(cells.flatten(0, 1), matched.flatten(0, 1), queues[1])
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
                slow.mul_(0.99).add_(fast, alpha=0.01)
            for queue, keys in zip(queues, (key_image, F.normalize(key_cells.mean(dim=1), dim=-1)), strict=True):
                queue[: len(keys)] = keys

    return step


def lightly_densecl(recipe):
    """The same by lightly's heads, matching and loss, as its documentation puts them together."""
    from lightly.loss import NTXentLoss
    from lightly.models import utils
    from lightly.models.modules import DenseCLProjectionHead

    settings = recipe.method

    def encoder():
        network = convnet_to_train(settings.architecture, seed=0, settings=settings.options)
        network = network.to(memory_format=torch.contiguous_format)
        width = (network.num_features, settings.hidden, settings.dimensions)
        return nn.ModuleList([network, DenseCLProjectionHead(*width), DenseCLProjectionHead(*width)])

    query = encoder()
    key = copy.deepcopy(query)
    utils.deactivate_requires_grad(key)
    bank = {"temperature": settings.temperature, "memory_bank_size": (settings.queue, settings.dimensions)}
    losses = [NTXentLoss(**bank), NTXentLoss(**bank)]
    optimizer = torch.optim.SGD(query.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def run(encoder, crop):
        maps = encoder[0].forward_features(crop)
        return (
            maps.flatten(2).transpose(1, 2),
            encoder[1](maps.mean(dim=(2, 3))),
            encoder[2](maps.flatten(2).transpose(1, 2)),
        )

    def step(crops):
        optimizer.zero_grad()
        utils.update_momentum(query, key, 0.99)
        maps, image, cells = run(query, crops[0])
        with torch.no_grad():
            key_maps, key_image, key_cells = run(key, crops[1])
        matched = utils.select_most_similar(maps, key_maps, key_cells)
        (losses[0](image, key_image) + losses[1](cells.flatten(0, 1), matched.flatten(0, 1))).backward()
        optimizer.step()

    return step


def seconds_of(steps, crops, rounds):
    """Median seconds of each kind of step, made in turn."""
    spent = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            begin = time.perf_counter()
            step(crops)
            if turn:
                spent[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in spent.items()}


class Drawn:
    """Scenes that are drawn whenever they are asked for."""

    def __len__(self):
        return 4000

    def read(self, number):
        return draw_scene(number, seed=0, width=SCENE_PX[0], height=SCENE_PX[1]).rgb


def with_data(recipe, plain, rounds):
    """Images/s of our loop on scenes that are drawn already, and of a plain loop that draws them; one reader each."""
    import json

    with tempfile.TemporaryDirectory() as folder:
        for turn in range(2):  # the first one draws
            short = read_recipe(recipe.name, str(write(folder, recipe)), [f"run.steps={rounds + 4}", "run.workers=1"])
            train(short, open_corpus("scenes:4000"), Path(folder) / str(turn), TrainSettings("cpu"))
        lines = [json.loads(line) for line in (Path(folder) / "1" / "metrics.jsonl").read_text().splitlines()]
    looped = statistics.median(line["seconds"] for line in lines[4:])
    data = CropDataset(Drawn(), recipe.augmentation, seed=0)
    order = [
        [(0, n) for n in range(s * recipe.run.batch_size, (s + 1) * recipe.run.batch_size)] for s in range(rounds + 4)
    ]
    spent, begin = [], time.perf_counter()
    for sample in DataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=1):
        plain([crop.float() / 255 for crop in sample["crops"]])
        spent.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    return looped, statistics.median(spent[4:])


def write(folder, recipe):
    from couplingkit.training.recipe import recipe_toml

    path = Path(folder) / "recipe.toml"
    path.write_text(recipe_toml(recipe))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["ibot", "densecl"], default="ibot")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=8)
    asked = parser.parse_args()
    recipe = read_recipe(asked.method, f"{asked.method}-tiny", [f"run.batch_size={asked.batch}"])
    if recipe.local_views:
        # The plain step has none.
        from dataclasses import replace

        recipe = replace(recipe, local_views=())
    crops = tuple(torch.rand(asked.batch, 3, view.size, view.size) for view in recipe.views)
    plain = plain_ibot(recipe) if asked.method == "ibot" else plain_densecl(recipe)
    steps = {"ours": ours(recipe), "plainly": plain}
    if asked.method == "densecl":
        if find_spec("lightly"):
            steps["lightly"] = lightly_densecl(recipe)
        else:
            print("lightly is not installed; pip install lightly sets its DenseCL beside ours")
    spent = seconds_of(steps, crops, asked.rounds)
    print(", ".join(f"{name} {value:.3f} s a step" for name, value in spent.items()))
    print(", ".join(f"{name} / ours {value / spent['ours']:.2f}" for name, value in spent.items() if name != "ours"))
    looped, drawn = with_data(recipe, plain, asked.rounds)
    print(f"with data: ours {looped:.3f} s a step, plainly {drawn:.3f} s, ratio {drawn / looped:.2f}")


if __name__ == "__main__":
    main()
