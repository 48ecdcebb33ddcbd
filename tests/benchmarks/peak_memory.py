"""Whether memory grows with the number of probes: peak of a measurement of N and of 10 N probes, each in its process.

    python tests/benchmarks/peak_memory.py --annotations instances.json --images images/ --probes 100

Prints both peaks and their ratio; the target is 1.2 at most.
"""

import argparse
import resource
import subprocess
import sys

import couplingkit as ck


def measure(options):
    probes = ck.ProbeSet.from_coco(options.annotations, options.images, count=options.probes)
    ck.measure(ck.load_backbone(options.model, device="cpu"), probes)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--model", default="random:vit_tiny_patch16_224")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options)
        return
    peaks = []
    for count in (options.probes, 10 * options.probes):
        words = ["--annotations", options.annotations, "--images", options.images, "--model", options.model]
        command = [sys.executable, __file__, "--only", *words, "--probes", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]))
        print(f"{count:6d} probes: peak {peaks[-1]:.0f} MiB")
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
