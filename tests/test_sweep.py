"""Sweeps: every value is what it is alone, and nothing is run twice."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from command import run
from networks import Counting, control_images, counted_hub
from PIL import Image
from rates import with_rates

import couplingkit as ck
from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.probes.manifest import read_manifest
from couplingkit.runs.probe_sets import shipped_sets
from couplingkit.runs.reading import read_run
from couplingkit.study.measuring import measure_variants
from couplingkit.study.sweeping import drawing_spec, sweep, sweep_variants

GAPS = (0, 16, 32, 64)
BASE = ck.ProbeSpec(design="pairs")


@pytest.fixture(scope="module")
def wide(scenes):
    """16 probes that serve all the sweeps below."""
    spec = drawing_spec(BASE, {"gap": GAPS, "canvas": ("mean", "noise", "image"), "object_size": (48, 80)})
    return ck.ProbeSet.from_coco(*scenes, count=16, spec=spec)


def shown(backbone, probes, axis, values):
    """Images that a network was shown in a sweep, the first batch's zero controls left out."""
    counting = Counting()
    counting.name = "control:leak:0.3"
    points, failures = sweep(
        ck.LayeredBackbone([counting]),
        sweep_variants(probes, BASE, axis, values),
        axis,
        values,
        ck.MeasureSettings(batch_size=8),
    )
    assert failures == []
    assert [point.value for point in points] == list(values)
    return len(counting.shown) - control_images(8), counting.shown


@pytest.mark.parametrize(
    ("axis", "values", "passes"),
    [
        ("gap", GAPS, 1 + 3 * 4),
        ("visible", (1.0, 0.8, 0.6, 0.4), 1 + 3 * 4),
        ("canvas", ("mean", "noise", "image"), 4 * 3),
        ("object_size", (48, 80), 4 * 2),
    ],
)
def test_what_does_not_depend_on_the_value_is_run_once(wide, axis, values, passes):
    """Along a gap: A alone once; B alone, both, and the control per value: 13 passes a probe instead of 16."""
    count, images = shown(None, wide, axis, values)
    assert count == passes * len(wide)
    if axis in ("gap", "visible"):
        # The zero controls, and in `visible` nothing else, show an image again; moved objects and a larger one are new.
        assert len(set(images)) <= count + 4 * 8 + 2


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("gap", GAPS),
        ("visible", (1.0, 0.6)),
        ("canvas", ("gray", "noise", "image")),
        ("object_size", (48, 80)),
    ],
)
def test_each_value_is_what_it_is_alone(wide, axis, values):
    backbone = ck.load_layers("control:leak:0.3", device="cpu")
    points, _ = sweep(
        backbone, sweep_variants(wide, BASE, axis, values), axis, values, ck.MeasureSettings(batch_size=8)
    )
    rates = []
    for point, variant in zip(points, sweep_variants(wide, BASE, axis, values), strict=True):
        alone = ck.measure(backbone.layers[0], variant)
        pd.testing.assert_frame_equal(point.measurement.rows, alone.rows)
        assert point.measurement.summary.cr_mean == pytest.approx(alone.summary.cr_mean, rel=1e-6)
        rates.append(alone.summary.cr_mean)
    assert len(set(rates)) == len(values)


def test_along_the_gap_a_stays_and_the_leak_of_finite_reach_ends(wide):
    """Section 7, point 2: beyond its reach a planted leak gives exactly 1."""
    variants = sweep_variants(wide, BASE, "gap", GAPS)
    first = [variant[5].mask_a for variant in variants]
    assert all((mask == first[0]).all() for mask in first)
    backbone = ck.load_layers("control:leak:0.3:32", device="cpu")
    points, _ = sweep(backbone, variants, "gap", GAPS)
    rates = [point.measurement.summary.cr_mean for point in points]
    assert rates[0] > rates[1] > rates[-1]
    assert np.abs(points[-1].measurement.cr - 1).max() < 1e-6


def test_layers_are_those_of_measure(wide):
    base = wide.vary(**vars(BASE))
    backbone = ck.load_layers("random:test_vit", layer="0,2,5", precision="float32", device="cpu")
    points, _ = sweep(backbone, [base], "layer", ("0", "2", "5"))
    for point in points:
        alone = ck.measure(
            ck.load_backbone("random:test_vit", layer=point.value, precision="float32", device="cpu"), base
        )
        assert np.abs(point.measurement.cr - alone.cr).max() < 1e-5


def test_a_value_that_cannot_be_measured_is_named_and_the_others_stay(scenes):
    probes = ck.ProbeSet.from_coco(*scenes, count=6, spec=BASE)
    backbone = ck.load_layers("control:cell", device="cpu")
    variants = sweep_variants(probes, BASE, "object_size", (8, 80))
    points, failures = sweep(backbone, variants, "object_size", (8, 80))
    assert [point.value for point in points] == [80]
    assert len(failures) == 1
    assert failures[0].startswith("object_size 8: none of the 6 probes")
    with pytest.raises(MeasurementError, match="no value of object_size"):
        sweep(backbone, sweep_variants(probes, BASE, "object_size", (6, 8)), "object_size", (6, 8))


def test_variants_are_of_the_same_pairs(scenes, probes):
    other = ck.ProbeSet.from_coco(*scenes, count=24, seed=4, spec=BASE)
    with pytest.raises(ArgumentError, match="same pairs"):
        measure_variants(ck.load_layers("control:cell"), [probes, other])
    with pytest.raises(ArgumentError, match="one of either per value"):
        sweep(ck.load_layers("control:cell"), [probes], "gap", (0, 16))


def test_sweep_writes_everything_it_says(scenes, tmp_path):
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 6]
    axes = ["--gap", "0,16,64", "--visible", "1,.6", "--layer", "1,5", "--canvas", "mean,noise"]
    words = [
        "sweep",
        "random:test_vit",
        "random:test_resnet",
        *data,
        *axes,
        "--image-size",
        224,
        "--out",
        tmp_path / "run",
    ]
    layered = run(*words)
    assert layered.exit_code == 2  # test_resnet has no layer 5
    assert "layer '5' of random:test_resnet" in layered.stderr
    out = tmp_path / "run"
    for axis in ("gap", "visible", "canvas", "layer"):
        assert Image.open(out / f"sweep-{axis}.png").size[0] == round(3.35 * 300)
        assert (out / f"sweep-{axis}.pdf").stat().st_size > 3000
    assert not (out / "sweep-object_size.png").exists()
    table = pd.read_csv(out / "sweep.csv")
    assert table.groupby(["axis", "model"]).size().to_dict() == {
        ("gap", "random:test_vit"): 3,
        ("gap", "random:test_resnet"): 3,
        ("visible", "random:test_vit"): 2,
        ("visible", "random:test_resnet"): 2,
        ("canvas", "random:test_vit"): 2,
        ("canvas", "random:test_resnet"): 2,
        ("layer", "random:test_vit"): 2,
    }
    rows = with_rates(pd.read_csv(out / "rows.csv"))
    at = (rows["axis"] == "gap") & (rows["value"] == "64") & (rows["model"] == "random:test_vit")
    said = table[
        (table["axis"] == "gap") & (table["value"].astype(str) == "64") & (table["model"] == "random:test_vit")
    ]
    assert rows[at]["cr"].mean() == pytest.approx(said["cr_mean"].item())
    assert set(rows[at]["gap"]) == {64}
    document = json.loads((out / "summary.json").read_text())
    assert [(told["axis"], told["value"]) for told in document["models"]][:3] == [("gap", 0), ("gap", 16), ("gap", 64)]
    again = read_run(out)
    assert again.swept
    assert len(again.measurements) == len(table)
    good = ["sweep", "random:test_vit", *data, "--gap", "0,64", "--out", tmp_path / "good"]
    first = run(*good, "--format", "csv")
    assert first.exit_code == 0, first.output
    assert len(first.stdout.splitlines()) == 3
    assert "nothing to do" in run(*good).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "run", "run.unfinished"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--gap", "16"], "several values"),
        (["--gap", "0,x"], "not a value"),
        (["--gap", "0,0"], "twice"),
        (["--gap", "0,80"], "canvas is too small"),
        (["--visible", "1,2"], "visible must be"),
        (["--canvas", "mean,blue"], "canvas must be"),
        (["--layer", "1,99"], "layer '99'"),
    ],
)
def test_values_that_cannot_be_swept(scenes, tmp_path, words, word):
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 4]
    done = run("sweep", "random:test_vit", *data, *words, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert word in done.stderr
    assert "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_shipped_set_serves_gaps_up_to_64(tmp_path):
    path = shipped_sets()["scenes_500"]
    made = read_manifest(path).annotations
    files = ck.write_scenes(tmp_path / "scenes", count=made.scenes, seed=made.scenes_seed)
    probes = ck.ProbeSet.from_manifest(path, *files)
    for variant in sweep_variants(probes, probes.spec, "gap", (0, 64)):
        variant.digests(range(0, 500, 10))  # a third object that has no room would be refused
    with pytest.raises(ArgumentError, match="canvas is too small"):
        sweep_variants(probes, probes.spec, "gap", (0, 65))
    words = [
        "sweep",
        "control:cell",
        "--probes",
        "scenes_500",
        "--gap",
        "0,64",
        "--no-control",
        "--out",
        tmp_path / "run",
    ]
    done = run(*words)
    assert done.exit_code == 2
    assert "--control is decided" in done.stderr


def test_along_several_axes_the_run_is_read_and_reported(scenes, tmp_path):
    """Values of several kinds stand in one column."""
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 10]
    axes = ["--gap", "0,16", "--visible", "1,.8", "--layer", "1,2"]
    assert run("sweep", "random:test_vit", *data, *axes, "--out", tmp_path / "run").exit_code == 0
    found = read_run(tmp_path / "run")
    assert list(found.places) == [
        *(("gap", 0), ("gap", 16), ("visible", 1.0), ("visible", 0.8), ("layer", "1"), ("layer", "2"))
    ]
    assert len({measurement.summary.cr_mean for measurement in found.measurements}) >= 5
    for measurement in found.measurements:
        assert measurement.cr.mean() == pytest.approx(measurement.summary.cr_mean)
    assert run("report", tmp_path / "run", "--out", tmp_path / "page.html").exit_code == 0


def test_other_photos_than_promised_are_noticed_before_any_forward_pass(scenes, tmp_path):
    shutil.copytree(scenes[1], tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        Image.fromarray(np.asarray(Image.open(path).convert("RGB")) ^ 1).save(path)
    data, pairs = ["--annotations", scenes[0]], ["--probes", 8, "--design", "pairs"]
    assert run("probes", "make", *data, "--images", scenes[1], *pairs, "--out", tmp_path / "set.json").exit_code == 0
    words = ["sweep", "control:leak:0.2", "--probes", tmp_path / "set.json", *data, "--visible", "1,.8"]
    wrong = run(*words, "--images", tmp_path / "images", "--out", tmp_path / "run")
    assert wrong.exit_code == 2
    assert "other pictures" in wrong.stderr
    assert not (tmp_path / "run.unfinished").exists()
    for name in ("run", "clean"):
        assert run(*words, "--images", scenes[1], "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "run" / "rows.csv").read_bytes() == (tmp_path / "clean" / "rows.csv").read_bytes()


def test_a_value_that_cannot_be_had_is_refused_before_the_other_axes(scenes, tmp_path, monkeypatch):
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 8]
    monkeypatch.setenv("COUNTED", str(tmp_path / "count"))
    axes = ["--visible", "1,.8", "--canvas", "mean,foo"]
    done = run("sweep", *counted_hub(tmp_path / "hub"), *data, *axes, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "canvas must be" in done.stderr
    assert not (tmp_path / "count").exists()


def test_a_curve_over_other_probes_says_so(scenes, tmp_path):
    """Where less of A is visible, some probes have too few cells; the mean over those of all values stands beside."""
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 24]
    words = ["--visible", "1,.5,.3", "--min-cells", 4, "--out", tmp_path / "run"]
    done = run("sweep", "control:leak:0.3", *data, *words)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "run" / "sweep.csv")
    assert table["measured"].is_monotonic_decreasing
    assert 0 < table["measured"].iloc[-1] < table["measured"].iloc[0]
    assert f"measures {table['measured'].min()} to {table['measured'].max()} probes" in done.stderr
    assert set(table["common"]) == {table["measured"].iloc[-1]}
    rows = pd.read_csv(tmp_path / "run" / "rows.csv")
    biased, true = (
        rows.pivot_table(index="probe", columns="value", values=f"theta_{name}_b").rsub(np.pi / 2).dropna()
        for name in ("a2", "a1")
    )
    for _, row in table.iterrows():
        assert row["cr_common"] == pytest.approx(biased[row["value"]].mean() / true[row["value"]].mean())


def test_what_is_held_is_the_set_s_and_stated(scenes, tmp_path):
    words = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 6, "--gap", 24, "--widest-gap", 48]
    assert run("probes", "make", *words, "--design", "pairs", "--out", tmp_path / "set.json").exit_code == 0
    assert read_manifest(tmp_path / "set.json").drawn_gap == 48
    again = ["--probes", tmp_path / "set.json", *words[:4]]
    axes = ["--gap", "0,48", "--visible", "1,.6"]
    done = run("sweep", "control:leak:0.3", *again, *axes, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "Where it is not swept: gap 24, visible 1.0, canvas mean, object_size 80, layer last" in done.stderr
    rows = pd.read_csv(tmp_path / "run" / "rows.csv")
    assert set(rows[rows["axis"] == "visible"]["gap"]) == {24}
    assert run("measure", "control:leak:0.3", *again, "--out", tmp_path / "plain").exit_code == 0
    plain = pd.read_csv(tmp_path / "plain" / "rows.csv").iloc[:6]
    whole = rows[(rows["axis"] == "visible") & (rows["value"] == 1.0)]
    assert whole["theta_a2_b"].tolist() == pytest.approx(plain["theta_a2_b"].tolist())
