"""The contract over one small model of every family in timm's registry, with random weights."""

import datetime
import functools
import gc

import pytest
import timm
import torch

import couplingkit as ck
from couplingkit.errors import BackboneError
from couplingkit.features.catalogue import catalogue

PLAIN = {"device": "cpu", "precision": "float32"}
# Parameters (thousands) times pixels beyond which a family takes longer than all others together.
MOST = 1.3845e9
# And beyond which it waits for the slow ones.
HEAVY = 4e8
# At random weights what these answer to an object lies anywhere: attention or many layers over the whole map drown it.
WAYS = ("plain call", "img_size")
SPREAD = {"coat", "convmixer", "efficientvim", "gemma4_vit", "levit", "mobilenetv5", "tiny_vit"}


@functools.cache
def smallest():
    """family -> (entry, cost) of its cheapest model, families from the registry and costs from the shipped table."""
    entries = {entry.name: entry for entry in catalogue() if entry.source == "timm"}

    def cost(entry):
        height, width = (int(side) for side in entry.input.split("x"))
        return entry.parameters * height * width

    found = {}
    for family in timm.list_modules():
        # A timm newer than the table has models that it lacks; a family of new ones only is reported below.
        known = [entries[name] for name in timm.list_models(module=family) if name in entries]
        if known:
            best = min(known, key=cost)
            found[family] = best, cost(best)
    return found


def at_other_sizes():
    """Every second of the families that take other sizes; the script of the registry holds all models to it."""
    flexible = [family for family, (entry, _) in smallest().items() if entry.other_sizes in WAYS]
    return set(flexible[::2])


def energy(backbone, cell):
    """How strongly each cell answers to a bright object of one cell: (h, w)."""
    stride = backbone.stride_px
    empty = torch.full((1, 3, *backbone.size_px), 0.5)
    shown = empty.clone()
    rows, columns = (slice(place * stride, (place + 1) * stride) for place in cell)
    shown[0, :, rows, columns] = torch.rand(3, stride, stride, generator=torch.Generator().manual_seed(1))
    return (backbone(shown) - backbone(empty)).square().sum(dim=1)[0]


def moves_along(before, after, down, right):
    """Whether the strongest answer moved so, or the whole map of answers fits best when it is moved so."""
    peaks = [divmod(int(one.argmax()), one.shape[1]) for one in (before, after)]
    if (peaks[1][0] - peaks[0][0], peaks[1][1] - peaks[0][1]) == (down, right):
        return True
    before, after = before / before.max(), after / after.max()
    rows, columns = before.shape
    misfits = {}
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            one = before[max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)]
            other = after[max(0, dy) : rows + min(0, dy), max(0, dx) : columns + min(0, dx)]
            misfits[dy, dx] = float((one - other).abs().mean())
    return min(misfits, key=misfits.get) == (down, right)


def check_map(backbone, entry):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, *backbone.size_px, generator=generator)
    features = backbone(images)
    assert features.dtype == torch.float32
    assert features.shape[1] == backbone.channels == entry.channels
    grid = tuple(features.shape[-2:])
    assert all(
        cells in (side // backbone.stride_px, -(-side // backbone.stride_px))
        for cells, side in zip(grid, backbone.size_px, strict=True)
    )
    assert torch.isfinite(features).all()
    assert torch.equal(features, backbone(images))
    return grid


def quarters():
    """All families; those of the quarter whose turn it is today are run every time, the others are slow."""
    turn = datetime.date.today().toordinal() % 4
    for place, family in enumerate(timm.list_modules()):
        heavy = family in smallest() and smallest()[family][1] > HEAVY
        yield pytest.param(family, marks=[pytest.mark.slow] if heavy or place % 4 != turn else [])


@pytest.mark.parametrize("family", quarters())
def test_a_family_keeps_the_contract(family):
    if family not in smallest():
        pytest.skip("newer than the table of architectures; run tests/benchmarks/registry.py --write")
    entry, cost = smallest()[family]
    if cost > MOST:
        pytest.skip(f"its smallest model, {entry.name} at {entry.input}, is too large for the tests")
    name = f"random:{entry.name}"
    if not entry.stride:
        with pytest.raises(BackboneError, match="no whole px per cell"):
            ck.load_backbone(name, **PLAIN)
        return
    backbone = ck.load_backbone(name, **PLAIN)
    assert backbone.stride_px == entry.stride
    assert "x".join(str(side) for side in backbone.size_px) == entry.input
    rows, columns = check_map(backbone, entry)
    if family not in SPREAD:
        at = rows // 2 - 1, columns // 2 - 1
        before = energy(backbone, at)
        assert moves_along(before, energy(backbone, (at[0], at[1] + 1)), 0, 1)
        assert moves_along(before, energy(backbone, (at[0] + 1, at[1])), 1, 0)
    way = entry.other_sizes
    height, width = backbone.size_px
    del backbone
    gc.collect()
    if way in WAYS and family not in at_other_sizes():
        return
    step = -(-32 // entry.stride) * entry.stride
    wider = (height + 2 * step, width + step)
    if way in WAYS:
        other = ck.load_backbone(name, image_size=wider, **PLAIN)
        assert (other.provenance()["input"], other.stride_px) == (way, entry.stride)
        check_map(other, entry)
    else:
        with pytest.raises(BackboneError):
            ck.load_backbone(name, image_size=wider, **PLAIN)


def test_enough_families_are_held_and_take_other_sizes():
    held = {family: entry for family, (entry, cost) in smallest().items() if cost <= MOST}
    assert len(held) >= 75
    assert sum(bool(entry.stride) for entry in held.values()) >= 75
    assert len(at_other_sizes() & set(held)) >= 30
    assert len(SPREAD) < 10


def test_the_table_lists_every_architecture_once():
    names = [(entry.source, entry.name) for entry in catalogue()]
    assert len(names) == len(set(names))
    ours = {name for source, name in names if source == "timm"}
    missing = set(timm.list_models()) - ours
    assert not missing or timm.__version__ != "1.0.31", (
        f"run tests/benchmarks/registry.py --write for {sorted(missing)[:5]}"
    )
    assert sum(not entry.stride for entry in catalogue() if entry.source == "timm") <= 15
