"""Runs every architecture of timm's and torchvision's registries through the adapters' shapes and prints what fails.

    python tests/benchmarks/registry.py [--write] [--match PART]

Nothing is downloaded and no weights are made: networks are built on torch's meta device. About 15 minutes on 2 cores.
`--write` replaces couplingkit/features/catalogue.csv, which `couplingkit backbones` lists.
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from couplingkit.errors import CouplingKitError
from couplingkit.features.catalogue import CatalogueEntry, catalogue_text
from couplingkit.features.sources import timm_shapes, torchvision_networks
from couplingkit.features.sources.survey import survey

TABLE = Path(__file__).parents[2] / "couplingkit" / "features" / "catalogue.csv"
MOST_FAILURES = 15


def surveyed(source, name):
    try:
        return survey(source, name)
    except CouplingKitError as error:
        return CatalogueEntry(source, name, "", 0, "", 0, 0, 0, "no", str(error).splitlines()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table that the package ships")
    parser.add_argument("--match", default="", help="only names with this part")
    options = parser.parse_args()
    begin = time.perf_counter()
    entries = []
    for source, names in (
        ("timm", timm_shapes.known_architectures()),
        ("torchvision", torchvision_networks.known_architectures()),
    ):
        chosen = [name for name in names if options.match in name]
        entries += [surveyed(source, name) for name in tqdm(chosen, desc=source, unit="model")]
    failed = [entry for entry in entries if not entry.stride]
    partly = [entry for entry in entries if entry.stride and entry.problem]
    for entry in failed:
        print(f"FAILS   {entry.source}:{entry.name} ({entry.input}): {entry.problem}")
    for entry in partly:
        print(f"partly  {entry.source}:{entry.name} ({entry.input}): {entry.problem}")
    of_timm = [entry for entry in failed if entry.source == "timm"]
    total = sum(entry.source == "timm" for entry in entries)
    print(f"timm: {len(of_timm)} of {total} architectures fail (limit {MOST_FAILURES}); {len(partly)} lack some layers")
    print(f"torchvision: {len(failed) - len(of_timm)} of {len(entries) - total} fail")
    for way in sorted({entry.other_sizes for entry in entries}):
        print(f"other sizes: {way}: {sum(entry.other_sizes == way for entry in entries)}")
    print(f"{time.perf_counter() - begin:.0f} s")
    if options.write and not options.match:
        TABLE.write_text(catalogue_text(entries), encoding="utf-8")
    sys.exit(len(of_timm) > MOST_FAILURES)


if __name__ == "__main__":
    main()
