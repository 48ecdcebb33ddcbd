"""`couplingkit evaluate`, `relate`, `compare` and `report` of scores, as their user runs them."""

import json

import numpy as np
import pandas as pd
import pytest
from command import run, start

import couplingkit as ck
from couplingkit.errors import DataError
from couplingkit.evaluation import running
from couplingkit.runs.evaluation_files import read_evaluations

TASKS = "knn-seg,linear-seg,objects,discover"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluate") / "run"
    found = run(
        "evaluate", TASKS, "bundled:ibot", "bundled:ibot-d", "--data", "scenes:40+40", "--coupling", "scenes_500",
        "--precision", "float32", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    return out, found


def test_a_table_has_every_model_a_random_one_floor_and_ceiling(evaluated):
    out, found = evaluated
    for word in (
        "bundled:ibot ",
        "bundled:ibot-d ",
        "random:vit_tiny_patch16_224",
        "(floor)",
        "ceiling",
        "k-NN mIoU %",
    ):
        assert word in found.stdout
    assert "neighbour's" in found.stdout and "elsewhere" in found.stdout
    assert {path.name for path in out.iterdir()} >= {
        "rows.csv", "objects.csv", "summary.json", "scores.csv", "scores.png", "scores.pdf", "coupling",
    }  # fmt: skip
    assert not out.with_name("run.unfinished").exists()


def test_numbers_derive_from_rows_and_are_those_of_python(evaluated):
    out, _ = evaluated
    read = read_evaluations(out)
    assert {one.task for one in read.evaluations} == {
        "knn-seg", "linear-seg", "objects", "objects-linear", "tokencut", "lost",
    }  # fmt: skip
    ibot = ck.load_backbone("bundled:ibot", precision="float32", device="cpu")
    (python,) = ck.evaluate(ibot, "knn-seg", ck.open_labelled_data("scenes:40+40"))
    assert read.of("bundled:ibot", "knn-seg").score.value == pytest.approx(python.score.value, abs=2e-4)
    rows = pd.read_csv(out / "rows.csv", dtype={"photo": str})
    own = rows[(rows["model"] == "bundled:ibot") & (rows["task"] == "knn-seg")]
    sums = own.groupby("class")[["intersection", "predicted", "labelled"]].sum()
    sums = sums[sums["labelled"] > 0]
    iou = sums["intersection"] / (sums["predicted"] + sums["labelled"] - sums["intersection"])
    assert read.of("bundled:ibot", "knn-seg").score.value == pytest.approx(iou.mean())


def test_the_same_command_again_has_nothing_to_do(evaluated):
    out, found = evaluated
    again = run(
        "evaluate", TASKS, "bundled:ibot", "bundled:ibot-d", "--data", "scenes:40+40", "--coupling", "scenes_500",
        "--precision", "float32", "--device", "cpu", "--out", out,
    )  # fmt: skip
    assert again.exit_code == 0 and "nothing to do" in again.stderr
    assert again.stdout == found.stdout
    other = run("evaluate", "knn-seg", "bundled:ibot", "--data", "scenes:40+40", "--out", out)
    assert other.exit_code == 2 and "holds another run" in other.stderr


def test_a_run_that_was_changed_is_refused(evaluated, tmp_path):
    import shutil

    out, _ = evaluated
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    summary = json.loads((copy / "summary.json").read_text())
    summary["evaluations"][0]["score"]["value"] += 0.01
    (copy / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(DataError, match="by its rows"):
        read_evaluations(copy)
    (copy / "rows.csv").write_text("".join((out / "rows.csv").read_text().splitlines(keepends=True)[:-40]))
    with pytest.raises(DataError):
        read_evaluations(copy)


def test_scores_stand_over_coupling(evaluated, tmp_path):
    out, _ = evaluated
    found = run("relate", out, "--out", tmp_path / "relation")
    assert found.exit_code == 0, found.stderr
    assert "no inference" in found.stdout
    points = pd.read_csv(tmp_path / "relation" / "points.csv")
    assert set(points["quantity"]) == {"cr_mean", "specificity", "displacement"}
    measured = ck.read_run(out / "coupling")
    ibot = next(one for one in measured.measurements if one.name == "bundled:ibot")
    row = points[(points["model"] == "bundled:ibot") & (points["quantity"] == "specificity")].iloc[0]
    assert row["coupling"] == pytest.approx(ibot.summary.estimates["specificity"].value)
    pairs = pd.read_csv(tmp_path / "relation" / "pairs.csv")
    assert set(pairs["plain"]) == {"bundled:ibot"} and set(pairs["decoupled"]) == {"bundled:ibot-d"}
    assert (tmp_path / "relation" / "relation.png").stat().st_size > 10_000


def test_scores_are_compared_photo_by_photo(evaluated, tmp_path):
    out, _ = evaluated
    found = run("compare", out, "--baseline", "bundled:ibot-d", "--out", tmp_path / "gaps")
    assert found.exit_code == 0, found.stderr
    table = pd.read_csv(tmp_path / "gaps" / "comparison.csv")
    one = table[(table["model"] == "bundled:ibot") & (table["task"] == "knn-seg") & (table["effect"] == "score")].iloc[
        0
    ]
    read = read_evaluations(out)
    scores = [read.of(name, "knn-seg").score.value for name in ("bundled:ibot", "bundled:ibot-d")]
    assert one["difference"] == pytest.approx(scores[0] - scores[1])
    assert (table["p_holm"].dropna() >= table["p"].dropna()).all()
    unknown = run("compare", out, "--baseline", "dino", "--out", tmp_path / "no")
    assert unknown.exit_code == 2 and "dino" in unknown.stderr


def test_a_report_shows_scores_beside_coupling(evaluated, tmp_path):
    out, _ = evaluated
    found = run("report", out, "--out", tmp_path / "page.html")
    assert found.exit_code == 0, found.stderr
    page = (tmp_path / "page.html").read_text()
    for word in ("Scores of frozen features: run", "k-NN mIoU", "Scores over coupling", "specificity"):
        assert word in page


def test_a_run_that_was_stopped_goes_on_with_what_it_has(tmp_path, monkeypatch):
    """The second chunk of photos fails; the next run does not read the first one again."""
    data = ck.open_labelled_data("scenes:40+40")
    place = ck.EvaluationPlace(tmp_path / "run")
    reads = []
    plain = running.read_test

    def stopping(network, data, places, *arguments, **options):
        reads.append(places[0])
        if len(reads) == 2:
            raise KeyboardInterrupt
        return plain(network, data, places, *arguments, **options)

    options = ck.BackboneOptions(precision="float32", device="cpu")
    models = [ck.ModelChoice("bundled:ibot", options)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running, "read_test", stopping)
        ck.evaluate_models(models, ["knn-seg"], data, place=place)
    assert (tmp_path / "run.unfinished").is_dir()
    went_on = []
    with monkeypatch.context() as patch:
        patch.setattr(running, "read_test", lambda *a, **o: went_on.append(a[2][0]) or plain(*a, **o))
        found = ck.evaluate_models(models, ["knn-seg"], data, place=place)
    assert went_on[0] == 32 and not (tmp_path / "run.unfinished").exists()
    whole = ck.evaluate_models(models, ["knn-seg"], data)
    for one, other in zip(found.evaluations, whole.evaluations, strict=True):
        assert one.rows.equals(other.rows) and one.score == other.score


def test_a_planted_leak_is_another_model(tmp_path):
    found = run(
        "evaluate", "knn-seg", "bundled:ibot-d", "--data", "scenes:30+30", "--leak", "0,.5", "--reach", "1",
        "--format", "csv", "--out", tmp_path / "dose",
    )  # fmt: skip
    assert found.exit_code == 0, found.stderr
    names = [line.split(",")[0] for line in found.stdout.splitlines()[1:]]
    assert names[:2] == ["bundled:ibot-d", "bundled:ibot-d+leak:0.5:1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["knn", "bundled:ibot", "--data", "scenes:4+4"], "task must be of"),
        (["knn-seg", "--data", "scenes:4+4"], "name a MODEL"),
        (["knn-seg", "bundled:ibot"], "there are no photos"),
        (["knn-seg", "bundled:ibot", "--data", "scenes:4"], "TRAIN+TEST"),
        (["knn-seg", "bundled:ibot", "--data", "scenes:4+4", "--leak", "2"], "leak must be between"),
        (["knn-seg", "bundled:ibot", "--data", "scenes:4+4", "--coupling", "no_such_set"], "no_such_set"),
        (["knn-seg", "bundled:ibot", "--data", "scenes:4+4", "--annotations", "x.json"], "either --data"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, words, says):
    found = run("evaluate", *words, "--out", tmp_path / "x")
    assert found.exit_code == 2 and says in found.stderr
    assert "Traceback" not in found.stderr and not (tmp_path / "x").exists()


def test_runs_of_two_kinds_are_not_compared(evaluated, tmp_path):
    out, _ = evaluated
    found = run("compare", out, out / "coupling", "--out", tmp_path / "x")
    assert found.exit_code == 2 and "relate" in found.stderr
    alone = run("relate", out / "coupling", "--out", tmp_path / "x")
    assert alone.exit_code == 2 and "no scores" in alone.stderr


@pytest.mark.slow
def test_on_real_photos_the_real_network_is_above_its_random_self(real_coco, real_weights):
    data = ck.halves_of(*real_coco, classes="super")
    file = real_weights / "vit_tiny_patch16_224_tinyimagenet_ft.pth"
    options = ck.BackboneOptions(precision="float32", device="cpu")
    found = ck.evaluate_models(
        [ck.ModelChoice(f"vit_tiny_patch16_224@{file}", options)], ["knn-seg", "linear-seg"], data
    )
    trained, random = found.models
    for task in ("knn-seg", "linear-seg"):
        gap = ck.compare_scores(found.of(trained, task), found.of(random, task))
        assert gap.estimate.low > 0, task
        assert np.isfinite(found.of(trained, task).score.low) and found.of(trained, task).ceiling > 0.7


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tmp_path):
    words = ["evaluate", "knn-seg,linear-seg", "bundled:ibot", "--data", "scenes:40+40", "--device", "cpu"]
    found = [
        start(*words, "--precision", "float32", "--out", tmp_path / str(count), processes=count) for count in (1, 2)
    ]
    for one in found:
        out, errors = one.communicate(timeout=300)
        assert one.returncode == 0, errors + out
    first, second = ((tmp_path / name / "rows.csv").read_bytes() for name in ("1", "2"))
    assert first == second
