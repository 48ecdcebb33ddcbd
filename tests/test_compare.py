"""Comparisons of runs: planted differences are found, other probes are refused, the page shows what the rows say."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from command import run
from PIL import Image
from rates import with_rates

import couplingkit as ck
from couplingkit.errors import ArgumentError, DataError, MeasurementError
from couplingkit.figures.comparison_plots import comparison_text
from couplingkit.figures.report import report_page
from couplingkit.metrics.bootstrap import Statistic, interval_and_p, intervals
from couplingkit.metrics.multiple import holm
from couplingkit.metrics.quantities import QUANTITIES
from couplingkit.runs.extremes import read_extremes
from couplingkit.runs.reading import named_models, read_run
from couplingkit.streams import Stream
from couplingkit.study.comparing import compare_models, groups_of

LEAKS = ("0.1", "0.2", "0.4")


@pytest.fixture(scope="module")
def measured(scenes):
    """60 probes, measured with three planted leaks."""
    probes = ck.ProbeSet.from_coco(*scenes, count=60)
    return {leak: ck.measure(ck.load_backbone(f"control:leak:{leak}", device="cpu"), probes) for leak in LEAKS}


def test_holm_is_the_textbook_s():
    """Step by step: the smallest times 4, the next times 3, ...; never less than one before, never above 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    found = holm([0.02, float("nan"), 0.01])
    assert found[0] == pytest.approx(0.02)
    assert np.isnan(found[1])
    assert holm([]) == []


def test_p_values_are_uniform_where_nothing_differs_and_small_where_it_does():
    """Probes that share photos: effects of A's and of B's photo, and of the pair."""
    generator = np.random.default_rng(0)
    nothing, something = [], []
    for trial in range(200):
        images = np.array([generator.choice(60, size=2, replace=False) for _ in range(120)], dtype=np.int64)
        effect = generator.normal(size=60) * 0.7
        values = effect[images].sum(axis=1) + generator.normal(size=120)
        stream = Stream(trial).child("test")
        nothing.append(interval_and_p(Statistic(values), images, stream, resamples=400)[1])
        something.append(interval_and_p(Statistic(values + 1.5), images, stream, resamples=400)[1])
    assert 0.01 < np.mean(np.array(nothing) < 0.05) < 0.1
    assert 0.4 < np.mean(nothing) < 0.6
    assert np.mean(np.array(something) < 0.05) > 0.95
    assert min(something) == pytest.approx(1 / 401)


def test_the_interval_is_that_of_the_summary(measured):
    column = measured["0.2"].cr
    images = measured["0.2"].source_images[:, :2]
    estimate, p = interval_and_p(Statistic(column - 1), images, Stream(0))
    (expected,) = intervals([Statistic(column - 1)], images, Stream(0))
    assert estimate == expected
    assert p < 0.01
    few = interval_and_p(Statistic(column[:3]), images[:3], Stream(0))
    assert np.isnan(few[0].low)
    assert np.isnan(few[1])


def test_planted_differences_are_found_in_every_effect(measured):
    comparison = compare_models(measured, baseline="0.2")
    assert list(comparison.models) == ["0.2", "0.1", "0.4"]
    less, more = comparison.overall()
    assert less.estimate.high < 0 < more.estimate.low
    assert less.p == more.p == pytest.approx(1 / 2001)
    assert less.p_holm == pytest.approx(2 / 2001)
    for one in comparison.differences:
        if one.grouping == "all":
            (quantity,) = [entry for entry in QUANTITIES.values() if entry.difference == one.effect]
            first, second = (getattr(measured[name].summary, quantity.name) for name in (one.model, "0.2"))
            assert one.estimate.value == pytest.approx(first - second)
            assert not one.below
            assert one.probes == 60
        assert np.isnan(one.p) == (one.grouping != "all" or one.effect != "cr")
    expected, _ = ck.compare(measured["0.4"], measured["0.2"])
    # The difference that `measure` prints, to the last digit of its interval.
    assert vars(more.estimate) == pytest.approx(vars(expected))


def test_groups_are_a_division_of_the_probes(measured):
    comparison = compare_models(measured)
    groups = groups_of(measured["0.1"].rows)
    assert set(groups) == {"direction", "size", "pair"}  # one gap only
    assert groups["size"].value_counts().tolist() == [15] * 4
    areas = measured["0.1"].rows["area_a"]
    order = ["smallest", "small", "large", "largest"]
    means = areas.groupby(groups["size"]).mean()[order]
    assert means.is_monotonic_increasing
    total = comparison.overall()[0]
    for grouping, of_rows in groups.items():
        parts = [one for one in comparison.differences if one.grouping == grouping and one.model == total.model]
        assert sum(one.probes for one in parts) == 60
        for part in parts:
            own = of_rows == part.group
            first, second = (
                (np.pi / 2 - rows["theta_a2_b"][own]).mean() / (np.pi / 2 - rows["theta_a1_b"][own]).mean()
                for rows in (measured[total.model].rows, measured[comparison.baseline].rows)
            )
            assert part.estimate.value == pytest.approx(first - second)


def test_other_probes_are_refused_with_what_differs(scenes, measured):
    backbone = ck.load_backbone("control:leak:0.2", device="cpu")
    for spec, seed, word in (
        (ck.ProbeSpec(gap=20), 0, "gap (20 and 16|16 and 20).*`across=gap`"),
        (ck.ProbeSpec(), 3, "seed"),
    ):
        other = ck.measure(backbone, ck.ProbeSet.from_coco(*scenes, count=60, seed=seed, spec=spec))
        with pytest.raises(MeasurementError, match=word):
            compare_models({**measured, "other": other})
        with pytest.raises(MeasurementError, match=word):
            ck.compare(other, measured["0.2"])
    told = measured["0.2"].provenance
    stranger = replace(measured["0.2"], provenance={**told, "probes": {**told["probes"], "fingerprint": "0" * 64}})
    with pytest.raises(MeasurementError, match="the pictures themselves"):
        compare_models({**measured, "other": stranger})


def test_other_settings_are_refused(scenes, measured):
    probes = ck.ProbeSet.from_coco(*scenes, count=60)
    backbone = ck.load_backbone("control:leak:0.2", device="cpu")
    for settings, word in (({"eps": 0.5}, "eps 0.01 and 0.5"), ({"min_cells": 2.0}, "min_cells 1.0 and 2.0")):
        other = ck.measure(backbone, probes, ck.MeasureSettings(**settings))
        with pytest.raises(MeasurementError, match=word):
            compare_models({**measured, "other": other})
        meant = compare_models({**measured, "other": other}, across=list(settings))
        assert list(meant.across) == list(settings)
        with pytest.raises(ArgumentError, match="across must be of"):
            compare_models(measured, across=["colour"])


def test_a_run_is_paired_by_probe_and_not_by_place(measured):
    rows = measured["0.4"].rows
    shuffled = replace(measured["0.4"], rows=rows.sort_values("theta_a2_b", ignore_index=True))
    with pytest.raises(MeasurementError, match="different probes"):
        ck.compare(shuffled, measured["0.2"])


def test_too_few_models_or_no_such_baseline(measured):
    with pytest.raises(ArgumentError, match="at least two"):
        compare_models({"0.1": measured["0.1"]})
    with pytest.raises(ArgumentError, match=r"baseline '0\.3' is none of"):
        compare_models(measured, baseline="0.3")


@pytest.fixture(scope="module")
def data_of(scenes):
    """The words that name the probes of the runs."""
    return ["--annotations", scenes[0], "--images", scenes[1], "--probes", 40]


@pytest.fixture(scope="module")
def runs(data_of, tmp_path_factory):
    """Folders of three runs, one of two models, and of a sweep."""
    folder, data = tmp_path_factory.mktemp("runs"), data_of
    for leak in LEAKS:
        assert run("measure", f"control:leak:{leak}", *data, "--out", folder / f"leak-{leak}").exit_code == 0
    both = run("measure", "control:leak:0.1", "random:test_vit", *data, "--out", folder / "two")
    assert both.exit_code == 0
    assert run("sweep", "control:leak:0.2", *data, "--gap", "0,32", "--out", folder / "swept").exit_code == 0
    return folder


def test_compare_writes_everything_it_says(runs, tmp_path):
    out = tmp_path / "comparison"
    folders = [runs / f"leak-{leak}" for leak in LEAKS]
    done = run("compare", *folders, "--baseline", "leak-0.2", "--out", out)
    assert done.exit_code == 0, done.output
    first = done.stdout.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in first[1:]] == ["leak-0.2", "leak-0.1", "leak-0.4"]
    assert max(map(len, done.stdout.splitlines())) <= 80
    table = pd.read_csv(out / "comparison.csv")
    assert set(table["effect"]) == {"cr", "cr_mean", "turn", "specificity", "leak", "displacement"}
    rows = {leak: with_rates(pd.read_csv(runs / f"leak-{leak}" / "rows.csv").iloc[:40]) for leak in LEAKS}
    said = table[(table["model"] == "leak-0.4") & (table["effect"] == "cr_mean")]["difference"].item()
    assert said == pytest.approx((rows["0.4"]["cr"] - rows["0.2"]["cr"]).mean())
    groups = pd.read_csv(out / "groups.csv")
    assert set(groups["grouping"]) == {"direction", "size", "pair"}
    assert (out / "table.md").read_text().count("\n") == 5
    document = json.loads((out / "summary.json").read_text())
    assert document["baseline"] == "leak-0.2"
    assert document["probes"]["count"] == 40
    assert Image.open(out / "comparison.png").size[0] == round(3.35 * 300)
    by_path = run("compare", *folders, "--baseline", folders[1], "--out", tmp_path / "again")
    assert by_path.exit_code == 0
    assert (tmp_path / "again" / "comparison.csv").read_bytes() == (out / "comparison.csv").read_bytes()


def test_models_of_several_runs_are_told_apart(runs):
    found = named_models([read_run(runs / "leak-0.1"), read_run(runs / "two")])
    assert list(found) == ["leak-0.1", "two/control:leak:0.1", "random:test_vit"]
    assert list(named_models([read_run(runs / "two")])) == ["control:leak:0.1", "random:test_vit"]
    with pytest.raises(DataError, match="is given twice"):
        named_models([read_run(runs / "leak-0.1")] * 2)


@pytest.mark.parametrize(
    "words", [["nowhere"], ["leak-0.1"], ["leak-0.1", "swept"], ["leak-0.1", "leak-0.2", "--baseline", "x"]]
)
def test_compare_refuses_in_one_sentence(runs, tmp_path, words):
    paths = [word if word.startswith("--") or word == "x" else runs / word for word in words]
    done = run("compare", *paths, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert not (tmp_path / "out").exists()


def test_extremes_are_the_highest_and_the_lowest(runs):
    rows = with_rates(pd.read_csv(runs / "two" / "rows.csv"))
    found = read_extremes(runs / "two" / "extremes.npz")
    for model in ("control:leak:0.1", "random:test_vit"):
        own = [one for one in found if one.model == model]
        rates = rows[rows["model"] == model].set_index("probe")["cr"]
        assert [one.cr for one in own] == pytest.approx(
            sorted(rates, reverse=True)[:3] + sorted(rates, reverse=True)[-3:]
        )
        assert all(rates[one.probe] == pytest.approx(one.cr) for one in own)
        assert all(one.images.shape == (2, 224, 224, 3) and one.maps.shape == (2, 56, 56) for one in own)
        # The maps reach 1 about the point, which lies on A.
        x, y = own[0].point
        assert own[0].maps[0, y // 4, x // 4] > 0.8
        assert (own[0].images[0, y, x] != 128).any()
    (runs / "broken.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="measure again"):
        read_extremes(runs / "broken.npz")


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    folders = [runs / name for name in ("leak-0.1", "leak-0.2", "leak-0.4", "two", "swept")]
    done = run("report", *folders, runs, "--out", path)
    assert done.exit_code == 2
    assert "1 left out" in done.stderr
    assert f"run {runs} has no summary.json" in done.stderr
    return path


def test_the_report_is_self_contained_and_says_what_the_runs_say(page, runs):
    # An interval is not broken between its ends.
    text = page.read_text().replace("\u00a0", " ")
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    assert "http" not in re.sub(r"data:image[^\"]*", "", text).replace("http-equiv", "")
    for leak in LEAKS:
        (found, _) = read_run(runs / f"leak-{leak}").measurements
        estimate = found.summary.estimates["cr"]
        assert f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]" in text
    assert text.count("data:image/svg+xml") == 2  # one set of probes, one sweep
    assert len(text) < 5e6
    with pytest.raises(ArgumentError, match="must not be empty"):
        report_page([], {})


def test_the_report_escapes_what_users_name(runs, measured):
    found = read_run(runs / "leak-0.1")
    evil = replace(
        found, measurements=(replace(found.measurements[0], name="<script>x</script>"), *found.measurements[1:])
    )
    assert "<script>x" not in report_page([evil], {})


@pytest.fixture
def opened(browser, page):
    tab = browser.new_page()
    problems = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on(
        "request", lambda asked: problems.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    tab.goto(page.as_uri())
    yield tab
    tab.close()
    assert problems == []


def column(tab, number):
    return [
        row.locator("> *").nth(number).get_attribute("data-sort")
        for row in tab.locator("table.sortable tbody tr").all()
    ]


def test_a_click_sorts_the_table(opened):
    head = opened.locator("thead th").nth(2)
    before = column(opened, 0)
    head.get_by_role("button").click()
    rates = [float(value) for value in column(opened, 2)]
    assert len(rates) == 6  # five models, and one control row for all runs
    assert rates == sorted(rates)
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert [float(value) for value in column(opened, 2)] == sorted(rates, reverse=True)
    opened.locator("thead th").first.get_by_role("button").click()
    assert column(opened, 0) == sorted(before)
    assert head.get_attribute("aria-sort") == "none"


def test_pictures_are_drawn_and_provenance_opens(opened):
    opened.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    # Of the five models one stands in two runs and is shown once.
    assert opened.locator("figure").count() == 4 * 6
    details = opened.locator("details").last
    details.locator("summary").click()
    assert "fingerprint" in details.inner_text()


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_overflows_on_a_phone(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints(opened, tmp_path):
    opened.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_what_is_below_the_resolution_is_called_that(measured):
    """The same rows under another name, but for a rounding."""
    rows = measured["0.2"].rows
    twin = replace(measured["0.2"], rows=rows.assign(theta_a2_b=rows["theta_a2_b"] + 1e-9))
    comparison = compare_models({"0.2": measured["0.2"], "twin": twin})
    (gap,) = comparison.overall()
    assert gap.below
    assert np.isnan(gap.p)
    assert "below resolution" in comparison_text(comparison, "table")
    (other,) = compare_models({"0.2": measured["0.2"], "0.4": measured["0.4"]}).overall()
    assert not other.below


def test_few_photos_give_no_p_value(scenes):
    """From 10 photos on there is an interval, from 30 on a p-value."""
    probes = ck.ProbeSet.from_coco(*scenes, count=12, spec=ck.ProbeSpec(design="pairs"))
    few, more = (ck.measure(ck.load_backbone(f"control:leak:{leak}"), probes) for leak in (0.1, 0.4))
    assert 10 <= few.summary.source_images < 30
    (gap,) = compare_models({"few": few, "more": more}).overall()
    assert gap.estimate.low > 0
    assert np.isnan(gap.p)


def test_eps_changes_a_table_and_not_a_run(runs, data_of, tmp_path):
    """The same command with another eps measures nothing; compare and report take one of their own."""
    out = tmp_path / "run"
    shutil.copytree(runs / "leak-0.4", out)
    before = pd.read_csv(out / "rows.csv").drop(columns="cr")
    words = ["measure", "control:leak:0.4", *data_of, "--out", out]
    again = run(*words, "--eps", 1)
    assert again.exit_code == 0, again.output
    assert "only what is made of them is made anew" in again.stderr
    after = pd.read_csv(out / "rows.csv")
    pd.testing.assert_frame_equal(after.drop(columns="cr"), before)
    assert after["cr"].tolist() == pytest.approx(with_rates(after, eps=1)["cr"].tolist())
    at_one, at_usual = (json.loads((folder / "summary.json").read_text()) for folder in (out, runs / "leak-0.4"))
    one, usual = (document["models"][0]["statistics"] for document in (at_one, at_usual))
    for name in ("cr", "turn", "specificity", "leak", "displacement"):
        assert one[name] == usual[name]
    assert one["cr_mean"] != usual["cr_mean"]
    assert one["clipped_denominator"]["value"] > usual["clipped_denominator"]["value"]
    assert "nothing to do" in run(*words, "--eps", 1).stderr
    refused = run("compare", out, runs / "leak-0.2", "--out", tmp_path / "apart")
    assert refused.exit_code == 2
    assert "eps 1.0 and 0.01" in refused.stderr
    for eps in ("0.3", "0.01"):
        done = run("compare", out, runs / "leak-0.2", "--eps", eps, "--out", tmp_path / f"at-{eps}")
        assert done.exit_code == 0, done.output
    assert run("report", out, runs / "leak-0.2", "--eps", "0.01", "--out", tmp_path / "page.html").exit_code == 0


def test_labels_name_the_models_of_runs(runs, tmp_path):
    folders = [runs / "leak-0.1", runs / "leak-0.4"]
    done = run("compare", *folders, "--label", "less", "--label", "more", "--out", tmp_path / "labelled")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()[1:]] == ["less", "more"]
    page = run("report", *folders, "--label", "less", "--label", "more", "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.output
    assert ">more</th>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    wrong = run("compare", *folders, "--label", "less", "--out", tmp_path / "x")
    assert wrong.exit_code == 2
    assert "--label must be given once per model" in wrong.stderr


def test_a_report_refuses_what_is_not_alike_and_says_how_models_were_read(data_of, tmp_path):
    for size in (224, 160):
        words = ["--image-size", size, "--out", tmp_path / f"at-{size}"]
        assert run("measure", "random:test_vit", *data_of, *words).exit_code == 0
    both = [tmp_path / "at-224", tmp_path / "at-160"]
    compared = run("compare", *both, "--across", "image_size", "--out", tmp_path / "compared")
    assert compared.exit_code == 0, compared.output
    assert compared.stdout.count("at-160") >= 2
    assert re.search(r"^model\s.*\binput\b", compared.stdout, flags=re.MULTILINE)
    refused = run("report", *both, "--out", tmp_path / "page.html")
    assert refused.exit_code == 2
    assert "image_size 224 x 224 and 160 x 160" in refused.stderr
    assert "--across image_size" in refused.stderr
    meant = run("report", *both, "--across", "image_size", "--out", tmp_path / "page.html")
    assert meant.exit_code == 0, meant.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ">input</button>" in page
    assert ">160</td>" in page
    assert ">stride</button>" not in page
