"""What decoupling costs: a step of X-D at share .25 against a step of X on the same crops, in one run.

    python tests/benchmarks/training_step.py [--method ibot] [--recipe ibot-tiny] [--batch 64] [--rounds 5]

Wanted: at most 1.25 (arithmetic: (4 + .75) / 4 = 1.19); cutting the views at most 3 % of a step. Printed, too: a step
of the loop around it against the bare step (wanted: at most 1.05).
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
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.method import Batch, Progress
from couplingkit.training.optimizers import build_optimizer
from couplingkit.training.recipe import build_method, read_recipe


def steps_of(recipe, crops, rounds):
    """Seconds of each bare step, and of making its views."""
    method = build_method(recipe).train()
    optimizer = build_optimizer(method, recipe.optimizer)
    whole, masking = [], []
    for step in range(rounds + 1):
        batch = Batch(crops, crops, Stream(0).child(step), 0, len(crops[0]), boxes_of(recipe, crops))
        where = Progress(step, 100, 50)
        begin = time.perf_counter()
        method.before_step(where)
        views = method.views(batch)
        masking.append(time.perf_counter() - begin)
        optimizer.zero_grad()
        torch.stack(list(method.losses(views).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        method.after_step(where)
        whole.append(time.perf_counter() - begin)
    return statistics.median(whole[1:]), statistics.median(masking[1:])


def boxes_of(recipe, crops):
    """Boxes for a method that wants some: the middle of each view."""
    shares = torch.tensor([0.25, 0.25, 0.75, 0.75]).expand(len(crops[0]), recipe.augmentation.boxes, 4)
    return tuple(shares * crop.shape[-1] for crop in crops) if recipe.augmentation.boxes else ()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ibot")
    parser.add_argument("--recipe", help="[default: METHOD-tiny]")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    changes = ["decoupling.share=0.25", f"run.batch_size={asked.batch}", "run.workers=0"]
    name = asked.recipe or f"{asked.method}-tiny"
    plain, decoupled = (read_recipe(asked.method + ending, name, changes) for ending in ("", "-d"))
    crops = tuple(torch.rand(asked.batch, 3, view.size, view.size) for view in plain.views)
    (one, cut), (other, _) = (steps_of(recipe, crops, asked.rounds) for recipe in (plain, decoupled))
    print(
        f"{plain.name} {one:.3f} s a step, {decoupled.name} {other:.3f} s, ratio {other / one:.3f}; "
        f"cutting {cut / one:.1%} of a step"
    )
    with tempfile.TemporaryDirectory() as folder:
        short = read_recipe(asked.method, name, [*changes, f"run.steps={asked.rounds + 2}", "run.workers=0"])
        train(short, open_corpus("scenes:4000"), Path(folder) / "run", TrainSettings("cpu"))
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines[1:]]
    looped = statistics.median(line["seconds"] - line["waited"] for line in said)
    print(f"a step of the loop, without waiting for data, {looped:.3f} s, ratio {looped / one:.3f}")


if __name__ == "__main__":
    main()
