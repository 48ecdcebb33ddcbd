"""The measurement against the slow transcription, from the exported images and raw features of 20 probes."""

import numpy as np
import pytest
import reference
import torch
from networks import exported

import couplingkit as ck

COLUMNS = ("cells_a", "cells_b", "numerator", "denominator", "cr", "cr_control", "displacement")


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
    rows = ck.measure(backbone, probes).rows
    compared = 0
    for number in range(20):
        maps, masks = exported(probes, backbone, number)
        expected = reference.measure_probe(maps, masks, backbone.stride_px)
        row = rows.iloc[number]
        assert bool(row["measured"]) == (expected is not None)
        if expected is None:
            assert row[["numerator", "denominator", "cr", "cr_control"]].isna().all()
            continue
        compared += 1
        for column in COLUMNS:
            assert row[column] == pytest.approx(expected[column], abs=1e-5, rel=1e-5), (number, column)
    assert compared >= 5


def test_reference_on_real_photos(real_coco, real_weights):
    probes = ck.ProbeSet.from_coco(*real_coco, count=10, seed=3)
    file = real_weights / "vit_tiny_patch16_224_tinyimagenet_ft.pth"
    backbone = ck.load_backbone(f"vit_tiny_patch16_224@{file}", precision="float32", device="cpu")
    rows = ck.measure(backbone, probes).rows
    for number in range(10):
        expected = reference.measure_probe(*exported(probes, backbone, number), 16)
        for column in COLUMNS:
            assert rows.iloc[number][column] == pytest.approx(expected[column], abs=1e-5, rel=1e-5)


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
