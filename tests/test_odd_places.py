"""Names of files and folders that people have: each place that a command reads or writes takes them."""

import shutil

import pandas as pd
import pytest
import torch
from checkpoint_files import network, state
from command import run

import couplingkit as ck

NAMES = (
    *(
        "a b",
        "a@b",
        "a:b",
        "a,b=c",
        "caf\u00e9",
        "cafe\u0301",
        "\u7167\u7247",
        "\U0001f600",
        "#1",
        "100%",
        "x'y",
        'x"y',
    ),
    *(
        "(1)",
        "[1]",
        "a*b",
        "$HOME",
        "~me",
        "-a",
        "a.b.c",
        "con",
        "a" * 200,
        "trailing ",
        ".hidden",
        "a&b;c",
        "timm",
        "random",
    ),
    *("hub:x", "vit@w"),
)
WEIGHTS = {"device": "cpu", "precision": "float32", "mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return ck.write_scenes(tmp_path_factory.mktemp("places") / "set", count=3)


@pytest.fixture(scope="module")
def fingerprint(small):
    return ck.ProbeSet.from_coco(*small, count=2).fingerprint()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(state(network("test_vit", 1)), path)
    return path


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:14])
def test_annotations_and_photos_lie_there(name, small, fingerprint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(small[0], f"{name}.json")
    shutil.copytree(small[1], f"{name}.images")
    for folder in (tmp_path / f"{name}.images", f"{name}.images"):
        assert ck.ProbeSet.from_coco(f"{name}.json", folder, count=2).fingerprint() == fingerprint


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:14])
def test_weights_lie_there(name, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(weights, f"{name}.pth")
    for place in (f"{name}.pth", f"{tmp_path}/{name}.pth"):
        found = ck.load_backbone(f"test_vit@{place}", **WEIGHTS).provenance()
        assert (
            found["weights_sha256"] == ck.load_backbone(f"test_vit@{weights}", **WEIGHTS).provenance()["weights_sha256"]
        )


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:14])
def test_results_go_there(name, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = [f"--annotations={small[0]}", f"--images={small[1]}", "--probes=2", "--design=pairs"]
    done = run("measure", "control:cell", *data, f"--out={name}/run")
    assert done.exit_code == 0, done.stderr
    assert len(pd.read_csv(tmp_path / name / "run" / "rows.csv")) == 2
    again = run("report", f"{tmp_path}/{name}/run", f"--out={name}.html")
    assert again.exit_code == 0, again.stderr
    assert "<html" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")
