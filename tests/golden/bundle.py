"""Make the bundled pair from the runs of `couplingkit train-pair ibot`: float16, with recipe and seed inside.

python tests/golden/bundle.py runs/ibot-pair [--seed 0]
"""

import argparse
import json
from pathlib import Path

import torch
from msgspec.structs import replace
from safetensors import safe_open

import couplingkit as ck
from couplingkit.features.own_format import FORMAT
from couplingkit.training.checkpoint import checkpoints_of
from couplingkit.typed_files import decode_json, read_text

OUT = Path(__file__).parents[2] / "couplingkit" / "features" / "bundled"


def bundle(run, out):
    checkpoint = checkpoints_of(run)[-1]
    evaluated = json.loads((checkpoint / "step.json").read_text()).get("evaluated", "teacher")
    with safe_open(checkpoint / f"{evaluated}.safetensors", "pt") as held:
        header = decode_json(held.metadata()[FORMAT], ck.BackboneHeader, str(checkpoint))
        tensors = {name: held.get_tensor(name).to(torch.float16) for name in held.keys()}  # noqa: SIM118
    about = {"recipe": read_text(run / "recipe.toml", "recipe"), "run": json.loads(read_text(run / "run.json", "run"))}
    ck.save_backbone(out, tensors, replace(header, about=about), overwrite=True)
    print(out, f"{out.stat().st_size / 1e6:.2f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for method in ("ibot", "ibot-d"):
        bundle(asked.pair / method / f"seed-{asked.seed}", OUT / f"{method}.safetensors")


if __name__ == "__main__":
    main()
