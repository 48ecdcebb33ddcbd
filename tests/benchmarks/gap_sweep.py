"""What a sweep over four gaps costs, against one measurement, in one run.

    python tests/benchmarks/gap_sweep.py [--probes 100] [--model random:vit_small_patch16_224]

Prints the ratio; at most 3.4 is wanted: 13 forward passes a probe against 4.
"""

import argparse
import tempfile
import time
from pathlib import Path

import couplingkit as ck
from couplingkit.study.sweeping import drawing_spec, sweep, sweep_variants

GAPS = (0, 16, 32, 64)
WANTED = 3.4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    parser.add_argument("--probes", type=int, default=100)
    options = parser.parse_args()
    base = ck.ProbeSpec()
    with tempfile.TemporaryDirectory() as scratch:
        files = ck.write_scenes(Path(scratch) / "scenes", count=60)
        spec = drawing_spec(base, {"gap": GAPS})
        backbone = ck.load_layers(options.model)
        probes = ck.ProbeSet.from_coco(*files, count=options.probes, spec=spec)
        ck.measure_layers(backbone, probes.vary(gap=16), ck.MeasureSettings(resamples=100))
        times = {"one": [], "sweep": []}
        for _ in range(2):
            begin = time.perf_counter()
            ck.measure_layers(backbone, probes.vary(gap=16), ck.MeasureSettings(resamples=100))
            times["one"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            sweep(backbone, sweep_variants(probes, base, "gap", GAPS), "gap", GAPS, ck.MeasureSettings(resamples=100))
            times["sweep"].append(time.perf_counter() - begin)
    one, along = min(times["one"]), min(times["sweep"])
    print(f"{options.model}, {options.probes} probes: one gap {one:.1f} s, four {along:.1f} s")
    print(f"{along / one:.2f} times one measurement (wanted: at most {WANTED})")


if __name__ == "__main__":
    main()
