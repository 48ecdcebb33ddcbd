"""How long a run of one small network takes, cold and warm, and where two processes get: whole commands, in seconds.

    python tests/benchmarks/starting.py [--probes 500] [--annotations instances.json --images images/]

Cold is with an empty cache folder, warm the same command again into another place. `control:cell` costs nothing to run,
so that it is the time of everything else: imports, photos, objects, rows, tables, the figure.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(words, out, cache):
    """Seconds of one command."""
    command = [sys.executable, "-m", "couplingkit", "measure", "control:cell", *words, "--out", str(out)]
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "COUPLINGKIT_CACHE": str(cache)})
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations")
    parser.add_argument("--images")
    parser.add_argument("--probes", default="500")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    words = ["--probes", "scenes_500"]
    if options.annotations:
        words = ["--annotations", options.annotations, "--images", options.images, "--probes", options.probes]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        cold = seconds(words, place / "cold", place / "cache")
        warm = min(seconds(words, place / f"warm-{number}", place / "cache") for number in range(2))
        same = (place / "cold" / "rows.csv").read_bytes() == (place / "warm-0" / "rows.csv").read_bytes()
    found = {"cold_s": cold, "warm_s": warm, "same_rows": same}
    print(json.dumps(found) if options.json else f"cold {cold:.2f} s, warm {warm:.2f} s, rows the same: {same}")


if __name__ == "__main__":
    main()
