"""Index an instances JSON of COCO train2017's size, beside pycocotools in the same run: ratios of time and memory.

    python tests/benchmarks/index_size.py [--photos 118000 --annotations 860000]

Wanted: at most 60 % of the time and 40 % of the memory of `pycocotools.COCO(file)`, and from the second run on less
than 1 s and 300 MB.
"""

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SHAPES = 400
WORK = {
    "pycocotools": "from pycocotools.coco import COCO\nbegin = time.time(); COCO(sys.argv[1])",
    "couplingkit": "from couplingkit.data.coco import read_instances\nbegin = time.time(); read_instances(sys.argv[1])",
}
SCRIPT = """
import sys, time
{work}
seconds = time.time() - begin
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) / 2**10)
"""


def write_annotations(path, *, photos, annotations, seed=0):
    """Write polygons like COCO's: 8 to 55 corners, boxes of 10 to 410 px, areas and boxes as stated there."""
    draw = random.Random(seed)
    shapes = []
    for _ in range(SHAPES):
        corners = draw.randint(8, 55)
        angles = [2 * math.pi * corner / corners for corner in range(corners)]
        radii = [0.35 + 0.15 * draw.random() for _ in angles]
        shapes.append([(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)])
    with path.open("w") as stream:
        stream.write('{"images": [')
        for number in range(1, photos + 1):
            stream.write(
                f'{"," if number > 1 else ""}{{"license": 1, "file_name": "{number:012d}.jpg", "coco_url": '
                f'"http://images.example.org/{number:012d}.jpg", "height": 480, "width": 640, "id": {number}}}'
            )
        stream.write('], "annotations": [')
        for number in range(1, annotations + 1):
            stream.write(("," if number > 1 else "") + _annotation(draw, shapes[number % SHAPES], number, photos))
        kinds = ",".join(f'{{"id": {number}, "name": "kind {number}"}}' for number in range(1, 81))
        stream.write(f'], "categories": [{kinds}]}}')


def _annotation(draw, shape, number, photos):
    width, height = 10 + draw.random() ** 2 * 400, 10 + draw.random() ** 2 * 300
    left, top = draw.random() * (640 - width), draw.random() * (480 - height)
    points = [(left + x * width, top + y * height) for x, y in shape]
    across, down = [x for x, _ in points], [y for _, y in points]
    twice = sum(points[k - 1][0] * points[k][1] - points[k][0] * points[k - 1][1] for k in range(len(points)))
    polygon = ", ".join(f"{x:.2f}, {y:.2f}" for x, y in points)
    box = f"{min(across):.2f}, {min(down):.2f}, {max(across) - min(across):.2f}, {max(down) - min(down):.2f}"
    return (
        f'{{"segmentation": [[{polygon}]], "area": {abs(twice) / 2:.3f}, "iscrowd": 0, "image_id": '
        f'{draw.randint(1, photos)}, "bbox": [{box}], "category_id": {draw.randint(1, 80)}, "id": {number}}}'
    )


def run(work, path, cache):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(work=work), str(path)],
        env={**os.environ, "COUPLINGKIT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, mib = map(float, done.stdout.split()[-2:])
    return seconds, mib


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=118_000)
    parser.add_argument("--annotations", type=int, default=860_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path, cache = Path(scratch) / "instances.json", Path(scratch) / "cache"
        write_annotations(path, photos=asked.photos, annotations=asked.annotations)
        print(f"{path.stat().st_size / 1e6:.0f} MB")
        theirs = run(WORK["pycocotools"], path, cache)
        print(f"pycocotools          {theirs[0]:6.2f} s {theirs[1]:7.0f} MiB")
        for name in ("first", "second"):
            ours = run(WORK["couplingkit"], path, cache)
            ratios = f"{ours[0] / theirs[0]:.1%} of the time, {ours[1] / theirs[1]:.1%} of the memory"
            print(f"couplingkit, {name:7s} {ours[0]:6.2f} s {ours[1]:7.0f} MiB   {ratios}")


if __name__ == "__main__":
    main()
