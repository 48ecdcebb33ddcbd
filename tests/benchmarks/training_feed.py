"""Whether training waits for its images: images/s of the loop with data against those of its step on a held batch.

    python tests/benchmarks/training_feed.py [--method ibot] [--recipe ibot-tiny] [--data scenes:4000] [--device cpu]
        [--batch 64] [--workers 2] [--steps 30] [--set KEY=VALUE ...] [--json]

Wanted: at least .95. Both run in one process, the loop first; its first steps, in which workers start, are left out.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from couplingkit.streams import Stream
from couplingkit.training.corpus import open_corpus
from couplingkit.training.engine import float32_products, open_engine
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.method import Batch, Progress
from couplingkit.training.optimizers import build_optimizer
from couplingkit.training.recipe import build_method, read_recipe
from couplingkit.training.step import clip_gradients

LEFT_OUT = 8


def looped(recipe, corpus, device):
    """Images/s of the loop, and the share of it in which it waited for images."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        train(recipe, corpus, Path(folder) / "run", TrainSettings(device))
        whole = time.perf_counter() - begin
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines[LEFT_OUT:]]
    seconds = sum(line["seconds"] for line in said)
    return {
        "loop": recipe.run.batch_size * len(said) / seconds,
        "waited": sum(line["waited"] for line in said) / seconds,
        "memory_gib": said[-1]["memory_gib"],
        "run_s": whole,
    }


def held(recipe, device, rounds):
    """Images/s of the bare step on a batch that is on the device already."""
    engine = open_engine(recipe.run, device)
    method = build_method(recipe).train()
    built = build_optimizer(method, recipe.optimizer, fused=engine.device.type == "cuda")
    model, optimizer = engine.prepare(method, built)
    place = engine.device
    views = [torch.rand(recipe.run.batch_size, 3, view.size, view.size, device=place) for view in recipe.views]
    local = [torch.rand(recipe.run.batch_size, 3, v.size, v.size, device=place) for v in recipe.augmentation.local]
    shares = torch.tensor([0.25, 0.25, 0.75, 0.75]).expand(recipe.run.batch_size, recipe.augmentation.boxes, 4)
    boxes = tuple((shares * v.size).to(place) for v in recipe.views) if recipe.augmentation.boxes else ()
    spent = []
    for step in range(rounds + 3):
        where = Progress(50 + step, 1000, 25)
        batch = Batch(tuple(views), tuple(views), Stream(0).child(step), 0, len(views[0]), boxes, tuple(local))
        begin = time.perf_counter()
        method.before_step(where)
        optimizer.zero_grad()
        with engine.autocast():
            total = torch.stack(list(model(method.views(batch)).values())).sum()
        engine.backward(total)
        clip_gradients(model, recipe.optimizer)
        optimizer.step()
        method.after_step(where)
        float(total.detach())
        if place.type != "cpu":
            torch.accelerator.synchronize()
        spent.append(time.perf_counter() - begin)
    return recipe.run.batch_size / statistics.median(spent[3:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ibot")
    parser.add_argument("--recipe", help="[default: METHOD-tiny]")
    parser.add_argument("--data", default="scenes:4000")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    changes = [f"run.batch_size={asked.batch}", f"run.workers={asked.workers}", f"run.steps={asked.steps}"]
    name = asked.recipe or f"{asked.method.removesuffix('-d')}-tiny"
    recipe = read_recipe(asked.method, name, [*changes, "run.checkpoint_every=100000", *asked.set])
    found = looped(recipe, open_corpus(asked.data), asked.device)
    with float32_products(recipe.run.precision):
        found |= {"method": recipe.name, "held": held(recipe, asked.device, max(asked.steps // 2, 5))}
    found["ratio"] = found["loop"] / found["held"]
    if asked.json:
        print(json.dumps(found))
        return
    print(
        f"{recipe.name}: loop {found['loop']:.0f} images/s ({found['waited']:.1%} waiting for images), held batch "
        f"{found['held']:.0f} images/s, ratio {found['ratio']:.3f}; {found['memory_gib']:.2f} GiB"
    )


if __name__ == "__main__":
    main()
