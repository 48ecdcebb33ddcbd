"""Fixtures: a small procedural dataset, probes on it, and the real data and weights where they are at hand."""

import os
import shutil

# Two workers share two cores; what they start inherits it. (Before torch is imported, which reads it once.)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

import couplingkit as ck

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

torch.set_num_threads(min(2, torch.get_num_threads()))


# What a test asks for says what it needs.
NEEDS = {"browser": "browser", "real_coco": "real", "real_weights": "real"}


def pytest_collection_modifyitems(items):
    """Mark tests by the fixtures that they use."""
    for item in items:
        for fixture, marker in NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of parsed annotations of the tests' own; commands that are started inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUPLINGKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        # An accident shows its traceback, instead of writing it into a file.
        patch.setenv("COUPLINGKIT_DEBUG", "1")
        yield Path(os.environ["COUPLINGKIT_CACHE"])


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """(instances json, image folder) of 40 scenes."""
    return ck.write_scenes(tmp_path_factory.mktemp("scenes") / "set", count=40)


@pytest.fixture(scope="session")
def probes(scenes):
    """24 probes in pairs, with the usual look."""
    return ck.ProbeSet.from_coco(*scenes, count=24, spec=ck.ProbeSpec(design="pairs"))


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


@pytest.fixture
def data(scenes):
    """The words that name the 40 scenes."""
    return ["--annotations", scenes[0], "--images", scenes[1]]


@pytest.fixture(scope="session")
def browser():
    """A real browser, one for all pages."""
    reason = "playwright is not installed: pip install -e '.[test]'"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: on Debian, apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()
