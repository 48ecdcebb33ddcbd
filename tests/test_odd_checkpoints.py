"""Odd checkpoints by the hundred: features of the network that they were made from, or one sentence that helps."""

import functools

import odd_checkpoints
import pytest
import torch
from checkpoint_files import IMAGENET, network

import couplingkit as ck
from couplingkit.errors import CouplingKitError

COUNT = 100
CASES = odd_checkpoints.every(COUNT)


@functools.cache
def right(architecture, size, made):
    """The features of timm's own call."""
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    made = network(architecture, 1, **dict(made))
    with torch.inference_mode():
        shown = (images - mean) / std
        found = made.forward_intermediates(shown, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]
    return images, found


def check(case, folder):
    name, options = f"{case.ask}{case.write(folder)}", {"device": "cpu", "precision": "float32", **case.options}
    if not case.architecture:
        with pytest.raises(CouplingKitError, match=case.words) as caught:
            ck.load_backbone(name, **options)
        assert "\n" not in str(caught.value)
        assert "cut short" not in str(caught.value) or case.name in ("zeros", "text", "zip of pictures")
        return
    backbone = ck.load_backbone(name, **options)
    images, features = right(case.architecture, backbone.size_px[0], tuple(case.made.items()))
    assert torch.allclose(backbone(images), features, atol=1e-5 * float(features.abs().max()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_read_right_or_refused_in_one_sentence(case, tmp_path):
    check(case, tmp_path)


def test_there_are_many():
    assert len(CASES) >= 150


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_hundreds_more(seed, tmp_path):
    for case in odd_checkpoints.readable(150, seed):
        check(case, tmp_path)
