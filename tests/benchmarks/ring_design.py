"""What a standard error costs in forward passes: `pairs` against `ring`, on the tool's own intervals.

    python tests/benchmarks/ring_design.py --annotations instances.json --images images/ MODEL... [--seeds 8]

Each design is drawn from several seeds, in the sizes of --rows; a line has its images, the mean half-width of each
quantity's interval as a standard error, and error^2 x images, which does not depend on the size where photos abound.
The last lines are the ratios of `pairs` over `ring`: how many times fewer passes give the same standard error. The
spread of the estimates over seeds is printed beside it; it knows nothing of the photos that all seeds share.
"""

import argparse

import numpy as np

import couplingkit as ck
from couplingkit.data.coco import Eligibility

NAMES = ("cr", "specificity", "leak", "displacement")


def images_of(probes):
    """How many images are run, each once."""
    if probes.spec.design == "pairs":
        return 4 * len(probes)
    seen = set()
    for pair in probes.pairs:
        scene = probes.spec.scene(pair.number)
        a, b, c = ((scene, key) for key in pair.members())
        seen |= {frozenset([a]), frozenset([b]), frozenset([a, b]), frozenset([a, c])}
    return len(seen)


def measured(backbone, options, design, rows):
    """Of each seed the estimates; images of a set, and photos."""
    found, images, photos = [], 0, 0
    for seed in range(options.seeds):
        probes = ck.ProbeSet.from_coco(
            options.annotations,
            options.images,
            count=rows,
            seed=seed,
            spec=ck.ProbeSpec(design=design),
            eligibility=Eligibility(min_area=options.min_area),
        )
        found.append(ck.measure(backbone, probes, ck.MeasureSettings(batch_size=32)).summary.estimates)
        images, photos = images_of(probes), len(np.unique(probes.source_images))
    return found, images, photos


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--min-area", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rows", default="pairs:36,pairs:72,ring:96,ring:192")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    for model in options.models:
        backbone = ck.load_backbone(model, precision=options.precision, device=options.device)
        print(f"\n{backbone.name}, {options.seeds} seeds, {backbone.precision} on {backbone.device}")
        print(f"{'design':12} {'images':>7} {'photos':>7}  " + "  ".join(f"{name:>30}" for name in NAMES))
        costs = {}
        for words in options.rows.split(","):
            design, rows = words.split(":")
            found, images, photos = measured(backbone, options, design, int(rows))
            cells = []
            for name in NAMES:
                halves = np.array([(one[name].high - one[name].low) / 2 / 1.96 for one in found])
                spread = np.std([one[name].value for one in found], ddof=1)
                cost = np.mean(halves**2) * images
                costs.setdefault((design, name), []).append((cost, spread**2 * images))
                cells.append(f"{np.sqrt(np.mean(halves**2)):8.4f} ({spread:.4f}) {cost:10.4f}")
            print(f"{words:12} {images:7} {photos:7}  " + "  ".join(f"{cell:>30}" for cell in cells), flush=True)
        for which, what in enumerate(("intervals", "spread over seeds")):
            ratios = {
                name: np.mean([one[which] for one in costs["pairs", name]])
                / np.mean([one[which] for one in costs["ring", name]])
                for name in NAMES
            }
            said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
            print(f"passes of pairs / passes of ring at equal standard error, by {what}: {said}")


if __name__ == "__main__":
    main()
