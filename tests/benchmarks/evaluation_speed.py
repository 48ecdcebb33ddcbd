"""What the frozen tasks take beside reading the photos and showing them to the network, and how much memory.

    python tests/benchmarks/evaluation_speed.py [--photos 300] [--model random:vit_small_patch16_224]

Prints, in one run on the same photos: all of `knn-seg,linear-seg,objects` over reading + forward passes (at most 1.5 is
wanted), the peak memory of that (below 2 GB is wanted), and how much faster two processes of one thread each are than
one (at least 1.7 is wanted, on two free cores). Start-up and the drawing of the scenes are timed in none of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

WORKER = """
import json, resource, sys, time
from pathlib import Path
import torch
import couplingkit as ck
from couplingkit.data.labelled_data import open_labelled_data
from couplingkit.evaluation.chunks import Chunks
from couplingkit.evaluation.photo_features import read_photos
from couplingkit.evaluation.running import evaluate
from couplingkit.evaluation.task import EvaluateSettings
from couplingkit.runs.session import join_processes
torch.set_num_threads(1)
model, count, what, kept = sys.argv[1:5]
processes = join_processes()
network = ck.load_layers(model, device="cpu", precision="float32")
data = open_labelled_data(f"scenes:{count}+{count}")
settings = EvaluateSettings(resamples=200)
network(torch.rand(4, 3, *network.size_px))
for half in (data.train, data.test):
    for place in range(2):
        half.read(half.ids[place])  # drawn and cached before the clock runs
processes.gather(None)
begin = time.perf_counter()
if what == "bare":
    for half in (data.train, data.test):
        for start in range(0, len(half), settings.batch_size):
            places = range(start, min(start + settings.batch_size, len(half)))
            rgb = (half.read(half.ids[place])[0] for place in places)
            for _ in read_photos(network, rgb, fit=settings.fit, batch_size=settings.batch_size):
                pass
else:
    tasks, kept = "knn-seg,linear-seg,objects", Chunks(Path(kept))
    evaluate(network, tasks, data, settings, processes=processes, chunks=kept)
if processes.first:
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def run(processes, words):
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "29563"]
    with tempfile.TemporaryDirectory() as scratch, tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(WORKER)
        script.flush()
        done = subprocess.run(
            [*start, script.name, *map(str, words), scratch],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    options = parser.parse_args()
    words = (options.model, options.photos)
    # Bare before and after: a machine whose speed drifts.
    bare, one, two, last = (
        run(processes, (*words, what)) for processes, what in ((1, "bare"), (1, "all"), (2, "all"), (1, "bare"))
    )
    reading = (bare["seconds"] + last["seconds"]) / 2
    print(f"{options.model}, {options.photos} + {options.photos} photos")
    print(f"reading and forward passes: {reading:.1f} s ({bare['seconds']:.1f} and {last['seconds']:.1f})")
    print(f"all frozen tasks: {one['seconds']:.1f} s, {one['seconds'] / reading:.2f} x; {one['mib']:.0f} MiB at most")
    print(f"two processes: {two['seconds']:.1f} s, {one['seconds'] / two['seconds']:.2f} x as fast")


if __name__ == "__main__":
    main()
