"""How much faster two processes of one thread each measure than one, and where the time of one goes.

    python tests/benchmarks/processes.py [--probes 400] [--model random:vit_small_patch16_224]

Prints the ratio (at least 1.7 is wanted, on two free cores) and the share of one process's time that is spent outside
the network (below 10 % on a CPU). Start-up (imports, loading) is timed on its own and left out of both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WORKER = """
import json, sys, time
import torch
import couplingkit as ck
from couplingkit.runs.session import join_processes
from couplingkit.study.measuring import measure_variants
torch.set_num_threads(1)
model, annotations, images, count = sys.argv[1:5]
processes = join_processes()
backbone = ck.load_layers(model, device="cpu", precision="float32")
probes = ck.ProbeSet.from_coco(annotations, images, count=int(count))
inside = 0.0
layer = backbone.layers[0]
call = layer.run if hasattr(layer, "run") else None

def timed(read, pixels, **how):
    global inside
    begin = time.perf_counter()
    found = call(read, pixels, **how)
    inside += time.perf_counter() - begin
    return found

layer.run = timed
warm = torch.rand(32, 3, *backbone.size_px)
backbone(warm)
inside = 0.0
processes.gather(None)
begin = time.perf_counter()
measure_variants(backbone, [probes], ck.MeasureSettings(resamples=200), processes=processes)
if processes.first:
    print(json.dumps({"seconds": time.perf_counter() - begin, "inside": inside}))
"""


def run(processes, words):
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "29561"]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(WORKER)
        script.flush()
        done = subprocess.run(
            [*start, script.name, *map(str, words)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=400)
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    options = parser.parse_args()
    import couplingkit as ck

    with tempfile.TemporaryDirectory() as scratch:
        files = ck.write_scenes(Path(scratch) / "scenes", count=100)
        words = (options.model, *files, options.probes)
        # One, two, one: a machine whose speed drifts.
        first, two, last = run(1, words), run(2, words), run(1, words)
    one = (first["seconds"] + last["seconds"]) / 2
    outside = 1 - (first["inside"] + last["inside"]) / (first["seconds"] + last["seconds"])
    print(f"{options.model}, {options.probes} probes: one process {one:.1f} s, two {two['seconds']:.1f} s")
    print(f"{one / two['seconds']:.2f} times as fast; {outside:.1%} of one process's time outside the network")


if __name__ == "__main__":
    main()
