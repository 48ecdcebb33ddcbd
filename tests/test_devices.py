"""On a device that is not the CPU everything gives the CPU's numbers, mixes nothing, and waits once a chunk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CASES = Path(__file__).with_name("device_cases.py")
# Sums in another order: the images of a batch go in one pass there; a GPU has other kernels besides.
ROUNDING = {"pretended:0": 2e-6, "cuda:0": 2e-5}
GPU = pytest.param("cuda:0", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
every_device = pytest.mark.parametrize("device", ["pretended:0", GPU])


def found(case, device, scenes):
    """What a case found, in a process of its own: a device is registered for good."""
    done = subprocess.run(
        [sys.executable, CASES, case, device, *map(str, scenes)],
        capture_output=True,
        text=True,
        cwd=CASES.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("device", [pytest.param("pretended:0", marks=pytest.mark.slow), GPU])
def test_measuring_gives_the_same_numbers_and_waits_once_a_chunk(scenes, device):
    said = found("measure", device, scenes)
    assert len(said["apart"]) == 8
    assert max(said["apart"].values()) < ROUNDING[device], said
    # A chunk is 64 probes or a batch, whichever is more; the batch that the controls look at is a chunk of its own.
    pairs = {"64 16": 2, "128 16": 3, "256 16": 5, "256 64": 5}
    # Of rings the controls read the first batch again, at the beginning and at the end.
    most = {**pairs, "64 ring": 2 + 2, "128 ring": 3 + 2, "256 ring": 5 + 2}
    if device == "pretended:0":
        assert said["waits"] == most
    else:
        # torch does not call it a wait where one is for a copy's event alone.
        assert all(count <= most[case] for case, count in said["waits"].items())


@every_device
@pytest.mark.parametrize(
    "case", [*(pytest.param(case, marks=pytest.mark.slow) for case in ("sweep", "affinity")), "evaluate", "train"]
)
def test_other_work_gives_the_same_numbers(case, scenes, device):
    said = found(case, device, scenes)
    assert said["apart"]
    assert max(said["apart"].values()) < 10 * ROUNDING[device], said


def test_auto_takes_what_fits(scenes):
    said = found("fits", "pretended:0", scenes)
    assert said["images"] == [64, 7]
    assert said["limit"] is None, "what was tried is no batch that did not fit"
    assert "images_per_pass" not in said["provenance"]


def test_planted_mistakes_are_found(scenes):
    said = found("mistakes", "pretended:0", scenes)
    assert "add: tensors of pretended and of the CPU" in said["mixed"]
    assert "a copy at features/backbone.py" in said["float64"]
    assert "generator of the CPU" in said["generator"]
    assert said["waits"] >= 4, said
