"""The measurement against the slow transcription, from the exported images and raw features of probes."""

import numpy as np
import pytest
import reference
import torch
from networks import exported
from rates import with_rates

import couplingkit as ck

SEEN = ("cells_a", "cells_b", "theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2", "toward_b", "toward_c")
RATES = ("numerator", "denominator", "cr", "cr_control")
HALF = (0.5, 0.5, 0.5)


def check_probe(row, expected, number):
    for column in SEEN:
        # Of the same features, pooled in float32 here and in float64 there.
        assert row[column] == pytest.approx(expected[column], abs=2e-6, rel=2e-6), (number, column)
    for column in RATES:
        assert row[column] == pytest.approx(expected[column], abs=1e-5, rel=1e-4), (number, column)
    assert row["distance_px"] == pytest.approx(expected["distance_px"], abs=1e-9), number


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("random:test_vit", None),
        ("random:test_vit", (224, 176)),
        ("random:test_resnet", None),
        ("control:leak:0.3", None),
        ("control:leak:0.3", (224, 336)),
    ],
)
def test_rows_equal_the_reference(probes, name, size):
    backbone = ck.load_backbone(name, image_size=size, precision="float32", device="cpu")
    rows = with_rates(ck.measure(backbone, probes).rows)
    compared = 0
    for number in range(10):
        maps, masks = exported(probes, backbone, number)
        expected = reference.measure_probe(maps, masks, backbone.stride_px)
        row = rows.iloc[number]
        assert bool(row["measured"]) == (expected is not None)
        if expected is None:
            assert row[list(SEEN[2:])].isna().all()
            continue
        compared += 1
        check_probe(row, expected, number)
    assert compared >= 5


@pytest.mark.slow
@pytest.mark.parametrize("network", ["vit", "cnn"])
def test_the_panel_equals_the_reference_on_40_real_probes(real_coco, real_weights, network):
    """All quantities, of features that are given, to 1e-6."""
    probes = ck.ProbeSet.from_coco(*real_coco, count=40, seed=3)
    names = {
        "vit": f"vit_tiny_patch16_224@{real_weights / 'vit_tiny_patch16_224_tinyimagenet_ft.pth'}",
        "cnn": f"mobilenetv2_100,pad_type=same,output_stride=16@{real_weights / 'mobilenetv2_100_in1k_dequant.pth'}",
    }
    backbone = ck.load_backbone(names[network], mean=HALF, std=HALF, precision="float32", device="cpu")
    measured = ck.measure(backbone, probes)
    rows, every = with_rates(measured.rows), []
    for number in range(40):
        expected = reference.measure_probe(*exported(probes, backbone, number), backbone.stride_px)
        check_probe(rows.iloc[number], expected, number)
        every.append(expected)
    for name, value in reference.panel(every).items():
        assert getattr(measured.summary, name) == pytest.approx(value, abs=1e-6, rel=1e-6), name


@pytest.mark.parametrize("stride", [7, 16, 32])
@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_region_weights_equal_the_reference(stride, size):
    generator = np.random.default_rng(stride)
    mask = generator.random(size) < 0.6
    other = np.zeros(size, dtype=bool)
    other[: size[0] // 3, 5:9] = True
    found = ck.region_weights(torch.from_numpy(mask)[None], torch.from_numpy(other)[None], stride_px=stride)[0]
    grid = (-(-size[0] // stride), -(-size[1] // stride))
    assert np.allclose(found.numpy(), reference.cell_weights(mask, other, stride, grid), atol=1e-6)
