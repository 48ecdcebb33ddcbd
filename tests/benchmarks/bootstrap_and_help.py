"""Seconds of the summary of 5,000 probes with 2,000 resamples, and of `couplingkit --help`, each against its target.

python tests/benchmarks/bootstrap_and_help.py
"""

import statistics
import subprocess
import sys
import time

import numpy as np

from couplingkit.metrics.coupling import CouplingRates
from couplingkit.metrics.summary import summarize
from couplingkit.streams import Stream


def timed(call, rounds=5):
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def summary(photos, probes=5000):
    generator = np.random.default_rng(0)
    a = generator.integers(photos, size=probes)
    images = np.column_stack([a, (a + 1 + generator.integers(photos - 2, size=probes)) % photos, a + photos])
    apart, together, third = (generator.uniform(0.5, 0.9, probes) for _ in range(3))
    moved, toward_b, toward_c = generator.uniform(0, 0.5, (3, probes))
    angles = [np.pi / 2 - similarity for similarity in (apart, together, third)]
    rates = CouplingRates(*angles, moved, toward_b, toward_c)
    return lambda: summarize(rates, images, Stream(0))


def main():
    for photos in (100, 4000):
        print(f"summary, 5,000 probes of {photos} photos: {timed(summary(photos)):.2f} s (target 2)")
    words = [sys.executable, "-m", "couplingkit", "--help"]
    help_seconds = timed(lambda: subprocess.run(words, capture_output=True, check=True))
    print(f"couplingkit --help: {help_seconds:.2f} s (target 0.5)")


if __name__ == "__main__":
    main()
