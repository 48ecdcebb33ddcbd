"""The four methods and their decoupled versions, three seeds each: what the branch does to coupling and to objects.

    python examples/04_the_family.py examples/family/family.png

Takes 3 s: it reads what four commands wrote (examples/ibot-pair and examples/family). All but iBOT's were before the
trainer was held against the originals and before untrained networks stood beside the runs; they are to be made anew:
    couplingkit train-pair ibot --seeds 3 --probe-every 300 --out runs/ibot-pair
    couplingkit train-pair densecl --seeds 3 --probe-every 200 --out runs/densecl-pair
    couplingkit train-pair soco --seeds 3 --probe-every 200 --out runs/soco-pair
    couplingkit train-pair maskalign --seeds 3 --probe-every 200 --out runs/maskalign-pair
Prints, of each, the difference X-D minus X with Student's interval over the three seeds (what can be said of a method:
of displacement nothing), the most clipped denominators and the speed:
ibot: cr -0.041 [-0.107, +0.025], displacement -0.071 [-0.125, -0.017], accuracy +0.055 [-0.036, +0.147]
ibot: 5% and 12% clipped, 0.94 and 0.73 steps/s
densecl: cr -0.008 [-0.029, +0.012], displacement -0.011 [-0.046, +0.024], accuracy -0.034 [-0.300, +0.232]
densecl: 0% and 0% clipped, 1.59 and 1.22 steps/s
soco: cr +0.003 [+0.002, +0.005], displacement -0.002 [-0.024, +0.020], accuracy -0.003 [-0.168, +0.163]
soco: 0% and 0% clipped, 1.06 and 0.82 steps/s
maskalign: cr -0.004 [-0.017, +0.008], displacement +0.003 [-0.072, +0.078], accuracy +0.016 [-0.010, +0.041]
maskalign: 0% and 0% clipped, 4.09 and 3.32 steps/s
"""

import sys
from pathlib import Path

import pandas as pd

from couplingkit.figures.pair_plots import pair_figure
from couplingkit.figures.plots import PAGE_IN, save_figure
from couplingkit.metrics.seeds import over_seeds

HERE = Path(__file__).parent
FOLDERS = {
    "ibot": HERE / "ibot-pair",
    **{name: HERE / "family" / name for name in ("densecl", "soco", "maskalign")},
}


def interval(table, name, quantity):
    """X-D minus X: mean over the seeds, with Student's interval over them."""
    values = table.pivot_table(index="seed", columns="method", values=quantity)
    gap = over_seeds((values[f"{name}-d"] - values[name]).to_numpy())
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def main(out):
    runs = []
    for name, folder in FOLDERS.items():
        # All but iBOT's were measured before the panel was defined: `cr` was called cr_of_means, and specificity was a
        # mean of ratios.
        table = pd.read_csv(folder / "runs.csv")
        table = table[table["method"] != "untrained"]
        table = table.rename(columns=lambda name: name.replace("cr_of_means", "cr"))
        runs.append(table.drop(columns=["specificity", "leak", "linear"], errors="ignore"))
        cr, moved, accuracy = (interval(table, name, quantity) for quantity in ("cr", "displacement", "accuracy"))
        clipped = table.groupby("method")["clipped_denominator"].max()
        speed = table.groupby("method")["steps_per_s"].mean()
        print(f"{name}: cr {cr}, displacement {moved}, accuracy {accuracy}")
        clips = f"{clipped[name]:.0%} and {clipped[name + '-d']:.0%} clipped"
        print(f"{name}: {clips}, {speed[name]:.2f} and {speed[name + '-d']:.2f} steps/s")
    save_figure(pair_figure(pd.concat(runs), width_in=PAGE_IN), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "the_family.png")
