"""X beside X-D: the command that trains and compares them, and the differences it prints."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from command import run
from rates import with_rates
from safetensors import safe_open

import couplingkit as ck
from couplingkit.errors import ArgumentError
from couplingkit.features.names import BUNDLED, bundled_names
from couplingkit.features.own_format import FORMAT
from couplingkit.figures.pair_plots import pair_figure
from couplingkit.figures.training_plots import coupling_curves
from couplingkit.metrics.bootstrap import Estimate
from couplingkit.runs.pair_differences import PairDifference, pair_differences, verdicts
from couplingkit.runs.pair_files import run_table
from couplingkit.training.recipe import read_recipe

RECIPE = """
[method]
architecture = "vit_tiny_patch16_224"
options = { img_size = 32, patch_size = 8, embed_dim = 24, depth = 1, num_heads = 2 }
hidden = 16
bottleneck = 8
prototypes = 12
frozen_epochs = 0

[[views]]
size = 32

[[views]]
size = 32

[decoupling]
share = 0.5

[optimizer]
lr = 3e-3
warmup_epochs = 0

[run]
batch_size = 8
steps = 4
checkpoint_every = 2
workers = 0
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    (folder / "tiny.toml").write_text(RECIPE)
    words = ["train-pair", "ibot", "--data", "scenes:24", "--recipe", str(folder / "tiny.toml"), "--seeds", "2"]
    words += [
        "--probes",
        "40",
        "--objects",
        "40",
        "--probe-every",
        "2",
        "--device",
        "cpu",
        "--out",
        str(folder / "out"),
    ]
    done = run(*words)
    assert done.exit_code == 0, done.output
    return words, folder / "out", done


def test_a_pair_is_trained_compared_and_drawn(pair):
    _, out, done = pair
    for method in ("ibot", "ibot-d"):
        for seed in (0, 1):
            run = out / method / f"seed-{seed}"
            assert json.loads((run / "run.json").read_text())["method"] == method
            assert (run / "coupling.csv").exists()
    held = {path.name for path in (out / "comparison").iterdir()}
    figures = {f"{name}.{suffix}" for name in ("pair", "curves", "affinity") for suffix in ("png", "pdf")}
    assert figures | {"table.md", "runs.csv", "differences.csv", "rows.csv", "objects.csv", "ibot.toml"} <= held
    assert (out / "comparison" / "table.md").read_text().strip() in done.stdout
    runs = pd.read_csv(out / "comparison" / "runs.csv")
    rows, objects = (pd.read_csv(out / "comparison" / f"{name}.csv") for name in ("rows", "objects"))
    rows = with_rates(rows)
    for run in runs.to_dict("records"):
        name = f"{run['method']}, seed {run['seed']}"
        assert rows[rows["model"] == name]["cr"].mean() == pytest.approx(run["cr_mean"])
        own = objects[(objects["model"] == name) & objects["measured"]]
        assert (own["predicted"] == own["category"]).mean() == pytest.approx(run["accuracy"])
        assert (own["linear_predicted"] == own["category"]).mean() == pytest.approx(run["linear"])
    assert list(runs["method"]) == ["untrained", "untrained", "ibot", "ibot-d", "ibot", "ibot-d"]
    assert "ibot is not above the untrained network in" in done.stdout, "four steps teach nothing"


def test_differences_are_those_of_the_rows(pair):
    _, out, _ = pair
    rows = with_rates(pd.read_csv(out / "comparison" / "rows.csv"))
    found = pd.read_csv(out / "comparison" / "differences.csv")
    assert set(zip(found["first"], found["second"], strict=True)) == {
        ("ibot-d", "ibot"),
        ("ibot", "untrained"),
        ("ibot-d", "untrained"),
    }
    found = found[(found["first"] == "ibot-d") & (found["second"] == "ibot")].set_index(["quantity", "seed"])
    per_seed = []
    for seed in (0, 1):
        plain, decoupled = (
            rows[rows["model"] == f"{method}, seed {seed}"]["cr"].to_numpy() for method in ("ibot", "ibot-d")
        )
        per_seed.append(decoupled - plain)
        assert found.loc[("cr_mean", str(seed)), "value"] == pytest.approx(np.nanmean(decoupled - plain))
    means = [np.nanmean(gaps) for gaps in per_seed]
    over_seeds = found.loc[("cr_mean", "all")]
    assert over_seeds["value"] == pytest.approx(np.mean(means))
    # Student's interval of two seeds: t(0.975, 1) = 12.706 times the standard error.
    half = 12.706 * np.std(means, ddof=1) / np.sqrt(2)
    assert over_seeds["high"] - over_seeds["value"] == pytest.approx(half, rel=1e-3)
    assert over_seeds["scenes_low"] < over_seeds["value"] < over_seeds["scenes_high"]
    # Each seed's ratio of means is one of its own; their mean is no ratio of all rows.
    of_means = [
        [part["similarity_biased"].mean() / part["similarity_true"].mean() for part in of_method]
        for of_method in (
            [
                own.assign(
                    similarity_biased=np.pi / 2 - own["theta_a2_b"], similarity_true=np.pi / 2 - own["theta_a1_b"]
                )
                for own in (rows[rows["model"] == f"{method}, seed {seed}"] for seed in (0, 1))
            ]
            for method in ("ibot", "ibot-d")
        )
    ]
    expected = np.mean(np.subtract(of_means[1], of_means[0]))
    assert found.loc[("cr", "all"), "value"] == pytest.approx(expected)
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_the_same_command_again_trains_nothing_and_another_recipe_is_refused(pair):
    words, out, first = pair
    stamp = (out / "ibot" / "seed-0" / "metrics.jsonl").stat().st_mtime_ns
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert (out / "ibot" / "seed-0" / "metrics.jsonl").stat().st_mtime_ns == stamp
    numbers = [part.stdout.split("| difference")[1] for part in (first, again)]
    assert numbers[0] == numbers[1]
    other = run(*words, "--set", "optimizer.lr=1e-4")
    assert other.exit_code == 2
    assert "another recipe (optimizer.lr)" in other.stderr
    images = run(*(word.replace("scenes:24", "scenes:25") for word in words))
    assert images.exit_code == 2
    assert "was begun on" in images.stderr


@pytest.mark.parametrize(
    ("method", "sentence"),
    [("ibot-d", "name the plain one"), ("moco", "no decoupled version"), ("dino", "no decoupled version")],
)
def test_what_is_no_pair(method, sentence, tmp_path):
    done = run("train-pair", method, "--out", str(tmp_path / "x"))
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "x").exists()


def test_many_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("train-pair", "ibot", "--out", str(tmp_path / "x"))
    assert done.exit_code == 2
    assert "one process" in done.stderr


def test_runs_of_other_seeds_are_no_pair():
    with pytest.raises(ArgumentError, match="seeds of second"):
        pair_differences([], [])


def gap(first, second, quantity, low, high):
    estimate = Estimate((low + high) / 2, low, high)
    return PairDifference(first, second, quantity, "all", estimate, estimate, 100)


def test_what_must_be_known_of_a_pair_is_said():
    good = [
        gap("x", "untrained", "accuracy", 0.01, 0.05),
        gap("x", "untrained", "linear", 0.02, 0.06),
        gap("x", "untrained", "specificity", 0.02, 0.06),
        *(gap("x-d", "x", name, -0.05, -0.01) for name in ("specificity", "leak", "displacement")),
        # What X-D is to the untrained network decides nothing.
        gap("x-d", "untrained", "specificity", -0.05, 0.05),
    ]
    assert verdicts([], good) == []
    worse = [
        gap("x", "untrained", "accuracy", -0.01, 0.05),
        gap("x", "untrained", "specificity", -0.02, 0.06),
        gap("x-d", "x", "leak", -0.05, 0.01),
    ]
    assert verdicts([], worse) == [
        "x is not above the untrained network in 1-NN accuracy of objects over the seeds.",
        "No coupling induced: x's specificity is not above the untrained network's.",
        "x-d's leak is not below x's over the seeds.",
    ]
    # Single seeds are not what is said of a method, and a pair without its untrained network is half of one.
    (said,) = verdicts([], [replace(one, seeds="0") for one in worse])
    assert "One seed says nothing of the method" in said
    assert "not measured" in verdicts([], worse[2:])[0]
    # What goes on from a coupled model need not couple more; X-D has to be below it.
    assert verdicts([], [gap("x", "start", "specificity", -0.1, 0.1), gap("x-d", "start", "leak", -0.1, 0.1)]) == [
        "x-d's leak is not below start's over the seeds."
    ]


def test_figures_refuse_what_they_cannot_draw():
    with pytest.raises(ArgumentError, match="at least one row"):
        pair_figure(run_table([]))
    line = {"cr": 1.0, "cr_low": 0.9, "cr_high": 1.1, "similarity_true_low": -0.1}
    with pytest.raises(ArgumentError, match="same steps"):
        coupling_curves({"x": [[{"step": 0, **line}], [{"step": 5, **line}]]})
    # A run that was looked at more often is drawn after the steps that both share.
    figure = coupling_curves({"x": [[{"step": 0, **line}, {"step": 3, **line}], [{"step": 0, **line}]]})
    assert [len(part.get_xdata()) for part in figure.axes[0].lines][1:3] == [1, 1]
    with pytest.raises(ArgumentError, match="same steps"):
        coupling_curves({"x": []})


def test_every_bundled_model_loads(tmp_path):
    assert bundled_names() == ["ibot", "ibot-d"]
    for name in bundled_names():
        backbone = ck.load_backbone(f"bundled:{name}", precision="float32")
        assert (backbone.stride_px, backbone.channels, backbone.size_px) == (8, 128, (64, 64))
        path = BUNDLED / f"{name}.safetensors"
        assert path.stat().st_size < 3e6
        with safe_open(path, "pt") as held:
            header = json.loads(held.metadata()[FORMAT])
            assert {held.get_slice(key).get_dtype() for key in held.keys()} == {"F16"}  # noqa: SIM118
        # The file says how it was made: by the recipe that is shipped, whatever that leaves to the defaults.
        (tmp_path / "recipe.toml").write_text(header["about"]["recipe"])
        made = read_recipe(name, str(tmp_path / "recipe.toml"))
        assert made == read_recipe(name, "ibot-tiny", [f"run.seed={made.run.seed}"])
        assert header["method"] == name
    with pytest.raises(ck.CouplingKitError, match="couplingkit comes with"):
        ck.load_backbone("bundled:none")
