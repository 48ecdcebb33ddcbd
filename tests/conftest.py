"""Fixtures: a small procedural dataset, probes on it, and the real data and weights where they are at hand."""

import os

# Two workers share two cores; what they start inherits it. (Before torch is imported, which reads it once.)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

import couplingkit as ck

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of parsed annotations of the tests' own; commands that are started inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUPLINGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Path(os.environ["COUPLINGKIT_CACHE"])


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """(instances json, image folder) of 40 scenes."""
    return ck.write_scenes(tmp_path_factory.mktemp("scenes") / "set", count=40)


@pytest.fixture(scope="session")
def probes(scenes):
    """24 probes with the default look."""
    return ck.ProbeSet.from_coco(*scenes, count=24)


def _folder(variable):
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} does not name a folder: real data is not at hand")
    return Path(value)


@pytest.fixture(scope="session")
def real_coco():
    """(instances json, image folder) of real COCO photos."""
    folder = _folder("COUPLINGKIT_REAL_COCO")
    return folder / "instances.json", folder / "images"


@pytest.fixture(scope="session")
def real_weights():
    """Folder of real pretrained weights."""
    return _folder("COUPLINGKIT_REAL_WEIGHTS")


@pytest.fixture(scope="session")
def quick():
    """Whether the tests that move gigabytes are to be left out."""
    return bool(os.environ.get("COUPLINGKIT_QUICK"))
