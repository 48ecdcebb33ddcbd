"""Whether anything waits: measuring against the bare forward passes of the same images, and what a further model costs.

    python tests/benchmarks/pipeline.py [--model NAME] [--size PX] [--probes 500] [--design pairs|ring]
        [--annotations instances.json --images images/] [--device cuda] [--batch-size 32]
        [--precision float32] [--compile]

Everything is warm: objects are cut out and digests known. Printed, each as a ratio within this run:
- loop: reading all probes, pooling their regions and making their rows, over the bare passes of as many images that
  are on the device already and normalised (wanted: at most 1.03 on a CPU with ViT-S/16);
- whole: the same with the controls (which show further images, counted in both) and the bootstrap;
- a further model: drawing and normalising the probes, ms a probe (wanted: at most .6 at 224 px on a CPU).
Passes are timed before and after each measurement, for a machine whose speed drifts.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

import couplingkit as ck
from couplingkit.probes.compositing import Easel
from couplingkit.study.probe_reader import ProbeReader


def wait(device):
    """Wait for what a device was asked to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def timed(device, work):
    """Seconds of some work."""
    wait(device)
    begin = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - begin


def bare_passes(backbone, count, batch_size):
    """Run as many images as a measurement shows, normalised and on the device already."""
    shown = backbone.taking_normalized()
    images = torch.randn(batch_size, 3, *backbone.size_px, device=backbone.device)
    images = images.contiguous(memory_format=torch.channels_last)  # as probes are
    for start in range(0, count, batch_size):
        shown(images[: min(batch_size, count - start)])


def images_shown(backbone, work):
    """How many images some work shows to a network."""
    shown, passes = [], backbone.passes
    run = passes.run

    def counted(read, images, **how):
        shown.append(len(images))
        return run(read, images, **how)

    passes.run = counted
    work()
    passes.run = run
    return sum(shown)


def looped(backbone, probes, settings):
    """The loop by itself: no controls, no bootstrap."""
    reader = ProbeReader(backbone, [probes], settings, 64)
    reader.prepare()
    reader.first = True  # the controls were met
    for _ in reader.rows(range(reader.chunks()), lambda _: None):
        pass


def sharing(backbone, work, batch_size):
    """Seconds of some work over seconds of the bare passes of its images; and how many images it shows."""
    device, count = backbone.device, images_shown(backbone, work)
    before = timed(device, lambda: bare_passes(backbone, count // 2, batch_size))
    own = timed(device, work)
    after = timed(device, lambda: bare_passes(backbone, count - count // 2, batch_size))
    return own / (before + after), count, count / (before + after)


def drawing_ms(backbone, probes):
    """Milliseconds a probe that drawing and normalising take, on the CPU."""
    shown, easel = backbone.taking_normalized(), Easel()
    if shown.std is None:
        raise SystemExit("a network of couplingkit's own adapter is needed")

    def draw():
        for start in range(0, len(probes), 32):
            numbers = range(start, min(start + 32, len(probes)))
            probes.render(
                numbers, size=shown.size_px, mean=shown.mean, std=shown.std, device=backbone.device, easel=easel
            )

    draw()
    return timed(backbone.device, draw) / len(probes) * 1e3


def measured(options, files):
    """One line of the table, as a dictionary."""
    size = {"image_size": options.size} if options.size else {}
    backbone = ck.load_layers(
        options.model, precision=options.precision, device=options.device, compile=options.compile, **size
    )
    probes = ck.ProbeSet.from_coco(*files, count=options.probes, spec=ck.ProbeSpec(design=options.design))
    probes.fingerprint()
    cold = time.perf_counter()
    probes.prepare(backbone.size_px)
    cold = time.perf_counter() - cold
    batch = backbone.images_per_pass(options.batch_size if options.batch_size == "auto" else int(options.batch_size))
    settings = ck.MeasureSettings(batch_size=batch)
    loop, images, rate = sharing(backbone, lambda: looped(backbone, probes, settings), batch)
    whole, every, _ = sharing(backbone, lambda: ck.measure_layers(backbone, probes, settings), batch)
    layer = backbone.layers[0]
    return {
        "model": options.model,
        "size": "x".join(map(str, backbone.size_px)),
        "device": torch.cuda.get_device_name(layer.device) if layer.device.type == "cuda" else layer.device.type,
        "precision": layer.precision,
        "design": options.design,
        "batch": batch,
        "compiled": bool(layer.facts.get("compiled")),
        "probes": len(probes),
        "images": images,
        "images_per_s": rate,
        "loop": loop,
        "whole": whole,
        "images_of_controls": every - images,
        "drawing_ms": drawing_ms(backbone, probes),
        "pack_kib": probes.pack_size(backbone.size_px) / 1024 / len(probes),
        "packing_s": cold,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations")
    parser.add_argument("--images")
    parser.add_argument("--model", default="random:vit_small_patch16_224")
    parser.add_argument("--size", type=int)
    parser.add_argument("--probes", type=int, default=500)
    parser.add_argument("--design", default="pairs")
    parser.add_argument("--batch-size", default="32")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = (options.annotations, options.images)
        if options.annotations is None:
            files = ck.write_scenes(Path(scratch) / "scenes", count=200)
        line = measured(options, files)
    if options.json:
        print(json.dumps(line))
        return
    for name, value in line.items():
        print(f"{name:20} {value:.3f}" if isinstance(value, float) else f"{name:20} {value}")


if __name__ == "__main__":
    main()
