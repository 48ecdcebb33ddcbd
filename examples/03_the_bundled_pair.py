"""A coupled and a decoupled model side by side: the pair that comes with couplingkit, on probes of the built-in scenes.

    python examples/03_the_bundled_pair.py examples/the_bundled_pair.png

Takes a minute on 2 CPU cores. Prints what says coupling of both and of the untrained network, the paired differences
with their intervals (over scenes: of these two networks, not of the method), and how well each tells objects apart: the
share whose nearest neighbour in another scene is of their kind, and the share that a linear model of other scenes'
objects names rightly:
bundled:ibot cr 0.988, specificity 0.030, leak 0.020, displacement 0.128
bundled:ibot-d cr 0.952, specificity 0.002, leak 0.001, displacement 0.083
untrained cr 0.995, specificity 0.000, leak 0.001, displacement 0.052
difference of cr -0.037 [-0.045, -0.030] over 300 probes
difference of specificity -0.028 [-0.035, -0.023] over 300 probes
difference of leak -0.019 [-0.023, -0.016] over 300 probes
difference of displacement -0.045 [-0.048, -0.042] over 300 probes
bundled:ibot 1-NN accuracy 0.64, linear accuracy 0.64 of 330 objects
bundled:ibot-d 1-NN accuracy 0.64, linear accuracy 0.65 of 330 objects
untrained 1-NN accuracy 0.55, linear accuracy 0.53 of 330 objects
"""

import sys
import tempfile
from pathlib import Path

import couplingkit as ck
from couplingkit.figures.plots import coupling_figure, save_figure

# The network that both began as: the same architecture, seed and normalisation, without a step of training.
UNTRAINED = "random:vit_tiny_patch16_224,img_size=64,patch_size=8,embed_dim=128,depth=4,num_heads=2"
MODELS = ("bundled:ibot", "bundled:ibot-d")
PANEL = ("cr", "specificity", "leak", "displacement")
PROBES = 300


def main(out):
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = ck.write_scenes(Path(folder) / "scenes", count=150, seed=7)
        probes = ck.ProbeSet.from_coco(annotations, images, count=PROBES)
        index = ck.read_instances(annotations)
        backbones = [ck.load_backbone(name, precision="float32") for name in MODELS]
        backbones.append(ck.load_backbone(UNTRAINED, precision="float32", mean=(0, 0, 0), std=(0.5, 0.5, 0.5)))
        backbones[-1].name = "untrained"
        measurements = [ck.measure(backbone, probes) for backbone in backbones]
        for measurement in measurements:
            told = ", ".join(f"{name} {getattr(measurement.summary, name):.3f}" for name in PANEL)
            print(f"{measurement.name} {told}")
        for name in PANEL:
            gap, count = ck.compare(measurements[1], measurements[0], name)
            print(f"difference of {name} {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}] over {count} probes")
        for backbone in backbones:
            near, linear = ck.object_knn(backbone, index, images), ck.object_linear(backbone, index, images)
            told = f"1-NN accuracy {near.accuracy.value:.2f}, linear accuracy {linear.accuracy.value:.2f}"
            print(f"{backbone.name} {told} of {len(near.rows)} objects")
        save_figure(coupling_figure(measurements), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "the_bundled_pair.png")
