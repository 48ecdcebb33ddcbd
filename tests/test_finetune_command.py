"""`couplingkit finetune` as a user runs it: rows, intervals, the paper's table; a run goes on after a kill."""

import json
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
from command import run, start

from couplingkit.errors import DataError
from couplingkit.evaluation.scores import score_gaps
from couplingkit.figures.paper_tables import paper_table
from couplingkit.runs.evaluation_files import read_evaluations
from couplingkit.runs.published import read_published

FEW = ["--set", "run.batch_size=2", "--set", "head.proposals=30", "--set", "head.samples=8", "--resamples", "100"]
DETECT = ["finetune", "detect", "bundled:ibot", "bundled:ibot-d", "--data", "scenes:8+12", "--recipe", "detect-tiny",
          "--steps", "6", "--seeds", "2", *FEW]  # fmt: skip


@pytest.fixture(scope="module")
def detected(tmp_path_factory):
    out = tmp_path_factory.mktemp("finetune") / "run"
    result = run(*DETECT, "--out", out)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_a_run_says_and_keeps_everything(detected):
    out, said = detected
    assert "6 steps of 2 photos, 2 seeds; networks trained, too." in said
    assert "random:vit_tiny_patch16_224 64 px" in said
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "detections.csv",
        "objects.csv",
        "rows.csv",
        "summary.json",
        "scores.csv",
        "scores.png",
        "training",
    }
    kept = out / "training" / "bundled_ibot-d-seed1"
    assert {path.name for path in kept.iterdir()} == {
        "backbone.safetensors",
        "metrics.jsonl",
        "recipe.toml",
        "trained.pt",
    }
    assert len((kept / "metrics.jsonl").read_text().splitlines()) == 6
    assert not out.with_name("run.unfinished").exists()


def test_what_is_read_back_is_what_was_written_and_derives_from_its_rows(detected):
    out, _ = detected
    found = read_evaluations(out)
    assert [(one.name, one.task) for one in found.evaluations][:2] == [
        ("bundled:ibot", "box-ap"),
        ("bundled:ibot", "mask-ap"),
    ]
    one = found.of("bundled:ibot-d", "box-ap")
    assert {"AP50", "AP75", "over_seeds"} <= set(one.extras)
    assert one.extras["over_seeds"].value == pytest.approx(one.score.value)
    objects = pd.read_csv(out / "objects.csv")
    assert set(objects["seed"]) == {0, 1}
    (gap, *rest) = score_gaps(one, found.of("bundled:ibot", "box-ap"))
    assert gap.effect == "score" and rest[-1].effect == "over_seeds"
    assert gap.estimate.value == pytest.approx(one.score.value - found.of("bundled:ibot", "box-ap").score.value)


def test_the_same_command_has_nothing_to_do(detected):
    result = run(*DETECT, "--out", detected[0])
    assert result.exit_code == 0 and "nothing to do" in result.output


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table.drop(columns="found"),
        lambda table: table.assign(found=1023),
        lambda table: table.iloc[: len(table) // 2],
        lambda table: table.assign(score="high"),
    ],
)
def test_rows_that_say_something_else_are_refused(detected, tmp_path, damage):
    shutil.copytree(detected[0], tmp_path / "run")
    path = tmp_path / "run" / "detections.csv"
    damage(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(DataError):
        read_evaluations(tmp_path / "run")


def test_compare_report_plot_and_tables_take_it(detected, tmp_path):
    out, _ = detected
    compared = run("compare", out, "--out", tmp_path / "compared")
    assert compared.exit_code == 0 and "over_seeds" in compared.output
    assert run("report", out, "--out", tmp_path / "report.html").exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert "mask AP" in page and "Scores of what was trained on the networks" in page and "frozen features" not in page
    assert run("plot", out, "--out", tmp_path / "again").exit_code == 0
    shown = run("tables", out, "--as", "paper", "--format", "latex")
    assert shown.exit_code == 0 and r"\toprule" in shown.output and "(42.3)" in shown.output
    none = run("tables", tmp_path / "again")
    assert none.exit_code == 2 and "none of the 1 folders" in none.output


def test_another_network_is_no_row_of_the_papers(detected):
    """bundled:ibot has the name of the paper's iBOT, and is a small ViT: its score must not stand beside 42.3."""
    table = paper_table([read_evaluations(detected[0])], read_published()).set_index("method")
    assert table.loc["iBOT", "COCO Det"] == "(42.3)"
    assert table.loc["iBOT", "scenes:8+12 box AP"] == "-"
    assert table.loc["bundled:ibot", "COCO Det"] == "-"
    assert table.loc["bundled:ibot", "scenes:8+12 box AP"] != "-"


def test_published_values_name_their_source():
    published = read_published()
    columns = {column.name for column in published.column}
    assert all(method.source for method in published.method if method.scores)
    assert all(set(method.scores) <= columns for method in published.method)


def test_segment_is_scored_at_the_photos_own_pixels(tmp_path):
    result = run(
        "finetune", "segment", "bundled:ibot-d", "--data", "scenes:8+12", "--recipe", "segment-tiny", "--steps", "3",
        "--frozen", "--set", "run.batch_size=2", "--resamples", "100", "--out", tmp_path / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "run" / "rows.csv")
    assert rows[rows["model"] == "bundled:ibot-d"].groupby("photo")["labelled"].sum().tolist() == [320 * 384] * 12
    one = read_evaluations(tmp_path / "run").of("bundled:ibot-d", "segment")
    sums = rows[rows["model"] == "bundled:ibot-d"].groupby("class")[["intersection", "predicted", "labelled"]].sum()
    there = sums[sums["labelled"] > 0]
    iou = there["intersection"] / (there["predicted"] + there["labelled"] - there["intersection"])
    assert one.score.value == pytest.approx(iou.mean(), abs=1e-12)
    assert "networks frozen" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detect", "bundled:ibot", "--data", "scenes:8+12"], "needs TASK, a MODEL, --data and --recipe"),
        (["detect", "bundled:ibot", "--data", "scenes:8+12", "--recipe", "detect-tinny"], "detect-tiny"),
        (["segment", "bundled:ibot", "--data", "scenes:8+12", "--recipe", "detect-tiny"], "is for the task 'detect'"),
        (["detect", "bundled:ibot", "--data", "scene:8", "--recipe", "detect-tiny"], "data must be one of"),
        (["detect", "bundled:ibot", "--data", "coco:/nowhere", "--recipe", "detect-tiny"], "is no folder"),
        (["detect", "bundled:ibot", "--data", "voc:/tmp", "--recipe", "voc-c4"], "holds no VOC2007"),
        (["detect", "random:resnet18", "--data", "scenes:8+12", "--recipe", "detect-tiny"], "take fpn or c4"),
        (["detect", "random:torchvision:resnet18", "--data", "scenes:8+12", "--recipe", "coco-fpn-1x"], "of timm's"),
        (["detect", "bundled:ibot", "--data", "scenes:2+3", "--recipe", "detect-tiny"], "must be at most the 2 images"),
        (["detect", "bundled:ibot", "--data", "scenes:8+3", "--recipe", "detect-tiny", "--set", "a.b=1"], "no key 'a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence_before_any_work(tmp_path, words, said):
    result = run("finetune", *words, "--out", tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert said in result.output and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_a_photo_in_both_halves_is_refused(scenes, tmp_path):
    half = f'images = "{scenes[1]}"\nannotations = "{scenes[0]}"\n'
    (tmp_path / "own.toml").write_text(f"[train]\n{half}[test]\n{half}")
    result = run("finetune", "detect", "bundled:ibot", "--data", tmp_path / "own.toml", "--recipe", "detect-tiny",
                 "--out", tmp_path / "run")  # fmt: skip
    assert result.exit_code == 2 and "stand in both halves" in result.output


def test_recipes_say_where_they_were_run():
    listed = run("finetune", "--list").output.splitlines()
    assert {line.split()[0]: line.endswith("not run") for line in listed} == {
        "ade20k-upernet": True, "coco-fpn-1x": True, "coco-vit-1x": True, "detect-tiny": False, "segment-tiny": False,
        "voc-c4": True,
    }  # fmt: skip


def started(out, *more, processes=1):
    words = ["finetune", "detect", "bundled:ibot", "--data", "scenes:8+6", "--recipe", "detect-tiny", "--steps", "12",
             "--set", "run.checkpoint_every=3", *FEW, "--device", "cpu", *more, "--out", out]  # fmt: skip
    return start(*words, processes=processes)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    whole = started(tmp_path / "whole")
    assert whole.wait(300) == 0, whole.stdout.read()
    process = started(tmp_path / "killed")
    pattern = "killed.unfinished/parts/*/run/checkpoints/step-00000006/step.json"
    while not list(tmp_path.glob(pattern)) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = started(tmp_path / "killed")
    assert again.wait(300) == 0, again.stdout.read()
    for name in ("detections.csv", "objects.csv", "scores.csv", "training/bundled_ibot-seed0/trained.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_train_and_score_together(tmp_path):
    done = started(tmp_path / "two", processes=2)
    assert done.wait(500) == 0, done.communicate()
    names = [one.name for one in read_evaluations(tmp_path / "two").evaluations if one.task == "box-ap"]
    assert names == ["bundled:ibot", "random:vit_tiny_patch16_224 64 px"]
    log = (tmp_path / "two" / "training" / "bundled_ibot-seed0" / "metrics.jsonl").read_text().splitlines()
    assert np.isfinite([json.loads(line)["total"] for line in log]).all() and len(log) == 12
