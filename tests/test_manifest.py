"""Manifests: the same probes for everyone, and what is not the same is noticed."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from command import run
from PIL import Image

import couplingkit as ck
from couplingkit.errors import ArgumentError, DataError
from couplingkit.probes.drawing import draw_manifest
from couplingkit.probes.manifest import VERSION, read_manifest
from couplingkit.probes.spec import DIRECTIONS
from couplingkit.runs.probe_sets import shipped_sets


@pytest.fixture
def written(probes, tmp_path):
    path = tmp_path / "set.json"
    path.write_text(probes.manifest().text())
    return path


def changed(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_is_read_as_it_was_written(probes, written):
    manifest = read_manifest(written)
    assert manifest == probes.manifest()
    assert manifest.text() == written.read_text()
    assert manifest.fingerprint == probes.fingerprint()
    assert {key for pair in probes.pairs for key in pair.members()} == set(manifest.objects)


def test_it_gives_the_same_probes_from_a_file_in_another_order(scenes, probes, written, tmp_path):
    content = json.loads(scenes[0].read_text())
    content["annotations"].reverse()
    content["info"] = {"note": "another file"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    again = ck.ProbeSet.from_manifest(written, other, scenes[1])
    assert again.fingerprint() == probes.fingerprint()
    assert again.manifest().identity() == probes.manifest().identity()
    first, second = (ck.measure(ck.load_backbone("control:leak:0.3"), found) for found in (probes, again))
    pd.testing.assert_frame_equal(first.rows, second.rows)
    assert ck.compare(first, second)[0].value == 0


def test_without_photos_the_same_pairs_and_no_fingerprint(scenes, probes):
    bare = draw_manifest(scenes[0], name="drawn", count=24, spec=ck.ProbeSpec(design="pairs"))
    assert bare.fingerprint is None
    assert (bare.pairs, bare.objects) == (probes.manifest().pairs, probes.manifest().objects)
    assert bare.identity() == probes.manifest().identity()


def test_lacking_objects_are_named(scenes, probes, written, tmp_path):
    content = json.loads(scenes[0].read_text())
    lost = probes.pairs[3].annotation_b
    content["annotations"] = [one for one in content["annotations"] if one["id"] != lost]
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"lack 1 of the \d+ objects .*annotations {lost}\)"):
        ck.ProbeSet.from_manifest(written, tmp_path / "fewer.json", scenes[1])


@pytest.mark.parametrize("what", ["mask", "category"])
def test_changed_objects_are_named(scenes, probes, written, tmp_path, what):
    content = json.loads(scenes[0].read_text())
    wanted = probes.pairs[0].annotation_a
    one = next(one for one in content["annotations"] if one["id"] == wanted)
    if what == "category":
        one["category_id"] = one["category_id"] % len(content["categories"]) + 1
    else:
        left, top, width, height = one["bbox"]
        one["segmentation"] = [[left, top, left + width, top, left + width, top + height, left, top + height]]
        one["area"] = width * height
    (tmp_path / "changed.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"another mask or category \(annotations {wanted}\)"):
        ck.ProbeSet.from_manifest(written, tmp_path / "changed.json", scenes[1])


def test_other_photos_are_noticed_before_any_number(scenes, written, tmp_path):
    shutil.copytree(scenes[1], tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB")).copy()
        Image.fromarray(pixels ^ 1).save(path)
    words = ["--annotations", scenes[0], "--images", tmp_path / "images", "--out", tmp_path / "run"]
    done = run("measure", "control:cell", "--probes", written, *words)
    assert done.exit_code == 2
    assert "other pictures here than its manifest promises" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_the_photos_behind_the_objects_count(scenes, tmp_path):
    """Part of the fingerprint where they are shown, and missed where they are missing."""
    shutil.copytree(scenes[1], tmp_path / "images")
    spec = ck.ProbeSpec(canvas="image")
    behind = ck.ProbeSet.from_coco(scenes[0], tmp_path / "images", count=4, spec=spec)
    path = tmp_path / "set.json"
    path.write_text(behind.manifest().text())
    used = {behind.index.image_of(key) for pair in behind.pairs for key in pair.members()}
    backdrop = next(pair.backdrop for pair in behind.pairs if pair.backdrop not in used)
    name = behind.index.images[backdrop].file_name
    pixels = np.asarray(Image.open(tmp_path / "images" / name).convert("RGB"))
    Image.fromarray(255 - pixels).save(tmp_path / "images" / name)
    with pytest.raises(DataError, match="other pictures"):
        ck.ProbeSet.from_manifest(path, scenes[0], tmp_path / "images").fingerprint()
    content = json.loads(scenes[0].read_text())
    content["images"] = [image for image in content["images"] if image["id"] != backdrop]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != backdrop]
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"photos behind the probe set drawn \(images {backdrop}\)"):
        ck.ProbeSet.from_manifest(path, tmp_path / "fewer.json", scenes[1])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda content: content.update(version=VERSION + 1), "update couplingkit"),
        (lambda content: content.update(version=1), "make it again"),
        (lambda content: content.pop("pairs"), "not whole: .*`pairs`"),
        (lambda content: content["pairs"].pop(2), "not whole"),
        (lambda content: content["pairs"][2].pop(), "not whole"),
        (lambda content: content["objects"].popitem(), "not whole"),
        (lambda content: content["spec"].update(shine=3), "not known here"),
        (lambda content: content["spec"].update(gap=-1), "gap must be between"),
        (lambda content: content.pop("spec"), "not whole"),
        (lambda content: content.update(annotations="x"), "not whole"),
        (lambda content: content["annotations"].update(scenes=3), "not whole"),
        (lambda content: content["pairs"][0].__setitem__(4, "up"), "not whole"),
        (lambda content: content["pairs"][0].__setitem__(1, "1"), "not whole"),
        (lambda content: content["spec"].update(canvas="image"), "no photo behind it"),
    ],
)
def test_what_is_no_whole_manifest_is_refused(scenes, written, change, word):
    with pytest.raises(DataError, match=word):
        ck.ProbeSet.from_manifest(changed(written, change), *scenes)


def test_no_file_no_json(tmp_path, scenes):
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="no valid JSON"):
        read_manifest(tmp_path / "bad.json")
    done = run("measure", "control:cell", "--probes", "scenes_50", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "near: scenes_500" in done.stderr


def test_make_then_measure_finds_the_annotations_by_itself(scenes, tmp_path, monkeypatch):
    """In COCO's own folders: annotations/ beside the photos."""
    home = tmp_path / "coco"
    shutil.copytree(scenes[1], home / "val2017")
    (home / "annotations").mkdir()
    shutil.copy(scenes[0], home / "annotations" / "instances_val2017.json")
    monkeypatch.chdir(tmp_path)
    words = ["--annotations", "coco/annotations/instances_val2017.json", "--images", "coco/val2017"]
    done = run("probes", "make", *words, "--probes", 12, "--gap", 24, "--out", "sets/val.json")
    assert done.exit_code == 0, done.output
    assert "fingerprint" in done.stdout
    for name, more in (("one", []), ("two", words[:2])):
        done = run(
            "measure", "control:leak:0.2", "--probes", "sets/val.json", "--images", "coco/val2017", *more, "--out", name
        )
        assert done.exit_code == 0, done.output
    direct = run("measure", "control:leak:0.2", *words, "--probes", 12, "--gap", 24, "--out", "three")
    assert direct.exit_code == 0, direct.output
    assert len({(tmp_path / name / "rows.csv").read_bytes() for name in ("one", "two", "three")}) == 1
    (home / "annotations" / "instances_val2017.json").rename(tmp_path / "elsewhere.json")
    done = run("measure", "control:cell", "--probes", "sets/val.json", "--images", "coco/val2017", "--out", "four")
    assert done.exit_code == 2
    assert "give it with --annotations" in done.stderr


@pytest.mark.parametrize(
    ("words", "word"), [(["--gap", 20], "--gap is decided"), (["--min-area", 10], "--min-area is decided")]
)
def test_what_the_set_decides_is_not_asked_again(scenes, written, tmp_path, words, word):
    data = ["--annotations", scenes[0], "--images", scenes[1]]
    done = run("measure", "control:cell", "--probes", written, *data, *words, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert word in done.stderr


def test_make_needs_no_photos_and_draws_the_same(scenes, tmp_path):
    for name, images in (("bare", []), ("whole", ["--images", scenes[1]])):
        done = run(
            "probes", "make", "--annotations", scenes[0], *images, "--probes", 30, "--out", tmp_path / f"{name}.json"
        )
        assert done.exit_code == 0, done.output
    bare, whole = (read_manifest(tmp_path / f"{name}.json") for name in ("bare", "whole"))
    assert bare.identity() == whole.identity()
    assert bare.fingerprint is None
    assert whole.fingerprint is not None
    done = run("probes", "make", "--probes", 30, "--out", tmp_path / "x.json")
    assert done.exit_code == 2
    assert "--annotations is needed" in done.stderr


@pytest.mark.slow
def test_five_thousand_probes_take_less_than_a_megabyte(tmp_path):
    from benchmarks.index_size import write_annotations

    write_annotations(tmp_path / "many.json", photos=5000, annotations=36_000)
    manifest = draw_manifest(tmp_path / "many.json", name="val", count=5000, spec=ck.ProbeSpec(design="pairs"))
    assert len(manifest.objects) > 8000
    assert len(manifest.text()) < 1e6


@pytest.mark.slow
def test_the_set_that_is_shipped_is_what_the_built_in_scenes_give(tmp_path):
    """And it says so by itself: without --annotations and --images."""
    listed = run("probes", "sets")
    assert "scenes_500: 500 probes" in listed.stdout
    done = run("measure", "control:leak:0.2", "--probes", "scenes_500", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(tmp_path / "run" / "rows.csv")
    assert (rows["model"] == "control:leak:0.2").sum() == 500


def test_the_same_pairs_look_otherwise(scenes, probes):
    wide = ck.ProbeSet.from_coco(*scenes, count=6, spec=ck.ProbeSpec(gap=64, design="pairs"))
    near = wide.vary(gap=0, room=64)
    for number in range(6):
        one, other = wide[number], near[number]
        assert (one.alone == other.alone).all()
        assert (one.mask_a == other.mask_a).all()
        assert (one.mask_b != other.mask_b).any()
        assert not (other.mask_a & other.mask_b).any()
    assert wide.vary(gap=64).fingerprint() == wide.fingerprint()
    assert near.fingerprint() != wide.fingerprint()
    with pytest.raises(ArgumentError, match="behind them"):
        probes.vary(canvas="image")
    with pytest.raises(ArgumentError, match="third object"):
        ck.ProbeSet.from_coco(*scenes, count=3, spec=ck.ProbeSpec(control=False)).vary(control=True)
    with pytest.raises(ArgumentError, match="room must be"):
        wide.vary(gap=32, room=16)


def test_a_control_that_has_no_room_is_refused(scenes):
    close = ck.ProbeSet.from_coco(*scenes, count=40, spec=ck.ProbeSpec(gap=0, design="pairs")).vary(gap=64)
    with pytest.raises(ArgumentError, match="drawn for smaller ones"):
        close.fingerprint()


@pytest.mark.parametrize(("name", "count", "design"), [("scenes_500", 500, "pairs"), ("scenes_2k", 2048, "ring")])
def test_shipped_sets_are_whole_and_balanced(name, count, design):
    """B stands in each direction in a quarter of the probes, and the set serves gaps up to 64."""
    manifest = read_manifest(shipped_sets()[name])
    directions = [pair.direction for pair in manifest.pairs]
    assert [directions.count(direction) for direction in DIRECTIONS] == [count // 4] * 4
    assert manifest.drawn_gap == 64
    assert manifest.spec == ck.ProbeSpec(design=design)
    assert manifest.fingerprint
