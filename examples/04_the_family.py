"""The four methods and their decoupled versions, three seeds each: what the branch does to coupling and to objects.

    python examples/04_the_family.py examples/family/family.png

Takes 3 s: it reads what four commands wrote (examples/ibot-pair and examples/family), together 4.5 hours on 2 cores:
    couplingkit train-pair ibot --seeds 3 --probe-every 250 --out runs/ibot-pair
    couplingkit train-pair densecl --seeds 3 --probe-every 200 --out runs/densecl-pair
    couplingkit train-pair soco --seeds 3 --probe-every 200 --out runs/soco-pair
    couplingkit train-pair maskalign --seeds 3 --probe-every 200 --out runs/maskalign-pair
Prints, of each, the paired difference X-D minus X over the seeds with its interval, and the most clipped denominators:
ibot: cr_mean -0.123 [-0.136, -0.110], accuracy +0.095 [+0.038, +0.156], clipped 0% and 22%, steps/s 1.32 and 0.98
densecl: cr_mean -0.015 [-0.019, -0.012], accuracy -0.034 [-0.078, +0.013], clipped 0% and 0%, steps/s 1.59 and 1.22
soco: cr_mean +0.003 [+0.003, +0.004], accuracy -0.003 [-0.041, +0.037], clipped 0% and 0%, steps/s 1.06 and 0.82
maskalign: cr_mean -0.007 [-0.011, -0.003], accuracy +0.016 [-0.018, +0.049], clipped 0% and 0%, steps/s 4.09 and 3.32
"""

import sys
from pathlib import Path

import pandas as pd

from couplingkit.figures.pair_plots import pair_figure
from couplingkit.figures.plots import PAGE_IN, save_figure

HERE = Path(__file__).parent
FOLDERS = {
    "ibot": HERE / "ibot-pair",
    **{name: HERE / "family" / name for name in ("densecl", "soco", "maskalign")},
}


def interval(differences, statistic):
    row = differences[(differences["quantity"] == statistic) & (differences["seed"].astype(str) == "all")].iloc[0]
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def main(out):
    runs = []
    for name, folder in FOLDERS.items():
        table, differences = (pd.read_csv(folder / f"{kind}.csv") for kind in ("runs", "differences"))
        runs.append(table)
        cr, accuracy = (interval(differences, statistic) for statistic in ("cr_mean", "accuracy"))
        clipped = table.groupby("method")["clipped_denominator"].max()
        speed = table.groupby("method")["steps_per_s"].mean()
        print(
            f"{name}: cr_mean {cr}, accuracy {accuracy}, clipped {clipped[name]:.0%} and {clipped[name + '-d']:.0%}, "
            f"steps/s {speed[name]:.2f} and {speed[name + '-d']:.2f}"
        )
    save_figure(pair_figure(pd.concat(runs), width_in=PAGE_IN), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "the_family.png")
