"""The four methods and their decoupled versions, three seeds each: what the branch does to coupling and to objects.

    python examples/04_the_family.py examples/family/family.png

Takes 3 s: it reads what four commands wrote (examples/ibot-pair and examples/family):
    couplingkit train-pair ibot --seeds 3 --probe-every 300 --out runs/ibot-pair
    couplingkit train-pair densecl --seeds 3 --probe-every 200 --out runs/densecl-pair
    couplingkit train-pair soco --seeds 3 --probe-every 200 --out runs/soco-pair
    couplingkit train-pair maskalign --seeds 3 --probe-every 200 --out runs/maskalign-pair
Prints, of each, X minus the untrained networks and X-D minus X with Student's intervals over the three seeds (what can
be said of a method), and the most clipped denominators:
ibot minus untrained: specificity +0.042 [+0.006, +0.079], accuracy -0.019 [-0.070, +0.032]
ibot-d minus ibot: specificity -0.041 [-0.081, -0.001], accuracy +0.055 [-0.036, +0.147]
ibot: 5% and 12% clipped
densecl minus untrained: specificity +0.007 [-0.005, +0.018], accuracy +0.109 [-0.064, +0.281]
densecl-d minus densecl: specificity -0.006 [-0.020, +0.009], accuracy -0.009 [-0.286, +0.269]
densecl: 0% and 0% clipped
soco minus untrained: specificity +0.003 [-0.004, +0.010], accuracy +0.227 [+0.137, +0.318]
soco-d minus soco: specificity -0.003 [-0.007, +0.002], accuracy -0.025 [-0.091, +0.040]
soco: 0% and 0% clipped
maskalign minus untrained: specificity +0.018 [+0.013, +0.024], accuracy +0.154 [+0.102, +0.207]
maskalign-d minus maskalign: specificity -0.001 [-0.010, +0.008], accuracy +0.011 [-0.011, +0.033]
maskalign: 0% and 1% clipped
"""

import sys
from pathlib import Path

import pandas as pd

from couplingkit.figures.pair_plots import pair_figure
from couplingkit.figures.plots import save_figure
from couplingkit.figures.style import PAGE_IN
from couplingkit.metrics.seeds import over_seeds

HERE = Path(__file__).parent
FOLDERS = {
    "ibot": HERE / "ibot-pair",
    **{name: HERE / "family" / name for name in ("densecl", "soco", "maskalign")},
}


def interval(table, first, second, quantity):
    """One method minus another: mean over the seeds, with Student's interval over them."""
    values = table.pivot_table(index="seed", columns="method", values=quantity)
    gap = over_seeds((values[first] - values[second]).to_numpy())
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"


def main(out):
    runs = []
    for name, folder in FOLDERS.items():
        table = pd.read_csv(folder / "runs.csv")
        # Each method has untrained networks of its own architecture; the figure has no room for four of them.
        runs.append(table[table["method"] != "untrained"])
        for first, second in ((name, "untrained"), (f"{name}-d", name)):
            coupling, accuracy = (interval(table, first, second, one) for one in ("specificity", "accuracy"))
            print(f"{first} minus {second}: specificity {coupling}, accuracy {accuracy}")
        clipped = table.groupby("method")["clipped_denominator"].max()
        print(f"{name}: {clipped[name]:.0%} and {clipped[name + '-d']:.0%} clipped")
    save_figure(pair_figure(pd.concat(runs), width_in=PAGE_IN), Path(out))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "the_family.png")
