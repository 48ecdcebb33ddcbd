"""What decoupling costs in memory: the peak of iBOT-D at share .25 against iBOT's on the same crops, in one run.

    python tests/benchmarks/training_memory.py [--recipe ibot-tiny] [--batch 64] [--device cpu]

Wanted: at most 1.3 x. Each is a process of its own, and the libraries' share is subtracted; with --device cuda it is
what torch held on the GPU at most. Images per second are printed, too.
"""

import argparse
import multiprocessing
import resource
import time

import torch


def held_gib(device):
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak(name, recipe_name, count, device, steps, answer):
    from couplingkit.streams import Stream
    from couplingkit.training.method import Batch, Progress
    from couplingkit.training.optimizers import build_optimizer
    from couplingkit.training.recipe import build_method, read_recipe

    recipe = read_recipe(name, recipe_name, ["decoupling.share=0.25", f"run.batch_size={count}"])
    method = build_method(recipe).train().to(device)
    optimizer = build_optimizer(method, recipe.optimizer)
    crops = tuple(torch.rand(count, 3, view.size, view.size, device=device) for view in recipe.views)
    before, begin = held_gib(device), 0.0
    for step in range(steps):
        if step == 1:
            begin = time.perf_counter()
        where = Progress(step, 100, 50)
        method.before_step(where)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=recipe.run.precision == "bfloat16"):
            losses = method.losses(method.views(Batch(crops, crops, Stream(0).child(step), 0, count)))
            total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        method.after_step(where)
        float(total.detach())  # waits for the GPU
    rate = count * (steps - 1) / (time.perf_counter() - begin)
    answer.put((held_gib(device) - before, rate))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="ibot-tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    peaks = []
    for name in ("ibot", "ibot-d"):
        answer = context.Queue()
        process = context.Process(
            target=peak, args=(name, asked.recipe, asked.batch, asked.device, asked.steps, answer)
        )
        process.start()
        peaks.append(answer.get())
        process.join()
    (one, rate), (other, other_rate) = peaks
    print(f"iBOT {one:.2f} GiB, iBOT-D {other:.2f} GiB, ratio {other / one:.3f} (wanted: at most 1.3)")
    print(f"iBOT {rate:.0f} images/s, iBOT-D {other_rate:.0f} images/s, a step {rate / other_rate:.3f} x as long")


if __name__ == "__main__":
    main()
