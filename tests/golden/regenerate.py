"""Writes golden/values.json anew; run it when a number is meant to change, and say so in CHANGELOG.md.

COUPLINGKIT_REAL_COCO=... python tests/golden/regenerate.py
"""

import json
import os
import tempfile
from pathlib import Path

import couplingkit as ck

RATES = ("control:leak:0.2", "control:leak:0.5:32")


def quantities(name, probes):
    estimates = ck.measure(ck.load_backbone(name), probes).summary.estimates
    return {quantity: estimate.value for quantity, estimate in estimates.items()}


def main():
    with tempfile.TemporaryDirectory() as scratch:
        scenes = ck.write_scenes(Path(scratch) / "scenes", count=40)
        probes = ck.ProbeSet.from_coco(*scenes, count=24, spec=ck.ProbeSpec(design="pairs"))
        values = {
            "fingerprint": probes.fingerprint(),
            "fingerprint_of_seed_1": ck.ProbeSet.from_coco(
                *scenes, count=24, seed=1, spec=ck.ProbeSpec(design="pairs")
            ).fingerprint(),
            "quantities": {name: quantities(name, probes) for name in RATES},
        }
        real = os.environ.get("COUPLINGKIT_REAL_COCO")
        if not real:
            raise SystemExit(
                "COUPLINGKIT_REAL_COCO must name the folder of real photos, whose fingerprint is one value."
            )
        photos = ck.ProbeSet.from_coco(
            Path(real) / "instances.json", Path(real) / "images", count=50, spec=ck.ProbeSpec(design="pairs")
        )
        values["fingerprint_of_real_photos"] = photos.fingerprint()
    path = Path(__file__).parent / "values.json"
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
