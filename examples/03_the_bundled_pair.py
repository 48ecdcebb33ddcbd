"""A coupled and a decoupled model side by side: the pair that comes with couplingkit, on probes of the built-in scenes.

    python examples/03_the_bundled_pair.py examples/the_bundled_pair.png

Takes 20 s on 2 CPU cores. Prints what says coupling of both, the paired differences with their intervals (over
scenes: of these two networks, not of the method), and the share of objects whose nearest neighbour in another scene is
of their kind:
bundled:ibot cr 1.016, specificity 0.047, leak 0.068, displacement 0.155
bundled:ibot-d cr 0.945, specificity 0.020, leak 0.012, displacement 0.147
difference of cr -0.071 [-0.085, -0.060] over 300 probes
difference of specificity -0.027 [-0.036, -0.020] over 300 probes
difference of leak -0.056 [-0.074, -0.041] over 300 probes
difference of displacement -0.009 [-0.014, -0.004] over 300 probes
bundled:ibot 1-NN accuracy 0.44 of 330 objects
bundled:ibot-d 1-NN accuracy 0.61 of 330 objects
"""

import sys
import tempfile
from pathlib import Path

import couplingkit as ck
from couplingkit.figures.plots import coupling_figure, save_figure

MODELS = ("bundled:ibot", "bundled:ibot-d")
PANEL = ("cr", "specificity", "leak", "displacement")
PROBES = 300


def main(out):
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = ck.write_scenes(Path(folder) / "scenes", count=150, seed=7)
        probes = ck.ProbeSet.from_coco(annotations, images, count=PROBES)
        index = ck.read_instances(annotations)
        backbones = [ck.load_backbone(name, precision="float32") for name in MODELS]
        measurements = [ck.measure(backbone, probes) for backbone in backbones]
        for measurement in measurements:
            told = ", ".join(f"{name} {getattr(measurement.summary, name):.3f}" for name in PANEL)
            print(f"{measurement.name} {told}")
        for name in PANEL:
            gap, count = ck.compare(measurements[1], measurements[0], name)
            print(f"difference of {name} {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] over {count} probes")
        for backbone in backbones:
            found = ck.object_knn(backbone, index, images)
            print(f"{backbone.name} 1-NN accuracy {found.accuracy.value:.2f} of {len(found.rows)} objects")
        save_figure(coupling_figure(measurements), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "the_bundled_pair.png")
