"""Pairs, places and pictures: the invariants of a probe, and that probe 17 is probe 17 everywhere."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import couplingkit as ck
from couplingkit.errors import ArgumentError, DataError
from couplingkit.probes.hiding import hide_tiles, tiles_at
from couplingkit.probes.placement import ROUNDING_PX, Box, place, place_instead, room_beside, scaled_size, to_px

DIRECTIONS = ("right", "left", "below", "above")
GOLDEN = json.loads((Path(__file__).parent / "golden" / "values.json").read_text())


def specs():
    return [
        ck.ProbeSpec(),
        ck.ProbeSpec(gap=0),
        ck.ProbeSpec(object_size=104, gap=16),
        ck.ProbeSpec(canvas="noise", visible=0.5),
        ck.ProbeSpec(canvas="image", pairing="any"),
        ck.ProbeSpec(control=False, pairing="same", gap=48),
    ]


@pytest.mark.parametrize("spec", specs(), ids=str)
@pytest.mark.parametrize("side", [97, 224, (240, 320), 518, (301, 240)])
def test_pixels_of_a_probe_are_its_layers_bit_for_bit(scenes, spec, side):
    probes = ck.ProbeSet.from_coco(*scenes, count=8, spec=spec)
    probe = probes.render(range(8), size=side, mean=(0.2, 0.4, 0.6))
    assert probe.alone.shape == (8, 3, *(side if isinstance(side, tuple) else (side, side)))
    assert probe.mask_a.any(dim=(1, 2)).all()
    assert probe.mask_b.any(dim=(1, 2)).all()
    for beside, mask in ((probe.together, probe.mask_b), (probe.control, probe.mask_c)):
        if beside is None:
            assert not spec.control
            continue
        assert not (mask & probe.mask_a).any()
        assert torch.equal(beside.movedim(1, -1)[~mask], probe.alone.movedim(1, -1)[~mask])
    on_b = probe.mask_b
    assert torch.equal(probe.together.movedim(1, -1)[on_b], probe.partner.movedim(1, -1)[on_b])
    nothing = ~(probe.mask_a | probe.mask_b)
    assert torch.equal(probe.together.movedim(1, -1)[nothing], probe.partner.movedim(1, -1)[nothing])
    for images in (probe.alone, probe.together, probe.partner):
        assert images.min() >= 0
        assert images.max() <= 1


@pytest.mark.parametrize("canvas", ["gray", "noise"])
def test_a_canvas_that_is_no_square_has_the_square_in_its_middle(scenes, canvas):
    probes = ck.ProbeSet.from_coco(*scenes, count=4, spec=ck.ProbeSpec(canvas=canvas, visible=0.7))
    square = probes.render(range(4), size=160)
    for size, window in (((160, 240), np.s_[..., :, 40:200]), ((224, 160), np.s_[..., 32:192, :])):
        wider = probes.render(range(4), size=size)
        assert torch.equal(wider.distance_px, square.distance_px)
        for name, value in vars(square).items():
            if name != "distance_px":
                assert torch.equal(getattr(wider, name)[window], value), name
        assert not wider.mask_a.sum() > square.mask_a.sum()


def test_a_canvas_of_a_photo_fills_every_size(scenes):
    probes = ck.ProbeSet.from_coco(*scenes, count=3, spec=ck.ProbeSpec(canvas="image"))
    for size in ((160, 240), (240, 160), (96, 384)):
        background = probes.render(range(3), size=size).alone
        assert background.shape[-2:] == size
        assert (background.std(dim=(1, 2, 3)) > 0.01).all()


def test_the_mean_canvas_is_exactly_the_mean(probes):
    mean = (0.485, 0.456, 0.406)
    probe = probes.render([0], mean=mean)
    nothing = ~(probe.mask_a | probe.mask_b)
    pixels = probe.together.movedim(1, -1)[nothing]
    assert (pixels == torch.tensor(mean)).all()


def test_pairs_follow_the_rules(scenes):
    for pairing in ("different", "same", "any"):
        probes = ck.ProbeSet.from_coco(*scenes, count=60, spec=ck.ProbeSpec(pairing=pairing))
        for number in range(60):
            photos = probes.source_images[number]
            assert len(set(photos)) == 3
            a, b, c = probes.categories(number)
            assert c != b
            assert pairing == "any" or (a != b) == (pairing == "different")
        assert {pair.direction for pair in probes.pairs} == set(DIRECTIONS)


def test_probe_17_is_probe_17(scenes):
    few = ck.ProbeSet.from_coco(*scenes, count=18, seed=5)
    many = ck.ProbeSet.from_coco(*scenes, count=200, seed=5)
    assert few.pairs == many.pairs[:18]
    alone, batch = few.render([17]), many.render(range(10, 20))
    for name in ("alone", "together", "partner", "control", "mask_a", "mask_b", "mask_c"):
        assert torch.equal(getattr(alone, name)[0], getattr(batch, name)[7])
        assert torch.equal(getattr(few[17], name), getattr(batch, name)[7])
    assert ck.ProbeSet.from_coco(*scenes, count=18, seed=6).pairs != few.pairs


def test_leaving_the_control_out_changes_neither_a_nor_b(scenes):
    with_c = ck.ProbeSet.from_coco(*scenes, count=20, spec=ck.ProbeSpec(design="pairs"))
    without = ck.ProbeSet.from_coco(*scenes, count=20, spec=ck.ProbeSpec(control=False))
    for one, other in zip(with_c.pairs, without.pairs, strict=True):
        assert (one.annotation_a, one.annotation_b, one.direction) == (
            other.annotation_a,
            other.annotation_b,
            other.direction,
        )
    assert torch.equal(with_c.render([3]).together, without.render([3]).together)


def test_fingerprint_is_the_golden_one(scenes, probes):
    """Section 7, point 6; `golden/regenerate.py` writes the values anew."""
    assert probes.fingerprint() == GOLDEN["fingerprint"]
    assert (
        ck.ProbeSet.from_coco(*scenes, count=24, seed=1, spec=ck.ProbeSpec(design="pairs")).fingerprint()
        == GOLDEN["fingerprint_of_seed_1"]
    )
    noisy = ck.ProbeSet.from_coco(*scenes, count=24, spec=ck.ProbeSpec(canvas="noise", design="pairs"))
    assert noisy.fingerprint() == GOLDEN["fingerprint"]
    hidden = ck.ProbeSet.from_coco(*scenes, count=24, spec=ck.ProbeSpec(visible=0.6))
    assert hidden.fingerprint() != GOLDEN["fingerprint"]


def test_fingerprint_is_of_the_pictures(scenes):
    """Computed here from the float images that a network sees."""
    probes = ck.ProbeSet.from_coco(*scenes, count=5, spec=ck.ProbeSpec(canvas="gray"))
    every = hashlib.sha256()
    for number in range(5):
        digest = hashlib.sha256()
        probe = probes[number]
        for image in (probe.alone, probe.together, probe.partner, probe.control):
            digest.update((image * 255).round().to(torch.uint8).numpy().tobytes())
        for mask in (probe.mask_a, probe.mask_b):
            digest.update(np.packbits(mask.numpy()).tobytes())
        every.update(digest.digest())
    assert probes.fingerprint() == every.hexdigest()


def test_fingerprint_of_real_photos(real_coco):
    assert (
        ck.ProbeSet.from_coco(*real_coco, count=50, spec=ck.ProbeSpec(design="pairs")).fingerprint()
        == GOLDEN["fingerprint_of_real_photos"]
    )


def test_manifest_names_every_pair(probes):
    content = json.loads(probes.manifest().text())
    assert content["annotations"]["sha256"] == probes.index.sha256
    assert len(content["pairs"]) == len(probes)
    named = dict(zip(content["columns"], content["pairs"][5], strict=True))
    assert named["annotation_b"] == probes.pairs[5].annotation_b
    assert content["spec"]["gap"] == 16


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.integers(0, 64),
    st.sampled_from(DIRECTIONS),
)
def test_boxes_keep_their_gap_and_stay_on_the_canvas(size_a, size_b, size_c, gap, direction):
    a, b = place(size_a, size_b, gap=gap, direction=direction, side=224)
    first, second = (a, b) if direction in ("right", "below") else (b, a)
    if direction in ("right", "left"):
        assert second.left - (first.left + first.width) == gap
    else:
        assert second.top - (first.top + first.height) == gap
    for box in (a, b):
        assert 0 <= box.left <= 224 - box.width
        assert 0 <= box.top <= 224 - box.height
    room = room_beside(a, gap=gap, direction=direction, side=224)
    if size_c[0 if direction in ("right", "left") else 1] > room + ROUNDING_PX:
        with pytest.raises(ArgumentError, match="drawn for smaller ones"):
            place_instead(a, size_c, gap=gap, direction=direction, side=224)
        return
    c = place_instead(a, size_c, gap=gap, direction=direction, side=224)
    if (c.width, c.height) == size_c:
        assert min(c.left, c.top, 224 - c.left - c.width, 224 - c.top - c.height) >= 0
    assert c.left >= 0
    assert c.left + c.width <= 224


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 500))
def test_scaled_sizes_keep_the_aspect(width, height, longer):
    small = scaled_size(width, height, longer)
    assert max(small) == longer
    exact = min(width, height) * longer / max(width, height)
    assert min(small) == pytest.approx(max(1, exact), abs=0.5001)


def test_b_is_centred_with_a():
    assert place((10, 30), (20, 10), gap=4, direction="above", side=100) == (
        Box(45, 42, 10, 30),
        Box(40, 28, 20, 10),
    )
    assert to_px(80, 448) == 160


@pytest.mark.parametrize("visible", [1.0, 0.8, 0.6, 0.4, 0.2])
def test_about_the_asked_share_of_a_stays_visible(scenes, visible):
    whole = ck.ProbeSet.from_coco(*scenes, count=20, spec=ck.ProbeSpec(design="pairs")).render(range(20))
    partly = ck.ProbeSet.from_coco(*scenes, count=20, spec=ck.ProbeSpec(visible=visible, design="pairs")).render(
        range(20)
    )
    left = partly.mask_a.sum(dim=(1, 2)) / whole.mask_a.sum(dim=(1, 2))
    assert (left - visible).abs().max() < 0.05 if visible < 1 else (left == 1).all()
    hidden = whole.mask_a & ~partly.mask_a
    assert (partly.alone.movedim(1, -1)[hidden] == 0.5).all()
    assert torch.equal(partly.mask_b, whole.mask_b)


def test_what_is_hidden_at_more_is_hidden_at_less():
    mask = np.ones((80, 60), dtype=bool)
    stream = ck.Stream(0).child("probe", 3)
    some, most = hide_tiles(mask, 0.7, stream), hide_tiles(mask, 0.3, stream)
    assert not (most & ~some).any()
    doubled = tiles_at(some, 160, 120, 448)
    assert np.array_equal(doubled[::2, ::2], tiles_at(some, 80, 60, 224))


def test_specs_out_of_range_are_refused():
    for fields, word in (
        ({"object_size": 110, "gap": 16}, "canvas is too small"),
        ({"gap": -1}, "gap"),
        ({"visible": 0.0}, "visible"),
        ({"visible": float("nan")}, "visible"),
        ({"canvas": "blue"}, "canvas"),
        ({"pairing": "odd"}, "pairing"),
    ):
        with pytest.raises(ArgumentError, match=word):
            ck.ProbeSpec(**fields)


def test_data_without_partners_says_what_would_help(tmp_path):
    annotations, images = ck.write_scenes(tmp_path / "few", count=3, seed=2)
    with pytest.raises(DataError, match="`control=False`"):
        ck.ProbeSet.from_coco(annotations, images, count=5, spec=ck.ProbeSpec(object_size=112, gap=0, pairing="same"))


def test_members_beyond_the_end_raise(probes):
    assert torch.equal(probes[-1].alone, probes[len(probes) - 1].alone)
    with pytest.raises(IndexError):
        _ = probes[len(probes)]
