"""Real photos and real pretrained weights: the orders of magnitude of section 8, and the laws on them."""

import numpy as np
import pytest

import couplingkit as ck

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def vit(real_weights):
    file = real_weights / "vit_tiny_patch16_224_tinyimagenet_ft.pth"
    return ck.load_backbone(f"vit_tiny_patch16_224@{file}", precision="float32", device="cpu")


@pytest.fixture(scope="module")
def photos(real_coco):
    return ck.ProbeSet.from_coco(*real_coco, count=120)


@pytest.fixture(scope="module")
def measured(photos, vit):
    """The trained ViT on all photos, once for all tests."""
    return ck.measure(vit, photos)


@pytest.mark.slow
def test_a_trained_vit_is_coupled(measured):
    summary = measured.summary
    assert summary.measured == 120
    assert 1 < summary.cr_mean < 1.3
    # Of 120 probes three may carry half of the variance of a mean of ratios; the ratio of means is sound.
    assert set(summary.doubts) <= {"cr_mean"}
    for name in ("specificity", "leak", "displacement", "turn"):
        assert summary.estimates[name].low > 0
    assert summary.clipped_denominator == 0


@pytest.mark.slow
def test_a_wrong_normalisation_looks_right_and_halves_the_coupling(photos, measured, real_weights):
    """README's warning, on a fifth of its probes: no clipping, nothing that looks amiss, another number."""
    file = real_weights / "vit_tiny_patch16_224_tinyimagenet_ft.pth"
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "precision": "float32", "device": "cpu"}
    wrong = ck.measure(ck.load_backbone(f"vit_tiny_patch16_224@{file}", **options), photos)
    right = measured
    assert wrong.summary.clipped_denominator == 0
    assert wrong.summary.cr_mean - 1 < 0.7 * (right.summary.cr_mean - 1)
    assert wrong.summary.estimates["specificity"].value < right.summary.estimates["specificity"].low


def test_batch_size_changes_nothing(real_coco, vit):
    """And a trained network disturbs its objects more than rounding does."""
    few = ck.ProbeSet.from_coco(*real_coco, count=8)
    one, seven, many = (ck.measure(vit, few, ck.MeasureSettings(batch_size=size)) for size in (1, 3, 64))
    angles = ["theta_a1_b", "theta_a2_b", "theta_a3_b"]
    assert (one.rows[angles] - seven.rows[angles]).abs().max(axis=None) < 1e-6
    assert (one.rows[angles] - many.rows[angles]).abs().max(axis=None) < 1e-6
    assert np.abs(one.cr - 1).min() > 1e-3


@pytest.mark.slow
def test_bfloat16_agrees(real_coco, vit, real_weights):
    photos = ck.ProbeSet.from_coco(*real_coco, count=8)
    file = real_weights / "vit_tiny_patch16_224_tinyimagenet_ft.pth"
    lower = ck.load_backbone(f"vit_tiny_patch16_224@{file}", precision="bfloat16", device="cpu")
    difference = ck.measure(lower, photos).summary.cr_mean - ck.measure(vit, photos).summary.cr_mean
    assert abs(difference) < 0.01


@pytest.mark.slow
def test_the_cnn_beside_it(photos, measured, real_weights):
    file = real_weights / "mobilenetv2_100_in1k_dequant.pth"
    options = {"mean": HALF, "std": HALF, "precision": "float32", "device": "cpu"}
    coarse = ck.load_backbone(f"mobilenetv2_100,pad_type=same@{file}", **options)
    fine = ck.load_backbone(f"mobilenetv2_100,pad_type=same,output_stride=16@{file}", **options)
    at_32, at_16 = ck.measure(coarse, photos), ck.measure(fine, photos)
    assert (coarse.stride_px, fine.stride_px) == (32, 16)
    assert at_32.summary.measured < at_16.summary.measured == 120
    assert at_16.summary.cr_mean > measured.summary.cr_mean
    assert at_16.summary.estimates["specificity"].low > 0


@pytest.mark.slow
def test_a_random_network_carries_less_than_a_trained_one(photos, measured):
    random = ck.measure(ck.load_backbone("random:vit_tiny_patch16_224", precision="float32", device="cpu"), photos)
    trained = measured
    assert random.summary.cr_mean < 1.05
    assert random.summary.specificity < trained.summary.specificity / 4
    difference, _ = ck.compare(trained, random)
    assert difference.low > 0


def test_every_eligible_object_is_whole(real_coco):
    index = ck.ProbeSet.from_coco(*real_coco, count=1).index
    assert len(index.objects) > 200
    assert sum(index.dropped.values()) + len(index.objects) == index.annotations == 1213
    assert index.dropped["crowd"] == 16


def test_a_trained_vit_finds_objects_and_a_random_one_less(real_coco, vit):
    queries = ck.draw_queries(ck.read_instances(real_coco[0]), count=30, seed=0)
    trained, random = (
        ck.localize(backbone, queries, real_coco[1])[0]
        for backbone in (vit, ck.load_backbone("random:vit_tiny_patch16_224", precision="float32", device="cpu"))
    )
    assert trained.counts == {"objects": 30, "measured": 30}
    assert trained.estimates["auroc_px"].low > 0.88
    assert ck.compare_localization(trained, random)["ap_px"][0].low > 0.25
