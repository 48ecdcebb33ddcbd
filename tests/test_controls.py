"""Networks whose coupling is known: section 7, points 1 and 2, of the definition of the measurement."""

from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
from networks import exported
from rates import with_rates

import couplingkit as ck
from couplingkit.errors import BackboneError


@pytest.mark.parametrize("gap", [0, 5, 16, 48])
@pytest.mark.parametrize("canvas", ["mean", "noise"])
@pytest.mark.parametrize("size", [224, (336, 240)])
def test_a_network_that_cannot_couple_has_one(scenes, gap, canvas, size):
    probes = ck.ProbeSet.from_coco(*scenes, count=16, spec=ck.ProbeSpec(gap=gap, canvas=canvas))
    rows = with_rates(ck.measure(ck.load_backbone("control:cell", image_size=size), probes).rows)
    assert rows["measured"].all()
    assert (rows["cr"] - 1).abs().max() < 1e-6
    assert (rows["cr_control"] - 1).abs().max() < 1e-6


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("reach", [None, 16, 48])
def test_planted_leak_has_its_closed_form(probes, amount, reach):
    name = f"control:leak:{amount}" + (f":{reach}" if reach else "")
    rows = with_rates(ck.measure(ck.load_backbone(name), probes).rows)
    cell = ck.load_backbone("control:cell")
    radius = reach // 16 if reach else None
    for number in range(6):
        maps, masks = exported(probes, cell, number)
        leaked = {role: reference.leaked(features, amount, radius) for role, features in maps.items()}
        expected = reference.measure_probe(leaked, masks, 16)
        assert rows["cr"][number] == pytest.approx(expected["cr"], abs=1e-4)
        assert rows["cr_control"][number] == pytest.approx(expected["cr_control"], abs=1e-4)


def test_coupling_grows_with_the_leak(probes):
    rates = [ck.measure(ck.load_backbone(f"control:leak:{tenth / 10}"), probes).cr for tenth in range(6)]
    assert np.abs(rates[0] - 1).max() < 1e-6
    for less, more in pairwise(rates):
        assert (more > less).all()


def test_coupling_falls_with_the_gap_to_exactly_one_beyond_the_reach(scenes):
    backbone = ck.load_backbone("control:leak:0.5:16")
    means = []
    for gap in (0, 8, 16, 32, 48):
        probes = ck.ProbeSet.from_coco(*scenes, count=16, spec=ck.ProbeSpec(object_size=64, gap=gap))
        rates = ck.measure(backbone, probes).cr
        means.append(rates.mean())
        # Two cells of 16 px lie between A's and B's pixels, and the leak reaches over one.
        if gap >= 32:
            assert (rates == 1).all()
    assert means[0] > means[2] > means[3]


def test_the_leak_is_from_b_and_not_from_c(probes):
    summary = ck.measure(ck.load_backbone("control:leak:0.5"), probes).summary
    assert summary.estimates["specificity"].low > 0


@pytest.mark.parametrize("form", ["", "cells", "leak", "leak:x", "leak:1.5", "leak:0.2:-3", "leak:0.2:16:4"])
def test_unknown_forms_are_refused(form):
    with pytest.raises(BackboneError, match="control:leak:AMOUNT"):
        ck.load_backbone(f"control:{form}")


def test_background_of_the_mean_colour_is_zero():
    backbone = ck.load_backbone("control:leak:0.5")
    image = torch.tensor(backbone.mean).view(1, 3, 1, 1).expand(1, 3, 224, 224)
    assert (backbone(image) == 0).all()
