"""A leak made visible: what a point of A is similar to, without and with B beside it, for networks of known coupling.

    python examples/02_affinity_on_a_probe.py examples/affinity_on_a_probe.png

Takes 9 s on 2 CPU cores. Prints the mean affinity on A's region, without B and with B, in one probe of the built-in
scenes; a network that reads each cell by itself cannot notice B:
control:cell 0.9228 0.9228
control:leak:0.5:64 0.9589 0.9621
random:vit_tiny_patch16_224 0.9005 0.8957
"""

import sys
import tempfile
from pathlib import Path

import couplingkit as ck
from couplingkit.figures.affinity_plots import probe_figure
from couplingkit.figures.plots import save_figure

MODELS = ("control:cell", "control:leak:0.5:64", "random:vit_tiny_patch16_224")
NUMBER = 3


def main(out):
    with tempfile.TemporaryDirectory() as folder:
        probes = ck.ProbeSet.from_coco(*ck.write_scenes(Path(folder) / "scenes", count=60), count=NUMBER + 1)
        maps = [ck.probe_maps(ck.load_backbone(name, precision="float32"), probes, NUMBER)[0] for name in MODELS]
        for model in maps:
            print(model.name, *(f"{level:.4f}" for level in model.on_a))
        probe = probes[NUMBER]
        pictures = [images.permute(1, 2, 0).numpy() for images in (probe.alone, probe.together)]
        a, b, *_ = probes.categories(NUMBER)
        point = ck.probe_query(probes, NUMBER)
        save_figure(probe_figure(*pictures, point, maps, captions=(f"A: {a}", f"beside B: {b}")), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "affinity_on_a_probe.png")
