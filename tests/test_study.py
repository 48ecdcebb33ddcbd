"""measure(): how often the network runs, what the rows hold, and that a broken instrument stops itself."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import Counting, control_images
from rates import with_rates

import couplingkit as ck
from couplingkit.errors import MeasurementError
from couplingkit.figures.tables import render
from couplingkit.metrics.coupling import SEEN
from couplingkit.study.region_features import outlier_share
from couplingkit.study.rows import ROW_COLUMNS

GOLDEN = json.loads((Path(__file__).parent / "golden" / "values.json").read_text())


@pytest.mark.parametrize(("control", "passes"), [(True, 4), (False, 3)])
def test_each_image_runs_once_and_the_zero_control_once_more(scenes, control, passes):
    probes = ck.ProbeSet.from_coco(*scenes, count=20, spec=ck.ProbeSpec(control=control, design="pairs"))
    backbone = Counting()
    measurement = ck.measure(backbone, probes, ck.MeasureSettings(batch_size=8))
    assert len(backbone.shown) == passes * 20 + control_images(8)
    controls = measurement.provenance["controls"]
    assert controls["probes"] == 8
    assert controls["other_batch_rad"] < 1e-6
    assert controls["aligned"] > 0.9
    assert controls["offset_cells"] == 0
    assert ("specificity" in measurement.summary.estimates) == control
    assert measurement.rows["theta_a3_b"].isna().all() != control


def network(read, **options):
    return ck.NetworkBackbone(torch.nn.Conv2d(3, 12, 16, 16), read, name="broken", size_px=224, **options)


def test_a_network_that_is_not_deterministic_stops_the_measurement(probes):
    noisy = network(lambda net, x: net(x) + 0.01 * torch.rand(1))
    with pytest.raises(MeasurementError, match="zero control of broken failed"):
        ck.measure(noisy, probes)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_bad_cell_anywhere_stops_the_measurement(probes, value):
    def read(net, x):
        features = net(x)
        if len(x) > 1:
            features[-1, 0, 0, 0] = value
        return features

    with pytest.raises(MeasurementError, match=r"NaN or infinite features for probe \d+"):
        ck.measure(network(read), probes, ck.MeasureSettings(batch_size=5))


def test_rows_have_the_published_columns_and_empty_values_where_unmeasured(scenes, tmp_path):
    probes = ck.ProbeSet.from_coco(*scenes, count=30, spec=ck.ProbeSpec(object_size=44, design="pairs"))
    measurement = ck.measure(ck.load_backbone("random:test_resnet", image_size=224), probes)
    rows = measurement.rows
    assert tuple(rows.columns) == tuple(ROW_COLUMNS)
    lost = ~rows["measured"]
    assert 0 < lost.sum() < 30
    assert measurement.summary.probes - measurement.summary.measured == lost.sum()
    assert any("`image_size`" in warning for warning in measurement.warnings)
    assert rows.loc[lost, list(SEEN)].isna().all(axis=None)
    assert rows.loc[~lost, list(SEEN)].notna().all(axis=None)
    assert ((rows["cells_a"] >= 1) & (rows["cells_b"] >= 1)).eq(rows["measured"]).all()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    line = (tmp_path / "rows.csv").read_text().splitlines()[1 + int(np.flatnonzero(lost)[0])]
    assert line.endswith(",,,,,,,False")


def test_every_published_number_derives_from_the_rows(probes):
    measurement = ck.measure(ck.load_backbone("random:test_vit", precision="float32"), probes)
    rows = with_rates(measurement.rows[measurement.rows["measured"]])
    summary = measurement.summary
    true, biased, control = (math.pi / 2 - rows[f"theta_{name}_b"] for name in ("a1", "a2", "a3"))
    assert summary.cr == pytest.approx(biased.mean() / true.mean())
    assert summary.cr_mean == pytest.approx(rows["cr"].mean())
    assert summary.turn == pytest.approx((biased - true).mean())
    assert summary.specificity == pytest.approx((biased.mean() - control.mean()) / true.mean())
    assert summary.specificity == pytest.approx(summary.cr - summary.cr_control)
    assert summary.leak == pytest.approx((rows["toward_b"] - rows["toward_c"]).mean())
    assert summary.displacement == pytest.approx(rows["theta_a1_a2"].mean())
    assert summary.clipped_denominator == pytest.approx((true < 0.01).mean())
    assert np.allclose(measurement.cr[measurement.rows["measured"]], rows["cr"])


def test_nothing_measurable_is_an_error_and_no_number(scenes):
    probes = ck.ProbeSet.from_coco(*scenes, count=5, spec=ck.ProbeSpec(object_size=16, design="pairs"))
    with pytest.raises(MeasurementError, match="none of the 5 probes"):
        ck.measure(ck.load_backbone("random:test_resnet", image_size=160), probes)


def test_a_feature_without_direction_is_not_measured(probes):
    dead = ck.measure(ck.load_backbone("control:cell"), probes)
    silent = network(lambda net, x: torch.relu(net(x)) * (x.abs().amax() > 2))
    assert dead.summary.measured == len(probes)
    with pytest.raises(MeasurementError, match="gives a map of zeros"):
        ck.measure(silent, probes)


def test_centering_changes_the_rates_and_warns_of_clipped_denominators(probes):
    backbone = ck.load_backbone("control:leak:0.5")
    plain, centered = (
        ck.measure(backbone, probes),
        ck.measure(backbone, probes, ck.MeasureSettings(center=True, batch_size=5)),
    )
    again = ck.measure(backbone, probes, ck.MeasureSettings(center=True, batch_size=64))
    assert np.nanmax(np.abs(centered.cr - again.cr)) < 1e-5
    assert centered.summary.clipped_denominator > 0.05 > plain.summary.clipped_denominator
    assert any("clipped" in warning for warning in centered.warnings)
    assert "(!) no measurement: cr_mean: over 5% of the denominators are clipped" in " ".join(
        render(ck.Run([centered]), "table").split()
    )
    assert "(!)" in render(ck.Run([centered]), "table")
    assert "(!)" not in render(ck.Run([plain]), "table")
    assert centered.provenance["settings"]["center"] is True


def test_models_on_other_probes_cannot_be_paired(scenes, probes):
    other = ck.ProbeSet.from_coco(*scenes, count=24, seed=9, spec=ck.ProbeSpec(design="pairs"))
    first, second = (ck.measure(ck.load_backbone("control:leak:0.2"), found) for found in (probes, other))
    with pytest.raises(MeasurementError, match="different probes"):
        ck.compare(first, second)
    stronger = ck.measure(ck.load_backbone("control:leak:0.4"), probes)
    difference, count = ck.compare(stronger, first)
    assert count == len(probes)
    assert 0 < difference.low < difference.value < difference.high


def test_provenance_says_what_is_needed_to_repeat_it(probes):
    backbone = ck.load_backbone("random:test_vit", seed=5)
    record = ck.measure(backbone, probes).provenance
    assert record["model"]["architecture"] == "test_vit"
    assert record["model"]["weights"] == "random, seed 5"
    assert {"layer", "norm", "mean", "std", "precision", "device", "weights_sha256", "input"} <= set(record["model"])
    assert record["probes"]["fingerprint"] == probes.fingerprint()
    assert record["probes"]["annotations_sha256"] == probes.index.sha256
    assert {"couplingkit", "torch", "timm"} <= set(record["versions"])


@pytest.mark.parametrize("name", sorted(GOLDEN["quantities"]))
def test_golden_quantities(probes, name):
    summary = ck.measure(ck.load_backbone(name), probes).summary
    for quantity, value in GOLDEN["quantities"][name].items():
        assert getattr(summary, quantity) == pytest.approx(value, abs=1e-6), quantity


def test_cells_of_huge_norm_are_counted_and_reported(probes):
    """A network with a few tokens of ten times the norm, as ViTs without registers have them."""
    features, weights = torch.ones(2, 3, 4, 4), torch.zeros(2, 4, 4)
    weights[0, :2] = 1
    features[0, :, 1, 1] = 10
    assert outlier_share(features, weights).tolist() == [0.125, 0.0]
    cell = ck.load_backbone("control:cell")

    def spiked(net, images):
        maps = net(images) + 1
        maps[..., ::3, ::3] *= 10
        return maps

    def network_of(**facts):
        declared = ck.Declaration(facts=facts)
        return ck.NetworkBackbone(cell.network, spiked, name="spiked", mean=cell.mean, std=cell.std, declared=declared)

    found = ck.measure(network_of(tokens=True), probes)
    assert found.rows["outliers_a"].max() > 0
    assert any("times the median norm" in warning for warning in found.warnings)
    # A convolution has no tokens; that a region of it varies says nothing of registers.
    for other in (cell, network_of()):
        assert not any("times the median norm" in warning for warning in ck.measure(other, probes).warnings)
