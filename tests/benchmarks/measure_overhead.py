"""How much longer a measurement takes than the bare forward passes of its network, in one process.

    python tests/benchmarks/measure_overhead.py --annotations instances.json --images images/ --probes 500

Prints the ratio for ViT-S/16 at 224 px: 4 images a probe, the same batch size and precision; the forward passes are
timed half before and half after, for a machine whose speed drifts. The target is 1.15 at most.
"""

import argparse
import time

import torch

import couplingkit as ck


def forward_seconds(backbone, images, count, batch_size):
    """Seconds for `count` images in batches, through the same adapter, pixels already there."""
    started = time.perf_counter()
    for start in range(0, count, batch_size):
        backbone(images[: min(batch_size, count - start)])
    if backbone.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--probes", type=int, default=500)
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--parts", type=int, default=1, help="measurements that the probes are split into")
    options = parser.parse_args()

    backbone = ck.load_backbone(options.model, precision=options.precision, device=options.device)
    images = torch.rand(options.batch_size, 3, *backbone.size_px, device=backbone.device)
    forward_seconds(backbone, images, options.batch_size, options.batch_size)
    # Different probes in each part, so that no part gains from what an earlier one decoded.
    bare = measured = 0.0
    share = options.probes // options.parts
    for part in range(options.parts):
        bare += forward_seconds(backbone, images, 2 * share, options.batch_size)
        started = time.perf_counter()
        probes = ck.ProbeSet.from_coco(options.annotations, options.images, count=share, seed=part)
        ck.measure(backbone, probes, ck.MeasureSettings(batch_size=options.batch_size))
        measured += time.perf_counter() - started
        bare += forward_seconds(backbone, images, 2 * share, options.batch_size)
    count = 4 * share * options.parts
    print(f"{backbone.name} on {backbone.device} in {backbone.precision}, {options.parts} x {share} probes")
    print(f"bare forward passes  {bare:8.2f} s  {count / bare:8.1f} images/s")
    print(f"measurements         {measured:8.2f} s  {count / measured:8.1f} images/s")
    print(f"ratio                {measured / bare:8.3f}")


if __name__ == "__main__":
    main()
