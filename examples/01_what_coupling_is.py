"""What coupling is, in one figure: a probe, the angles between its features, and the coupling rates of known networks.

    python examples/01_what_coupling_is.py examples/what_coupling_is.png

Takes 9 s on 2 CPU cores. Prints the rate and the leak of each network on 100 probes of the built-in scenes:
control:cell cr 1.0000, leak 0.0000
control:leak:0.2 cr 1.0119, leak 0.0114
control:leak:0.5 cr 1.0410, leak 0.0425
control:leak:0.8 cr 1.1046, leak 0.1325
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import couplingkit as ck
from couplingkit.figures.plots import draw_coupling, save_figure
from couplingkit.figures.style import PAGE_IN, figure_rc

MODELS = ("control:cell", "control:leak:0.2", "control:leak:0.5", "control:leak:0.8")
# A probe whose rate is about the mean one of the strongest leak.
SHOWN = 73


def draw_angles(axes, measurement, number):
    row = measurement.rows.iloc[number]
    to_b = {"$z_{A1}$ (A alone)": row["theta_a1_b"], "$z_{A2}$ (A beside B)": row["theta_a2_b"]}
    apart, together = (np.pi / 2 - angle for angle in to_b.values())
    angles = {"$z_B$": 0.0} | to_b
    for (name, angle), colour in zip(angles.items(), ("#555555", "#33567a", "#c03a2b"), strict=True):
        tip = np.cos(angle), np.sin(angle)
        axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0})
        axes.text(tip[0] + 0.04, tip[1], name, color=colour, va="center")
    rate = f"{together:.2f} rad / {apart:.2f} rad = {together / apart:.2f}"
    axes.set_title(f"one probe of {measurement.name}: CR = {rate}")
    axes.set_xlim(-0.1, 1.9)
    axes.set_ylim(-0.1, 0.85)
    axes.set_aspect("equal")
    axes.axis("off")


def draw(probes, measurements, path):
    with figure_rc():
        figure = Figure(figsize=(PAGE_IN, 3.9))
        probe = probes[SHOWN]
        images = {
            "A alone": probe.alone,
            "A beside B": probe.together,
            "B alone": probe.partner,
            "A beside C (control)": probe.control,
        }
        for column, (title, image) in enumerate(images.items()):
            axes = figure.add_axes((0.01 + 0.2475 * column, 0.52, 0.2375, 0.44))
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks([])
        draw_angles(figure.add_axes((0.01, 0.02, 0.42, 0.4)), measurements[-1], SHOWN)
        draw_coupling(figure.add_axes((0.47, 0.14, 0.52, 0.35)), measurements)
        save_figure(figure, path)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        annotations, images = ck.write_scenes(Path(scratch) / "scenes", count=60)
        probes = ck.ProbeSet.from_coco(annotations, images, count=100)
        measurements = [ck.measure(ck.load_backbone(name), probes) for name in MODELS]
        for measurement in measurements:
            print(f"{measurement.name} cr {measurement.summary.cr:.4f}, leak {measurement.summary.leak:.4f}")
        draw(probes, measurements, Path(sys.argv[1] if len(sys.argv) > 1 else "what_coupling_is.png"))


if __name__ == "__main__":
    main()
