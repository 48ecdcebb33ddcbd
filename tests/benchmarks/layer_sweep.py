"""What a sweep over layers costs: three layers in one pass against the last layer alone, in one run.

    python tests/benchmarks/layer_sweep.py [--probes 100] [--model random:vit_small_patch16_224]

Prints the ratio; at most 1.10 is wanted, three separate measurements would be about 3.
"""

import argparse
import tempfile
import time
from pathlib import Path

import couplingkit as ck

WANTED = 1.10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    parser.add_argument("--layers", default="3,7,11")
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        probes = ck.ProbeSet.from_coco(*ck.write_scenes(Path(scratch) / "scenes", count=60), count=options.probes)
        probes.fingerprint()
        one = ck.load_layers(options.model)
        several = ck.load_layers(options.model, layer=options.layers)
        ck.measure_layers(one, probes, ck.MeasureSettings(resamples=100))
        times = {"one": [], "several": []}
        for _ in range(options.rounds):
            for name, backbone in (("one", one), ("several", several)):
                begin = time.perf_counter()
                ck.measure_layers(backbone, probes, ck.MeasureSettings(resamples=100))
                times[name].append(time.perf_counter() - begin)
    best = {name: min(values) for name, values in times.items()}
    count = len(options.layers.split(","))
    print(
        f"{options.model}, {options.probes} probes: 1 layer {best['one']:.1f} s, {count} layers {best['several']:.1f} s"
    )
    print(f"ratio {best['several'] / best['one']:.3f} (wanted: at most {WANTED:.2f})")


if __name__ == "__main__":
    main()
