"""SoCo: boxes that follow their object through crops, proposals and their file, the loss against loops."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import run

from couplingkit.errors import ArgumentError, DataError
from couplingkit.features.sources.timm_convnets import convnet_to_train, stage_channels, stage_maps
from couplingkit.streams import Stream
from couplingkit.training.box_cells import box_shares, cells_of_boxes
from couplingkit.training.corpus import open_corpus
from couplingkit.training.decoupling import Decoupled
from couplingkit.training.method import Batch, Masking, Progress
from couplingkit.training.methods.soco import KEPT_SHARE, SoCo, SoCoSettings, agreement
from couplingkit.training.proposals import (
    ProposalRules,
    Proposals,
    find_proposals,
    fitting_boxes,
    read_proposals,
    write_proposals,
)
from couplingkit.training.recipe import read_recipe
from couplingkit.training.region_features import RegionHead, levels_of
from couplingkit.training.views import Augmentation, CropDataset, View

SMALL = SoCoSettings(
    architecture="resnet26",
    options={"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)},
    proposals=3,
    pyramid=8,
    region=16,
    hidden=16,
    dimensions=12,
)
RCC = Masking("rcc", 0.2, 0.6, spared=0.0)
PLAIN = View(size=64, scale=(0.3, 1.0), jitter=0.0, gray=0.0)


def soco(**changes):
    return SoCo(replace(SMALL, **changes), seed=0).train()


def batch_of(count, *, seed=0, first=0, total=None):
    generator = torch.Generator().manual_seed(seed)
    total = total or count
    crops = [torch.rand(total, 3, px, px, generator=generator) for px in (96, 96, 64)]
    draws = torch.rand(total, 3, 4, generator=generator)
    whole = torch.cat([draws[..., :2] * 0.4, 0.6 + draws[..., 2:] * 0.4], dim=-1)
    part = slice(first, first + count)
    own = tuple(crop[part] for crop in crops)
    boxes = tuple(whole[part] * px for px in (96, 96, 64))
    return Batch(own, own, Stream(seed).child("step", 0), first, total, boxes)


# ---- boxes ----------------------------------------------------------------------------------------


class Painted:
    """One image per number: black, with one white rectangle."""

    boxes = np.array([[0.2, 0.3, 0.6, 0.9], [0.5, 0.1, 0.9, 0.5]], dtype=np.float32)

    def __len__(self):
        return 2

    def read(self, number):
        image = np.zeros((100, 150, 3), dtype=np.uint8)
        left, top, right, bottom = self.boxes[number] * [150, 100, 150, 100]
        image[round(top) : round(bottom), round(left) : round(right)] = 255
        return image

    def describe(self):
        return {"data": "painted", "images": 2}


def painted_proposals():
    return Proposals(Painted.boxes, np.array([0, 1, 2]), {})


@pytest.mark.parametrize("number", [0, 1])
def test_boxes_follow_what_they_hold_through_crop_flip_and_resize(number):
    dataset = CropDataset(Painted(), Augmentation((PLAIN, PLAIN), boxes=1), seed=3, proposals=painted_proposals())
    seen = 0
    for epoch in range(12):
        sample = dataset[(epoch, number)]
        for crop, boxes in zip(sample["crops"], sample["boxes"], strict=True):
            white = (crop.float().mean(dim=0) > 127).nonzero()
            left, top, right, bottom = boxes[0].tolist()
            if not len(white):
                assert right - left < 2 or bottom - top < 2
                continue
            seen += 1
            (up, low), (down, far) = white.amin(dim=0).tolist(), (white.amax(dim=0) + 1).tolist()
            assert (left, top, right, bottom) == pytest.approx((low, up, far, down), abs=1.6)
    assert seen > 12


def test_boxes_change_nothing_of_the_crops_and_depend_on_seed_epoch_and_image():
    plain = CropDataset(Painted(), Augmentation((PLAIN,)), seed=0)
    boxed = CropDataset(Painted(), Augmentation((PLAIN,), boxes=4), seed=0)
    for key in ((0, 0), (1, 1), (5, 0)):
        assert torch.equal(plain[key]["crops"][0], boxed[key]["crops"][0])
        assert plain[key]["boxes"] == []
        assert boxed[key]["boxes"][0].shape == (4, 4)
        assert torch.equal(boxed[key]["boxes"][0], boxed[key]["boxes"][0])
    assert not torch.equal(boxed[(0, 0)]["boxes"][0], boxed[(1, 0)]["boxes"][0])


def test_cells_and_shares_against_pixels():
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 24, (3, 5, 2, 2), generator=generator).float()
    boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=-1)
    keep = torch.rand(3, 4, 6, generator=generator) > 0.4
    shares = box_shares(keep, boxes, (24, 24))
    cells = cells_of_boxes(boxes, (4, 6), (24, 24))
    for b, k in np.ndindex(3, 5):
        left, top, right, bottom = (int(edge) for edge in boxes[b, k])
        inside = [keep[b, row // 6, column // 4].item() for row in range(top, bottom) for column in range(left, right)]
        assert shares[b, k].item() == pytest.approx(np.mean(inside) if inside else 0.0, abs=1e-6)
        first_row, first_column, end_row, end_column = cells[b, k].tolist()
        if not inside:
            assert (first_row, first_column, end_row, end_column) == (0, 0, 0, 0)
            continue
        assert 0 <= first_row < end_row <= 4
        assert 0 <= first_column < end_column <= 6
        for row, column in ((row, column) for row in range(top, bottom) for column in range(left, right)):
            assert first_row <= row // 6 < end_row
            assert first_column <= column // 4 < end_column


def test_half_of_the_first_views_boxes_are_moved_a_little():
    method, batch = soco(), batch_of(40)
    moved = method.views(batch).memo["boxes"][0]
    same = (moved == batch.boxes[0]).all(dim=-1)
    assert 0.35 < same.float().mean() < 0.65
    sides = batch.boxes[0][..., 2:] - batch.boxes[0][..., :2]
    assert ((moved - batch.boxes[0]).abs() <= 0.1501 * sides.repeat(1, 1, 2)).all()
    assert (moved >= 0).all()
    assert (moved <= 96).all()
    parts = [soco().views(batch_of(20, first=first, total=40)).memo["boxes"][0] for first in (0, 20)]
    assert torch.equal(moved, torch.cat(parts))


# ---- proposals ------------------------------------------------------------------------------------


def test_rules_against_loops():
    rng = np.random.default_rng(0)
    found = np.concatenate([rng.integers(0, 60, (200, 2)), rng.integers(5, 90, (200, 2))], axis=1)
    rules = ProposalRules()
    kept = []
    for left, top, across, down in found.tolist():
        size = math.sqrt(across * down / (120 * 160))
        if min(across, down) >= 32 and 1 / 3 <= across / down <= 3 and 0.3 <= size <= 0.8:
            kept.append((left / 160, top / 120, (left + across) / 160, (top + down) / 120))
    assert 10 < len(kept) < 190
    assert fitting_boxes(found, (120, 160), rules) == pytest.approx(np.array(kept), abs=1e-6)
    assert fitting_boxes(found[:0], (120, 160), rules).tolist() == [[0, 0, 1, 1]]


def test_selective_search_is_found_once_kept_in_a_file_and_said(tmp_path):
    pytest.importorskip("cv2.ximgproc", reason="OpenCV's contributed modules are not installed")
    out = tmp_path / "boxes.npz"
    words = ["proposals", "--data", "scenes:6", "--out", str(out), "--workers", "2"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    corpus = open_corpus("scenes:6")
    found = read_proposals(out, corpus)
    assert len(found) == 6
    assert found.about["rules"]["min_side"] == 32
    alone = find_proposals(corpus, workers=1)
    assert np.array_equal(alone.boxes, found.boxes)
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    with pytest.raises(DataError, match="of another corpus"):
        read_proposals(out, open_corpus("scenes:6", seed=1))
    again = run(*words)
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_files_of_proposals_that_cannot_be_read(tmp_path):
    corpus = open_corpus("scenes:2")
    whole = Proposals(Painted.boxes, np.array([0, 1, 2]), {"version": 1, "corpus": corpus.describe()})
    write_proposals(tmp_path / "whole.npz", whole)
    assert read_proposals(tmp_path / "whole.npz", corpus).digest() == whole.digest()
    content = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "array.npy", Painted.boxes)
    write_proposals(tmp_path / "places.npz", replace(whole, starts=np.array([0, 2, 2])))
    broken = {"none.npz": b"PK no", "cut.npz": content[:-90], "array.npz": (tmp_path / "array.npy").read_bytes()}
    for name, damaged in broken.items():
        (tmp_path / name).write_bytes(damaged)
    for name in (*broken, "places.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            read_proposals(tmp_path / name, corpus)
    about = {"version": 99, "corpus": corpus.describe()}
    write_proposals(tmp_path / "newer.npz", Proposals(Painted.boxes, np.array([0, 1, 2]), about))
    with pytest.raises(DataError, match="newer"):
        read_proposals(tmp_path / "newer.npz", corpus)


# ---- the loss -------------------------------------------------------------------------------------


def test_equal_vectors_have_minus_two():
    vectors = torch.randn(3, 5, 12)
    assert torch.allclose(agreement(vectors, 3 * vectors), torch.full((3, 5), -2.0), atol=1e-6)


def test_the_loss_against_loops():
    method = soco(masking=Masking("rcc", 0.3, 0.6, spared=0.5))
    batch = batch_of(4)
    tiny = batch.boxes[1].clone()
    tiny[2, 1, 2:] = tiny[2, 1, :2] + 3.0  # nothing left of it in the second view
    batch = replace(batch, boxes=(batch.boxes[0], tiny, batch.boxes[2]))
    views = method.views(batch)
    found = method.losses(views)["objects"].item()
    boxes, mean = views.memo["boxes"], torch.tensor((0.485, 0.456, 0.406))
    with torch.no_grad():
        predictions, projections = [], []
        for view, (crop, keep) in enumerate(zip(batch.crops, views.keep, strict=True)):
            cut = crop.clone()
            px = crop.shape[-1] // keep.shape[-1]
            for b, row, column in (~keep).nonzero().tolist():
                cut[b, :, row * px : (row + 1) * px, column * px : (column + 1) * px] = mean[:, None, None]
            predictions.append(method.predictor_of(cut, boxes[view]))
            projections.append(method.teacher(crop, boxes[view]))
    total = 0.0
    for q, k in ((0, 1), (1, 0), (0, 2), (2, 0)):
        terms = []
        for b, box in np.ndindex(4, 3):
            if 1 in (q, k) and (b, box) == (2, 1):
                continue
            one, other = predictions[q][b, box].double().tolist(), projections[k][b, box].double().tolist()
            dot = sum(x * y for x, y in zip(one, other, strict=True))
            terms.append(-2 * dot / math.sqrt(sum(x * x for x in one) * sum(y * y for y in other)))
        total += np.mean(terms)
    assert found == pytest.approx(total, abs=1e-4)


def test_the_branch_counts_boxes_of_which_enough_is_kept():
    method = Decoupled(soco(), masking=RCC, share=0.5)
    views = method.views(batch_of(8))
    assert views.composed == (1, 2)
    rows = torch.tensor([1, 3, 5, 7])
    keep = RCC.draw(views.batch, (3, 3), "x", regions=views.regions[1])[rows]
    counted = method.inner.counted(keep, views, 1, rows)
    shares = box_shares(keep, views.memo["boxes"][1][rows], (96, 96))
    assert torch.equal(counted, shares >= KEPT_SHARE)
    nothing = torch.zeros_like(keep)
    assert not method.inner.counted(nothing, views, 1, rows).any()
    prediction = method.inner.predict(views.batch.crops[1][rows], keep, counted, views, 1, rows)
    target = method.inner.targets(views, 1, rows, counted)
    assert prediction.shape == target.shape == (int(counted.sum()), 12)
    assert method.inner.disagreement(prediction, target).shape == (int(counted.sum()),)
    found = method.losses(views)
    sum(found.values()).backward()
    assert all(p.grad is None for p in method.inner.teacher.parameters())
    method.after_step(Progress(0, 10, 5))


def test_bad_settings_and_views():
    with pytest.raises(ArgumentError, match="views must be three"):
        batch = batch_of(2)
        soco().views(Batch(batch.crops[:2], batch.recoloured[:2], batch.stream, 0, 2, batch.boxes[:2]))
    with pytest.raises(ArgumentError, match="proposals must be at least 2"):
        soco(proposals=1)
    with pytest.raises(ArgumentError, match="jitter"):
        soco(jitter=0.9)
    with pytest.raises(ArgumentError, match="max_aspect"):
        ProposalRules(max_aspect=0.5)


def test_training_says_where_the_boxes_come_from(tmp_path):
    recipe = tmp_path / "soco.toml"
    options = "{ layers = [1, 1, 1, 1], channels = [4, 4, 4, 8] }"
    recipe.write_text(
        f'[method]\narchitecture = "resnet26"\noptions = {options}\nproposals = 2\npyramid = 8\nregion = 16\n'
        "hidden = 16\ndimensions = 8\n" + "[[views]]\nsize = 64\n" * 3
        + '[optimizer]\nkind = "lars"\nlr = 0.1\n[run]\nbatch_size = 4\nsteps = 2\nworkers = 0\n'
    )  # fmt: skip
    words = ["train", "soco", "--data", "scenes:8", "--recipe", str(recipe), "--device", "cpu"]
    done = run(*words, "--out", str(tmp_path / "grid"))
    assert done.exit_code == 0, done.output
    assert "RCC's boxes" in done.stderr
    corpus = open_corpus("scenes:8")
    boxes = Proposals(np.tile(Painted.boxes[:1], (8, 1)), np.arange(9), {"version": 1, "corpus": corpus.describe()})
    write_proposals(tmp_path / "boxes.npz", boxes)
    given = ["--proposals", str(tmp_path / "boxes.npz"), "--out", str(tmp_path / "given")]
    done = run(*words, *given)
    assert done.exit_code == 0, done.output
    assert "RCC's boxes" not in done.stderr
    losses = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["objects"]
        for name in ("grid", "given")
    ]
    assert losses[0] != losses[1]
    for method, sentence in (("soco-d", "are RCC's"), ("ibot", "has no boxes")):
        here = ["ibot-tiny" if word == str(recipe) and method == "ibot" else word for word in words[2:]]
        wrong = run("train", method, *here, *given[:2], "--out", str(tmp_path / "x"))
        assert wrong.exit_code == 2
        assert sentence in wrong.stderr
    # Other boxes than it was begun with.
    shutil.rmtree(tmp_path / "given" / "checkpoints" / "step-00000002", ignore_errors=True)
    write_proposals(tmp_path / "boxes.npz", replace(boxes, boxes=boxes.boxes * 0.9), overwrite=True)
    other = run("train", "--resume", str(tmp_path / "given"), "--device", "cpu")
    assert other.exit_code == 2
    assert "other proposals" in other.stderr


# ---- views and levels -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(100, 300), (300, 100), (427, 640)])
def test_the_first_view_is_the_whole_image_whatever_its_aspect(size):
    height, width = size
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width)[None]
    ramp[..., 1] = np.linspace(0, 255, height)[:, None]
    view = View(size=64, scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)
    crop = view.geometry()(torch.from_numpy(ramp).permute(2, 0, 1))
    assert crop.shape == (3, 64, 64)
    for channel, axis in ((0, 2), (1, 1)):
        plane = crop[channel].float().mean(dim=2 - axis)
        assert plane.min() < 6
        assert plane.max() > 249


def test_every_view_of_the_shipped_recipes_has_a_grid():
    for name in ("soco-tiny", "soco-coco-800ep"):
        recipe = read_recipe("soco", name)
        # Of ResNet-50's stride, and quicker to build.
        smaller = {"architecture": "resnet18", "hidden": 8, "region": 8, "pyramid": 8}
        method = SoCo(replace(recipe.method, **({} if name == "soco-tiny" else smaller)), seed=0)
        grids = [method._grid(torch.zeros(1, 3, view.size, view.size)) for view in recipe.views]
        assert all(4 <= rows == columns for rows, columns in grids), grids
        assert recipe.views[0].scale == (1.0, 1.0)


def test_boxes_are_read_on_the_level_of_their_size_and_all_levels_learn():
    sides = torch.tensor([20.0, 47.0, 49.0, 95.0, 97.0, 191.0, 193.0, 224.0])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)[None]
    # RoIAlign's rule of a detector, whatever the size of the view: floor(4 + log2(side / 224)), levels 2 to 5.
    expected = [min(max(math.floor(4 + math.log2(side / 224)), 2), 5) - 2 for side in sides.tolist()]
    assert levels_of(boxes, 4)[0].tolist() == expected == [0, 0, 0, 0, 0, 1, 1, 2]
    assert levels_of(boxes * 2, 4)[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    for options in ({}, {"output_stride": 8}):
        network = convnet_to_train("resnet26", seed=0, settings={**SMALL.options, **options})
        head = RegionHead(stage_channels(network), 8, 16)
        maps = stage_maps(network, torch.rand(2, 3, 448, 448))
        found = head(maps, torch.cat([boxes, boxes]) * 2, (448, 448))
        assert found.shape == (16, 16)
        found.square().sum().backward()
        layers = [layer for layer in head.pyramid.modules() if isinstance(layer, torch.nn.Conv2d)]
        grown = [layer.weight.grad.abs().sum() > 0 for layer in layers]
        assert len(grown) == 8
        assert all(grown)


def test_a_regions_feature_is_that_of_its_place():
    """A map that is its own coordinates, read by a box, has the box's middle as its mean."""
    head = RegionHead([2, 2], 2, 4).eval()
    head.pyramid = torch.nn.Identity()
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    seen = []
    head.convolutions.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    maps = [torch.stack([rows, columns])[None] * 4 + 2, torch.stack([rows, columns])[None, :, :8, :8] * 8 + 4]
    boxes = torch.tensor([[[8.0, 16.0, 16.0, 24.0], [8.0, 8.0, 56.0, 40.0]]])
    head(maps, boxes, (64, 64))
    middles = seen[0].mean(dim=(2, 3))
    assert torch.allclose(middles, torch.tensor([[20.0, 12.0], [24.0, 32.0]]), atol=0.1)
