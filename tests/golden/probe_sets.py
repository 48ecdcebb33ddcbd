"""Writes data_manifests/scenes_500.json anew; run it when the built-in scenes or the drawing of probes change.

python tests/golden/probe_sets.py
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import couplingkit as ck

SCENES, SCENES_SEED, PROBES = 200, 7, 500


def main():
    with tempfile.TemporaryDirectory() as scratch:
        files = ck.write_scenes(Path(scratch) / "scenes", count=SCENES, seed=SCENES_SEED)
        # Third objects that fit beside A at the widest gap, so that the set serves sweeps.
        probes = ck.ProbeSet.from_coco(*files, count=PROBES, spec=ck.ProbeSpec(gap=64)).vary(gap=16)
        probes.name = "scenes_500"
        manifest = probes.manifest()
    made = {"file": "built-in scenes", "scenes": SCENES, "scenes_seed": SCENES_SEED}
    found = replace(manifest, annotations={**manifest.annotations, **made})
    (Path(__file__).parents[2] / "data_manifests" / "scenes_500.json").write_text(found.text())


if __name__ == "__main__":
    main()
