"""Writes the manifests of data_manifests/ anew; run it when the built-in scenes or the drawing of probes change.

python tests/golden/probe_sets.py
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import couplingkit as ck
from couplingkit.probes.manifest import Source

# Name -> scenes, their seed, probes, design.
SETS = {"scenes_500": (200, 7, 500, "pairs"), "scenes_2k": (600, 8, 2048, "ring")}


def write(name, scenes, seed, count, design):
    with tempfile.TemporaryDirectory() as scratch:
        files = ck.write_scenes(Path(scratch) / "scenes", count=scenes, seed=seed)
        # Third objects that fit beside A at the widest gap, so that the set serves sweeps.
        probes = ck.ProbeSet.from_coco(*files, count=count, spec=ck.ProbeSpec(gap=64, design=design)).vary(gap=16)
        probes.name = name
        manifest = probes.manifest()
    source = Source(file="built-in scenes", sha256=manifest.annotations.sha256, scenes=scenes, scenes_seed=seed)
    text = replace(manifest, annotations=source).text()
    (Path(__file__).parents[2] / "data_manifests" / f"{name}.json").write_text(text)


if __name__ == "__main__":
    for name, made in SETS.items():
        write(name, *made)
