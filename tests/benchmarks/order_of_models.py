"""Whether two halves of the photos put nine networks into one order: Kendall's tau of each quantity of the panel.

COUPLINGKIT_REAL_COCO=... COUPLINGKIT_REAL_WEIGHTS=... python tests/benchmarks/order_of_models.py [--probes 200]

The halves share no photo: photos are dealt out to them in turn, and each half's probes are drawn from its own.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from scipy.stats import kendalltau

import couplingkit as ck
from couplingkit.metrics.quantities import shown_in

HALF = (0.5, 0.5, 0.5)


def networks(weights):
    """Nine networks: name -> layers that are read of it."""
    vit = f"vit_tiny_patch16_224@{weights / 'vit_tiny_patch16_224_tinyimagenet_ft.pth'}"
    cnn = f"mobilenetv2_100,pad_type=same,output_stride=16@{weights / 'mobilenetv2_100_in1k_dequant.pth'}"
    options = {"mean": HALF, "std": HALF, "precision": "float32", "device": "cpu"}
    yield ck.load_layers(vit, layer="3,7,11", **options)
    yield ck.load_layers(cnn, **options)
    for name in ("bundled:ibot", "bundled:ibot-d", "control:leak:0.1", "control:leak:0.3"):
        yield ck.load_layers(name, precision="float32", device="cpu")
    yield ck.load_layers("random:vit_tiny_patch16_224", precision="float32", device="cpu")


def halves(annotations, folder):
    """Write two instances JSONs that share no photo."""
    whole = json.loads(Path(annotations).read_text())
    for half in (0, 1):
        photos = {photo["id"] for photo in sorted(whole["images"], key=lambda photo: photo["id"])[half::2]}
        part = {
            **whole,
            "images": [photo for photo in whole["images"] if photo["id"] in photos],
            "annotations": [one for one in whole["annotations"] if one["image_id"] in photos],
        }
        path = folder / f"half-{half}.json"
        path.write_text(json.dumps(part))
        yield path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=200, help="Of each half.")
    options = parser.parse_args()
    coco, weights = (Path(os.environ[f"COUPLINGKIT_REAL_{name}"]) for name in ("COCO", "WEIGHTS"))
    with tempfile.TemporaryDirectory() as scratch:
        sets = [
            ck.ProbeSet.from_coco(path, coco / "images", count=options.probes)
            for path in halves(coco / "instances.json", Path(scratch))
        ]
        found = []
        for backbone in networks(weights):
            found += zip(*(ck.measure_layers(backbone, probes) for probes in sets), strict=True)
    print(f"{len(found)} networks, {options.probes} probes of each half of the photos")
    for quantity in shown_in("table"):
        pairs = [[getattr(one.summary, quantity.name, None) for one in both] for both in found]
        if any(None in pair for pair in pairs):
            continue
        first, second = zip(*pairs, strict=True)
        print(f"{quantity.name:14s} tau {kendalltau(first, second).statistic:.3f}")
        for both, pair in zip(found, pairs, strict=True):
            print(f"  {both[0].name.rpartition('/')[2]:60s} {pair[0]:8.3f} {pair[1]:8.3f}")


if __name__ == "__main__":
    main()
