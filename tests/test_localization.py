"""Scores of affinity maps against masks: an outside library, values known by hand, networks of known score."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

import couplingkit as ck
from couplingkit.data.coco import Eligibility, read_instances, read_objects
from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.evaluation import object_queries
from couplingkit.evaluation.localization import compare_localization, localize
from couplingkit.evaluation.object_queries import draw_queries
from couplingkit.figures.score_tables import render_scores
from couplingkit.metrics.localization import (
    SCORES,
    inner_point,
    leak_scores,
    nearest_mask,
    pixel_scores,
    ranking_scores,
    region_scores,
    summarize_scores,
)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: 0 < sum(row[1] for row in rows) < len(rows)
    )
)
@settings(max_examples=150, deadline=None)
def test_ranking_agrees_with_scikit_learn_ties_and_all(rows):
    scores = np.array([row[0] for row in rows], dtype=float) / 3
    positive = np.array([row[1] for row in rows])
    auroc, precision = ranking_scores(scores, positive)
    assert auroc == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert precision == pytest.approx(average_precision_score(positive, scores), abs=1e-12)


def test_ranking_agrees_on_many_pixels():
    generator = np.random.default_rng(0)
    positive = generator.random(100_000) < 0.1
    scores = generator.normal(size=100_000) + positive
    found = pixel_scores(scores.reshape(200, 500), positive.reshape(200, 500))
    assert found["auroc_px"] == pytest.approx(roc_auc_score(positive, scores), abs=1e-6)
    assert found["ap_px"] == pytest.approx(average_precision_score(positive, scores), abs=1e-6)


def test_a_perfect_a_constant_and_an_inverted_map():
    mask = np.zeros((8, 10), dtype=bool)
    mask[2:4, 3:8] = True
    photo = np.ones((8, 10))
    for affinity, auroc, precision in ((mask, 1.0, 1.0), (0 * mask, 0.5, mask.mean()), (~mask, 0.0, mask.mean())):
        at_cells = region_scores(affinity.astype(float), mask.astype(float), photo)
        at_pixels = pixel_scores(affinity.astype(float), mask)
        assert at_cells["auroc_cells"] == at_pixels["auroc_px"] == auroc
        assert at_cells["ap_cells"] == pytest.approx(precision)
        assert at_pixels["ap_px"] == pytest.approx(precision)
        assert at_cells["contrast"] == pytest.approx(2 * auroc - 1)


def test_what_differs_by_rounding_only_is_a_tie():
    """A flat region that was interpolated is flat to 1e-16 only; the noise is not to be ranked."""
    generator = np.random.default_rng(0)
    flat = np.array([0.5] * 30 + [0.25] * 70)
    positive = np.arange(100) % 3 == 0
    noisy = flat + 1e-15 * generator.normal(size=100)
    assert ranking_scores(noisy, positive) == ranking_scores(flat, positive)


def test_no_ranking_is_made_up():
    for positive in (np.zeros(4, dtype=bool), np.ones(4, dtype=bool)):
        with pytest.raises(ArgumentError, match="both kinds"):
            ranking_scores(np.arange(4.0), positive)
    with pytest.raises(ArgumentError, match="NaN"):
        ranking_scores(np.array([0, np.nan]), np.array([True, False]))


def test_regions_are_weighted_by_what_they_cover():
    affinity = np.array([[1.0, 0.5, 0.2, 0.0]])
    inside = np.array([[1.0, 0.5, 0.0, 0.0]])
    # The last cell lies in the padding.
    photo = np.array([[1.0, 1.0, 1.0, 0.0]])
    found = region_scores(affinity, inside, photo)
    assert found["inside"] == pytest.approx((1 + 0.25) / 1.5)
    assert found["outside"] == pytest.approx((0.25 + 0.2) / 1.5)
    assert found["auroc_cells"] == 1


def test_the_leak_leaves_out_cells_that_hold_the_object_itself():
    affinity = np.array([[1.0, 0.9, 0.6, 0.4, 0.1, 0.1]])
    inside = np.array([[1.0, 0.3, 0.0, 0.0, 0.0, 0.0]])
    other = np.array([[0.0, 0.7, 1.0, 0.5, 0.0, 0.0]])
    background = np.array([[0.0, 0.0, 0.0, 0.5, 1.0, 1.0]])
    found = leak_scores(affinity, inside, other, background)
    assert found["other"] == pytest.approx((0.6 + 0.2) / 1.5)
    assert found["leak"] == pytest.approx(0.8 / 1.5 - (0.2 + 0.2) / 2.5)
    assert np.isnan(leak_scores(affinity, inside, 0.3 * other, background)["leak"])
    assert np.isnan(leak_scores(affinity, inside, other, 0 * background)["leak"])


def test_where_a_query_stands_and_what_is_nearest():
    mask = np.zeros((20, 30), dtype=bool)
    mask[3:14, 5:16] = True
    assert inner_point(mask) == (10, 8)
    ring = mask.copy()
    ring[5:12, 7:14] = False
    x, y = inner_point(ring)
    assert ring[y, x]
    far, near, nothing = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    far[:, 28] = True
    near[17, 5:10] = True
    assert nearest_mask(mask, [far, near, nothing]) == (1, 4.0)
    assert nearest_mask(mask, [nothing]) is None
    assert nearest_mask(mask, [mask]) == (0, 0.0)


def test_photos_are_what_is_resampled():
    """Many rows of one photo are one observation: the interval is as wide as that of few."""
    generator = np.random.default_rng(1)
    few = generator.normal(size=40)
    images = np.arange(40)
    wide = summarize_scores({"x": few}, images, ck.Stream(0))["x"]
    repeated = summarize_scores({"x": few.repeat(9)}, images.repeat(9), ck.Stream(0))["x"]
    assert repeated.high - repeated.low == pytest.approx(wide.high - wide.low, rel=0.1)
    none = summarize_scores({"x": np.full(40, np.nan)}, images, ck.Stream(0))["x"]
    assert np.isnan(none.value)
    assert np.isnan(summarize_scores({"x": few[:5]}, images[:5], ck.Stream(0))["x"].low)


@pytest.fixture(scope="module")
def queries(scenes):
    return draw_queries(read_instances(scenes[0], Eligibility(min_area=300)), count=60, seed=0)


class ByColour(torch.nn.Module):
    """Knows each cell's mean colour; `reach` mixes in the colours around it: a leak of known reach."""

    def __init__(self, reach):
        super().__init__()
        self.reach = reach

    def forward(self, images):
        cells = torch.nn.functional.avg_pool2d(images, 8)
        return torch.nn.functional.avg_pool2d(cells, self.reach, 1, self.reach // 2, count_include_pad=False)


def by_colour(reach):
    return ck.NetworkBackbone(
        ByColour(reach), lambda net, x: net(x), name=f"colour {reach}", size_px=224, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def test_a_planted_leak_shows_as_less_contrast(scenes, queries):
    sharp, blurred = (
        localize(ck.load_backbone(name, precision="float32"), queries, scenes[1], ck.LocalizeSettings(fit="pad"))[0]
        for name in ("control:cell", "control:leak:0.4")
    )
    differences = compare_localization(sharp, blurred)
    assert differences["contrast"][0].low > 0
    assert differences["contrast"][1] == sharp.counts["measured"]
    # Objects have colours of their own, so even single cells find them better than chance.
    assert sharp.estimates["auroc_px"].low > 0.5
    assert set(sharp.estimates) == set(SCORES)
    measured = sharp.rows[sharp.rows["measured"]]
    assert len(measured) == sharp.counts["measured"]
    for name in ("auroc_px", "ap_px", "contrast"):
        assert sharp.estimates[name].value == pytest.approx(measured[name].mean())
    with_neighbour = sharp.rows["leak"].notna().sum()
    assert 0 < with_neighbour < len(measured)
    assert f"({with_neighbour})" in render_scores([sharp], "table")
    by_category = sharp.categories[sharp.categories["score"] == "auroc_px"]
    assert by_category["objects"].sum() == len(measured)
    assert (by_category["value"] * by_category["objects"]).sum() / len(measured) == pytest.approx(
        sharp.estimates["auroc_px"].value
    )


def test_batches_and_company_change_no_row(scenes, queries):
    one = localize(by_colour(3), queries[:12], scenes[1], ck.LocalizeSettings(batch_size=1))[0].rows
    many = localize(by_colour(3), queries[:20], scenes[1], ck.LocalizeSettings(batch_size=16))[0].rows
    scores = [*SCORES, "inside", "outside"]
    assert np.allclose(one[scores].astype(float), many[scores][:12].astype(float), atol=1e-5, equal_nan=True)
    assert one["annotation"].tolist() == [query.target.annotation_id for query in queries[:12]]


def test_objects_smaller_than_a_cell_are_left_out_and_counted(scenes):
    index = read_instances(scenes[0], Eligibility(min_area=1, allow_border=True))
    drawn = sorted(draw_queries(index, count=60, seed=0), key=lambda query: query.target.area)
    small, large = drawn[:4], drawn[-4:]
    coarse = ck.NetworkBackbone(
        torch.nn.AvgPool2d(64), lambda net, x: net(x), name="coarse", size_px=256, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    (found,) = localize(coarse, [*small, *large], scenes[1])
    cell = 64 * 64 * small[0].photo.image.width * small[0].photo.image.height / 256**2
    assert small[-1].target.area < cell < large[0].target.area
    left_out = found.rows.iloc[: len(small)]
    assert not left_out["measured"].any()
    assert left_out[list(SCORES)].isna().all(axis=None)
    assert found.counts["smaller than a cell"] >= len(small)
    assert found.counts["measured"] == len(found.rows) - found.counts["smaller than a cell"]
    with pytest.raises(MeasurementError, match="smaller than a cell"):
        localize(coarse, small, scenes[1])


def test_the_first_queries_of_many_are_those_of_few(scenes, queries):
    index = read_instances(scenes[0], Eligibility(min_area=300))
    assert draw_queries(index, count=7, seed=0) == queries[:7]
    other = draw_queries(index, count=7, seed=1)
    assert [query.target for query in other] != [query.target for query in queries[:7]]


def test_small_objects_and_crowds_are_no_background(tmp_path):
    square = [[10, 10, 90, 10, 90, 90, 10, 90]]
    dot = [[120, 120, 124, 120, 124, 124, 120, 124]]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": dot, "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": square, "iscrowd": 1},
        {"id": 4, "image_id": 1, "category_id": 1, "segmentation": [], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 150}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations,
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    photo = read_objects(path, [1])[1]
    assert [record.annotation_id for record in photo.objects] == [1, 2]
    assert [record.annotation_id for record in photo.crowds] == [3]
    (query,) = draw_queries(read_instances(path), count=5, seed=0)
    # The dot is too small to be a neighbour.
    assert (query.target.annotation_id, query.other) == (1, None)
    first = draw_queries(read_instances(path, Eligibility(min_area=10)), count=5, seed=0)
    assert {(query.target.annotation_id, query.other.annotation_id) for query in first} == {(1, 2), (2, 1)}


def test_different_objects_are_not_paired(scenes, queries):
    one, other = (localize(by_colour(1), part, scenes[1])[0] for part in (queries[:10], queries[5:15]))
    with pytest.raises(MeasurementError, match="different objects"):
        compare_localization(one, other)


def test_masks_of_a_very_large_photo_are_looked_at_in_steps(scenes, monkeypatch):
    """Here of 384 px, every second row and column: the same objects, and scores but for the rim."""
    index = read_instances(scenes[0], Eligibility(min_area=2000))
    backbone = ck.load_backbone("control:cell", device="cpu")
    whole = localize(backbone, draw_queries(index, count=20, seed=0), scenes[1])[0].rows
    monkeypatch.setattr(object_queries, "MOST_PX", 192)
    stepped = localize(backbone, draw_queries(index, count=20, seed=0), scenes[1])[0].rows
    assert stepped["annotation"].tolist() == whole["annotation"].tolist()
    assert (stepped["measured"] == whole["measured"]).all()
    for name in ("auroc_px", "ap_px", "cells"):
        assert not stepped[name].equals(whole[name])
    assert (stepped["auroc_px"] - whole["auroc_px"]).abs().max() < 0.05
    assert (stepped["cells"] / whole["cells"] - 1).abs().max() < 0.1
    assert (stepped["other_distance_px"] - whole["other_distance_px"]).abs().max() <= 4
