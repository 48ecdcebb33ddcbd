"""`couplingkit affinity` and `couplingkit explore` as their user runs them."""

import json

import numpy as np
import pandas as pd
import pytest
from command import run
from PIL import Image

from couplingkit.evaluation.localization import SCORE_COLUMNS
from couplingkit.metrics.localization import SCORES


@pytest.fixture
def photo(scenes):
    return sorted(scenes[1].iterdir())[0]


@pytest.mark.parametrize("suffix", ["pdf", "png", "svg"])
def test_points_of_a_picture(photo, tmp_path, suffix):
    out = tmp_path / f"affinity.{suffix}"
    done = run(
        *("affinity", "random:test_vit", "control:cell", "--image", photo, "--point", "20,30", "--point", "90,80"),
        *("--out", out, "--width", "column", "--upsampling", "nearest", "--range", "0,1"),
    )
    assert done.exit_code == 0, done.output
    assert out.stat().st_size > 5000
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_folder_gets_figure_maps_and_where_they_come_from(photo, tmp_path):
    out = tmp_path / "run"
    words = ("affinity", "random:test_vit", "--layer", "0,2", "--image", photo, "--point", "20,30", "--out", out)
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {
        *(".couplingkit", "affinity.pdf", "affinity.png", "maps.npz", "pictures.npz", "summary.json")
    }
    summary = json.loads((out / "summary.json").read_text())
    assert [model["name"] for model in summary["models"]] == ["random:test_vit (layer 0)", "random:test_vit (layer 2)"]
    assert summary["queries"] == [{"image": photo.name, "x": 20.0, "y": 30.0}]
    with np.load(out / "maps.npz") as arrays:
        assert arrays["map_1_0"].shape == (10, 10)
        assert np.abs(arrays["map_1_0"]).max() <= 1
    again = run(*words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_annotated_objects_are_drawn_and_scored(data, tmp_path):
    out = tmp_path / "run"
    words = (*data, "--examples", 2, "--objects", 25, "--min-area", 1000, "--out", out)
    words = (*words, "--label", "random", "--label", "leaky")
    done = run("affinity", "random:test_vit", "control:leak:0.3", *words)
    assert done.exit_code == 0, done.output
    for word in (*SCORES, "leaky minus random", "25 of 25"):
        assert word in done.stdout
    rows = pd.read_csv(out / "rows.csv")
    assert list(rows.columns) == SCORE_COLUMNS
    assert len(rows) == 50
    summary = json.loads((out / "summary.json").read_text())
    first = summary["scores"][0]
    mine = rows[rows["model"] == "random"]
    assert first["statistics"]["auroc_px"]["value"] == pytest.approx(mine["auroc_px"].mean())
    assert first["statistics"]["auroc_px"]["low"] < first["statistics"]["auroc_px"]["high"]
    paired = rows.pivot_table(index="annotation", columns="model", values="contrast")
    difference = summary["differences"][0]["statistics"]["contrast"]
    assert difference["value"] == pytest.approx((paired["leaky"] - paired["random"]).mean())
    leak = rows[["other", "background", "leak"]].dropna()
    assert np.allclose(leak["other"] - leak["background"], leak["leak"])
    assert first["statistics"]["leak"]["objects"] == mine["leak"].notna().sum()
    categories = pd.read_csv(out / "categories.csv")
    assert set(categories["model"]) == set(rows["model"])
    assert len(summary["queries"]) == 2
    assert len({query["image"] for query in summary["queries"]}) == 2


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_scores_in_every_format(data, tmp_path, form):
    words = ("--objects", 15, "--examples", 1, "--format", form, "--out", tmp_path / "run")
    done = run("affinity", "control:leak:0.3", *data, *words)
    assert done.exit_code == 0, done.output
    assert "auroc" in done.stdout
    if form == "json":
        assert json.loads(done.stdout)["scores"][0]["counts"]["objects"] == 15


def test_a_probe_without_and_with_its_neighbour(data, tmp_path):
    out = tmp_path / "run"
    done = run("affinity", "random:test_vit", "control:cell", "--probe", 17, *data, "--out", out)
    assert done.exit_code == 0, done.output
    assert "random:test_vit: affinity on A" in done.stdout
    assert "undefined -> " in done.stdout
    summary = json.loads((out / "summary.json").read_text())
    assert summary["probe"]["number"] == 17
    manifest = tmp_path / "measured"
    assert run("measure", "control:leak:0.3", *data, "--probes", 18, "--out", manifest).exit_code == 0
    rows = pd.read_csv(manifest / "rows.csv")
    measured = rows[rows["probe"] == 17].iloc[0]
    assert summary["probe"]["annotation_a"] == measured["annotation_a"]
    assert summary["probe"]["annotation_b"] == measured["annotation_b"]
    # JSON has no NaN.
    assert "NaN" not in (out / "summary.json").read_text()


def test_what_fails_is_said_and_the_rest_is_drawn(photo, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 no picture")
    out = tmp_path / "run"
    words = ("--image", photo, "--image", broken, "--point", "20,30", "--point", "9999,3", "--out", out)
    done = run("affinity", "random:test_vit", "nonesuch", *words)
    assert done.exit_code == 2
    assert "3 failed" in done.stderr
    for word in ("broken.jpg cannot be read", "9999,3 lies outside", "nonesuch"):
        assert word in done.stderr
    assert "Traceback" not in done.output
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["queries"]) == len(summary["models"]) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to look at"),
        (("--image", "PHOTO"), "at least one --point"),
        (("--image", "PHOTO", "--point", "5"), "not X,Y"),
        (("--image", "PHOTO", "--point", "5000,5"), "lies outside"),
        (("--image", "none.png", "--point", "5,5"), "is missing"),
        (("--image", "PHOTO", "--point", "5,5", "--out", "map.bmp"), "must end in"),
        (("--image", "PHOTO", "--point", "5,5", "--range", "1,0"), "go up"),
        (("--image", "PHOTO", "--point", "5,5", "--range", "0,inf"), "finite"),
        (("--image", "PHOTO", "--point", "5,5", "--label", "a", "--label", "b"), "once per model"),
        (("--image", "PHOTO", "--point", "5,5", "--layer", "0,1,2,3,4,5,6,7,8,9", "--width", "column"), "at most 9"),
        (("--annotations", "JSON", "--images", "FOLDER", "--probe", "100000000"), "range"),
        (("--image", "PHOTO", "--annotations", "JSON", "--images", "FOLDER"), "give one of them"),
        (("--annotations", "JSON"), "--annotations needs --images"),
        (("--images", "FOLDER"), "--annotations, which is missing"),
        (("--annotations", "JSON", "--images", "FOLDER", "--point", "5,5"), "belongs to --image"),
        (("--image", "PHOTO", "--point", "5,5", "--probe", "3"), "--probe needs"),
        (("--annotations", "JSON", "--images", "FOLDER", "--min-area", "9999999"), "no eligible object"),
    ],
)
def test_bad_input_is_one_sentence(scenes, photo, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    named = {"PHOTO": photo, "JSON": scenes[0], "FOLDER": scenes[1]}
    done = run("affinity", "random:test_vit", *(named.get(word, word) for word in words))
    assert done.exit_code == 2
    assert sentence in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_explore_writes_one_page(data, scenes, photo, tmp_path):
    out = tmp_path / "explorer.html"
    done = run("explore", "random:test_vit", "control:cell", *data, "--examples", 2, "--out", out)
    assert done.exit_code == 0, done.output
    page = out.read_text()
    assert "random:test_vit: input 160 x 160 px" in page
    assert page.count("data:image/jpeg") == 2
    assert str(scenes[1]) not in page
    with_masks = tmp_path / "one.html"
    done = run("explore", "random:test_vit", "--image", photo, "--annotations", scenes[0], "--out", with_masks)
    assert done.exit_code == 0, done.output
    assert '"runs"' in with_masks.read_text()


def test_explore_goes_on_past_what_fails(photo, scenes, tmp_path):
    other = tmp_path / "mine.png"
    Image.new("RGBA", (50, 40), (10, 20, 30, 128)).save(other)
    out = tmp_path / "explorer.html"
    done = run(
        *("explore", "random:test_vit", "nonesuch", "--image", photo, "--image", other, "--image", tmp_path / "no.png"),
        *("--annotations", scenes[0], "--exact", "--out", out),
    )
    assert done.exit_code == 2
    assert "2 failed" in done.stderr
    assert "does not know mine.png" in done.stderr
    assert out.read_text().count("data:image/jpeg") == 2
    assert run("explore", "random:test_vit", "--image", photo, "--out", tmp_path / "page.txt").exit_code == 2
    assert run("explore", "random:test_vit", "--out", tmp_path / "page.html").exit_code == 2
