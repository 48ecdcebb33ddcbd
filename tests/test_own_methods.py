"""Methods that are not ours: the one of the documentation, under its module's name and under an entry point's."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from command import run, start

import couplingkit as ck
from couplingkit.errors import ArgumentError
from couplingkit.training.recipe import read_recipe
from couplingkit.training.registry import method_kind, method_names

PAGE = (Path(__file__).parents[1] / "docs" / "own_methods.md").read_text(encoding="utf-8")
SMALL = [
    "--set",
    "run.steps=3",
    "--set",
    "run.batch_size=8",
    "--set",
    "run.workers=0",
    "--set",
    "run.checkpoint_every=2",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    (module,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "simsiam.py").write_text(module)
    (tmp_path / "simsiam.toml").write_text(re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    yield tmp_path
    sys.modules.pop("simsiam", None)


def test_the_page_is_as_short_as_it_says():
    (module,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    body = module[module.index("class SimSiamDense") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 49


@pytest.mark.parametrize("method", ["simsiam:SimSiamDense", "simsiam:SimSiamDense-d"])
def test_it_trains_resumes_and_is_measured(place, method):
    words = [
        "train",
        method,
        "--data",
        "scenes:24",
        "--recipe",
        "simsiam.toml",
        "--out",
        "run",
        "--device",
        "cpu",
        *SMALL,
    ]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert ("decoupling" in (place / "run" / "metrics.jsonl").read_text()) == method.endswith("-d")
    longer = run("train", "--resume", "run", "--steps", 4, "--device", "cpu")
    assert longer.exit_code == 0, longer.output
    assert ck.load_backbone("run", precision="float32").channels == 256


@pytest.mark.slow
def test_its_pair_is_compared(place):
    words = ["train-pair", "simsiam:SimSiamDense", "--data", "scenes:24", "--recipe", "simsiam.toml", "--seeds", 1]
    done = start(*words, "--probes", 40, "--objects", 60, "--device", "cpu", "--out", "pair", *SMALL, cwd=place)
    out, err = done.communicate(timeout=500)
    assert done.returncode == 0, err
    runs = pd.read_csv(place / "pair" / "comparison" / "runs.csv")
    assert set(runs["method"]) == {"untrained", "simsiam:SimSiamDense", "simsiam:SimSiamDense-d"}
    assert "simsiam:SimSiamDense-d minus simsiam:SimSiamDense" in out


def test_an_entry_point_is_a_name(place, monkeypatch):
    installed = place / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[couplingkit.methods]\nsimsiam-dense = simsiam:SimSiamDense\n")
    monkeypatch.syspath_prepend(str(place))
    assert {"simsiam-dense", "simsiam-dense-d"} <= set(method_names())
    assert method_kind("simsiam-dense-d").dense
    assert read_recipe("simsiam-dense-d", "simsiam.toml").decoupled


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ("nothing:SimSiam", "cannot be had from nothing:SimSiam .No module named"),
        ("simsiam:Nothing", "cannot be had from simsiam:Nothing"),
        ("simsiam:Settings", "must be a class derived from couplingkit.training.method.Method"),
        ("simsiam:", "cannot be had|must be a class"),
        ("simsiam", "method must be one of ibot, ibot-d"),
    ],
)
def test_what_is_no_method(place, method, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        read_recipe(method, "simsiam.toml")
