"""Properties that hold for any input: section 7, points 3 and 4, and the laws of angles, pooling and streams."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import couplingkit as ck
from couplingkit.errors import ArgumentError

seeds = st.integers(0, 2**31)
ANGLES = ["theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2"]


def vectors(seed, count=5, channels=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, count, channels, generator=generator)


@given(seeds, st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=40)
def test_scaling_features_changes_nothing(seed, factor):
    a1, a2, b = vectors(seed).double()
    plain, scaled = ck.coupling_rate(a1, a2, b), ck.coupling_rate(a1 * factor, a2 * factor, b * factor)
    assert np.allclose(plain.cr, scaled.cr, rtol=1e-10)


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_rotating_the_feature_space_changes_nothing(seed):
    a1, a2, b = vectors(seed).double()
    rotation, _ = torch.linalg.qr(vectors(seed + 1, 7)[0].double())
    plain, rotated = ck.coupling_rate(a1, a2, b), ck.coupling_rate(a1 @ rotation, a2 @ rotation, b @ rotation)
    assert np.allclose(plain.cr, rotated.cr, rtol=1e-9)


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_no_change_of_a_gives_exactly_one(seed):
    a1, _, b = vectors(seed)
    rates = ck.coupling_rate(a1, a1.clone(), b)
    assert (rates.cr == 1).all()
    assert (rates.theta_a1_a2 == 0).all()
    assert (rates.toward_b == 0).all()


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_swapping_the_objects_swaps_their_regions(seed):
    generator = np.random.default_rng(seed)
    a, b = (torch.from_numpy(generator.random((1, 48, 48)) < 0.4) for _ in range(2))
    b = b & ~a
    only_a = torch.zeros_like(a)
    only_a[:, :20] = a[:, :20]
    of_a = ck.region_weights(only_a, b, stride_px=16)
    of_b = ck.region_weights(b, only_a, stride_px=16)
    assert not ((of_a > 0) & (of_b > 0)).any()
    assert torch.equal(ck.region_weights(b, only_a, stride_px=16), of_b)
    assert ((of_a >= 0) & (of_a <= 1)).all()


@given(st.floats(0, math.pi))
@settings(deadline=None)
def test_angles_are_exact_everywhere(theta):
    u = torch.tensor([3.0, 0.0], dtype=torch.float64)
    v = torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64) * 1e-3
    assert ck.angle_between(u, v).item() == pytest.approx(theta, abs=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_angles_survive_any_scale(scale):
    u = torch.tensor([1.0, 1e-9], dtype=torch.float64) * scale
    assert ck.angle_between(u, torch.tensor([1.0, 0.0])).item() == pytest.approx(1e-9, rel=1e-6)


def test_a_vector_without_direction_has_no_angle():
    assert ck.angle_between(torch.zeros(2, 3), torch.ones(2, 3)).isnan().all()
    rates = ck.coupling_rate(torch.ones(1, 3), torch.zeros(1, 3), torch.ones(1, 3))
    assert np.isnan(rates.cr).all()
    assert np.isnan(rates.columns()["clipped_numerator"]).all()


def test_an_empty_region_is_nan_and_never_zero():
    pooled = ck.masked_mean(torch.ones(2, 4, 3, 3), torch.tensor([0.0, 1.0]).view(2, 1, 1).expand(2, 3, 3))
    assert pooled[0].isnan().all()
    assert (pooled[1] == 1).all()
    with pytest.raises(ArgumentError, match="grid"):
        ck.masked_mean(torch.ones(1, 4, 3, 3), torch.ones(1, 2, 3))


def test_clipping_is_told():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.1]])
    rates = ck.coupling_rate(a, b, b, eps=0.05)
    assert rates.columns()["clipped_denominator"].tolist() == [1]
    assert rates.columns()["clipped_numerator"].tolist() == [0]
    assert rates.denominator.tolist() == [0.05]
    assert rates.cr[0] == pytest.approx(math.pi / 2 / 0.05)


@given(seeds, st.integers(0, 10**9))
def test_streams_know_their_path_alone(seed, number):
    first = ck.Stream(seed).child("probe", number)
    _ = [ck.Stream(seed).child("other", place).below(7) for place in range(5)]
    assert first.below(1000) == ck.Stream(seed).child("probe").child(number).below(1000)
    assert 0 <= first.below(3) < 3
    assert (first.generator().random(4) == first.generator().random(4)).all()


def test_streams_are_uniform_and_apart():
    draws = np.array([ck.Stream(0).child("x", place).below(10) for place in range(5000)])
    assert np.abs(np.bincount(draws, minlength=10) - 500).max() < 5 * math.sqrt(500)
    assert ck.Stream(0).child("ab") != ck.Stream(0).child("a", "b")
    assert ck.Stream(0).child(1).below(2**60) != ck.Stream(0).child("1").below(2**60)


@pytest.mark.parametrize("name", ["random:test_vit", "random:test_resnet", "control:leak:0.5"])
def test_batch_size_changes_nothing(scenes, name):
    probes = ck.ProbeSet.from_coco(*scenes, count=10)
    backbone = ck.load_backbone(name, precision="float32", device="cpu")
    one, seven, all_at_once = (
        ck.measure(backbone, probes, ck.MeasureSettings(batch_size=size)).rows[ANGLES] for size in (1, 7, 64)
    )
    assert (one - seven).abs().max(axis=None) < 1e-6
    assert (one - all_at_once).abs().max(axis=None) < 1e-6


def test_threads_change_nothing(probes):
    backbone = ck.load_backbone("random:test_vit", precision="float32", device="cpu")
    threads = torch.get_num_threads()
    try:
        rates = []
        for count in (1, 2):
            torch.set_num_threads(count)
            rates.append(ck.measure(backbone, probes).rows[ANGLES])
    finally:
        torch.set_num_threads(threads)
    assert (rates[0] - rates[1]).abs().max(axis=None) < 1e-6


def test_bfloat16_agrees_and_says_so(probes):
    measured = {
        precision: ck.measure(ck.load_backbone("random:test_vit", precision=precision, device="cpu"), probes)
        for precision in ("float32", "bfloat16")
    }
    lower = measured["bfloat16"]
    assert abs(lower.summary.cr_mean - measured["float32"].summary.cr_mean) < 0.01
    assert not np.array_equal(lower.cr, measured["float32"].cr)
    assert lower.provenance["model"]["precision"] == "bfloat16"
    assert any("bfloat16" in warning for warning in lower.warnings)
    assert not any("bfloat16" in warning for warning in measured["float32"].warnings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_changes_nothing(probes):
    rates = [
        ck.measure(ck.load_backbone("random:test_vit", precision="float32", device=device), probes).rows[ANGLES]
        for device in ("cpu", "cuda")
    ]
    assert (rates[0] - rates[1]).abs().max(axis=None) < 1e-5
