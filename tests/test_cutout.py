"""Cutouts: what RCC promises, against a slow transcription and the published code's statistics; survival of objects."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from command import run

from couplingkit.data.coco import read_instances
from couplingkit.errors import ArgumentError
from couplingkit.figures.survival_plots import survival_figure
from couplingkit.training.cutout import STRATEGIES, block_cutout, cutout, grid_boxes, region_cutout
from couplingkit.training.survival import object_survival

# Mean share of cells cut by the authors' code on square grids (design page on training, section 1).
RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6)
OURS_7 = {0.2: 0.214, 0.3: 0.327, 0.4: 0.417, 0.5: 0.488, 0.6: 0.546}
PUBLISHED = {14: (0.218, 0.324, 0.422, 0.518, 0.597), 7: (0.231, 0.345, 0.435, 0.484, 0.527)}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def full(count, ratio):
    return torch.full((count,), ratio)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (5, 5), (6, 20), (28, 11)])
def test_laws_of_every_strategy(strategy, grid):
    keep = cutout(strategy, torch.tensor([0.0, 0.3, 0.6, 0.0, 0.45]).repeat(40), grid, draw())
    assert keep.shape == (200, *grid)
    assert keep.dtype == torch.bool
    assert keep[0::5].all(), "a ratio of 0 cuts nothing"
    assert keep[3::5].all()
    assert keep.flatten(1).any(dim=1).all(), "nothing is erased whole"
    again = cutout(strategy, torch.tensor([0.0, 0.3, 0.6, 0.0, 0.45]).repeat(40), grid, draw())
    assert torch.equal(keep, again)
    assert not torch.equal(keep, cutout(strategy, full(200, 0.4), grid, draw(1)))
    assert cutout(strategy, torch.zeros(0), grid, draw()).shape == (0, *grid)


@pytest.mark.parametrize(("side", "tolerance"), [(14, 0.02), (7, 0.025)])
def test_rcc_cuts_as_much_as_the_published_code(side, tolerance):
    """On 7 x 7 the published code's rounding moves its own means away from r by up to .07; ours follows it to .025."""
    for ratio, published in zip(RATIOS, PUBLISHED[side], strict=True):
        cut = (~region_cutout(full(3000, ratio), (side, side), draw())).float().mean(dim=(1, 2))
        assert cut.mean().item() == pytest.approx(published, abs=tolerance)
        if side == 7:
            assert cut.mean().item() == pytest.approx(OURS_7[ratio], abs=0.006), "as `_within` states it"
        if side == 14:
            assert cut.mean().item() == pytest.approx(ratio, abs=0.03)
            assert 0.03 <= cut.std().item() <= 0.05


def inside(box, grid):
    cells = np.zeros(grid, dtype=bool)
    cells[box[0] : box[2], box[1] : box[3]] = True
    return cells


def test_what_collaborative_buys():
    """No region loses everything at moderate ratios, where block-wise cutting erases some."""
    boxes = grid_boxes(800, (14, 14), draw())
    by_region = region_cutout(full(800, 0.4), (14, 14), draw(1), boxes=boxes)
    by_blocks = block_cutout(full(800, 0.4), (14, 14), draw(2))
    lost = {"rcc": [], "blocks": []}
    for view in range(800):
        for box in boxes[view].tolist():
            cells = inside(box, (14, 14))
            lost["rcc"].append((cells & ~by_region[view].numpy()).sum() / cells.sum())
            lost["blocks"].append((cells & ~by_blocks[view].numpy()).sum() / cells.sum())
    assert np.quantile(lost["rcc"], 0.95) < 0.65 < np.quantile(lost["blocks"], 0.95)
    assert np.mean(np.array(lost["rcc"]) > 0.95) < 0.001 < np.mean(np.array(lost["blocks"]) > 0.95)


def test_boxes_are_those_of_the_design():
    boxes = grid_boxes(2000, (40, 40), draw()).double()
    top, left, bottom, right = boxes.unbind(dim=-1)
    assert (top >= 0).all()
    assert (bottom <= 40).all()
    assert (bottom > top).all()
    assert (right > left).all()
    # The middle box is never clipped: its sides tell area and aspect, each outward rounding adds a cell at most.
    area = ((bottom - top) * (right - left))[:, 4] / 1600
    assert area.min() >= 0.12
    assert area.max() <= (np.sqrt(0.30 * 2) + 2 / 40) * (np.sqrt(0.30 / 2) + 2 / 40)
    aspect = ((right - left) / (bottom - top))[:, 4]
    assert 0.45 < aspect.min() < 0.6
    assert 1.7 < aspect.max() < 2.2
    assert torch.log(aspect).mean().abs() < 0.03
    centre = ((left + right) / 2)[:, 4] / 40
    assert centre.min() > 0.4
    assert centre.max() < 0.6


def test_boxes_of_a_wide_view_keep_the_pictures_aspect():
    boxes = grid_boxes(2000, (10, 30), draw()).double()
    top, left, bottom, right = boxes.unbind(dim=-1)
    aspect = torch.log(((right - left) / (bottom - top))[:, 4])
    assert aspect.mean().abs() < 0.1


def slow_region_cutout(ratio, boxes, grid, rectangle):
    """RCC of one view by loops over the cells; `rectangle(step, box, wanted)` places what is cut."""
    kept = [[True] * grid[1] for _ in range(grid[0])]
    order = sorted(
        range(len(boxes)), key=lambda place: -(boxes[place][2] - boxes[place][0]) * (boxes[place][3] - boxes[place][1])
    )
    for step, place in enumerate(order):
        top, left, bottom, right = boxes[place]
        cells = [(row, column) for row in range(top, bottom) for column in range(left, right)]
        cut = sum(not kept[row][column] for row, column in cells)
        if cut > ratio * len(cells):
            for row, column in cells:
                kept[row][column] = True
            cut = 0
        first_row, first_column, last_row, last_column = rectangle(step, boxes[place], ratio * len(cells) - cut)
        assert top <= first_row <= last_row <= bottom
        assert left <= first_column <= last_column <= right
        for row in range(first_row, last_row):
            for column in range(first_column, last_column):
                kept[row][column] = False
    return np.array(kept)


@pytest.mark.parametrize("grid", [(14, 14), (9, 21)])
def test_rcc_agrees_with_the_slow_transcription(grid):
    count, ratio = 30, 0.37
    boxes = grid_boxes(count, grid, draw())
    fast = region_cutout(full(count, ratio), grid, draw(5), boxes=boxes)
    draws = torch.rand(9, 4, count, generator=draw(5)).double()
    for view in range(count):

        def rectangle(step, box, wanted, view=view):
            place_row, place_column, up_row, up_column = draws[step, :, view].tolist()
            height, width = box[2] - box[0], box[3] - box[1]
            if wanted <= 0:
                return box[0], box[1], box[0], box[1]
            share = np.sqrt(np.float32(wanted) / np.float32(height * width))
            rows = max(min(int(height * share + np.float32(0.3) + np.float32(up_row) / 2), height - 1), 1)
            columns = max(min(int(width * share + np.float32(0.3) + np.float32(up_column) / 2), width - 1), 1)
            row = box[0] + int(place_row * (height - rows + 1))
            column = box[1] + int(place_column * (width - columns + 1))
            return row, column, row + rows, column + columns

        slow = slow_region_cutout(np.float32(ratio), boxes[view].tolist(), grid, rectangle)
        assert np.array_equal(fast[view].numpy(), slow), view


def test_blocks_and_cells_cut_what_was_asked():
    for ratio in (0.1, 0.3, 0.5):
        blocks = (~block_cutout(full(500, ratio), (14, 14), draw())).float().mean(dim=(1, 2))
        assert blocks.max() <= ratio + 1e-6
        assert blocks.mean() > ratio - 0.02
        cells = (~cutout("random", full(50, ratio), (14, 14), draw())).sum(dim=(1, 2))
        assert (cells == int(ratio * 196)).all()


def test_proposals_as_boxes():
    box = torch.tensor([[[2, 3, 8, 11]]]).expand(50, 1, 4)
    keep = region_cutout(full(50, 0.5), (14, 14), draw(), boxes=box)
    assert keep[:, :2].all()
    assert keep[:, :, 11:].all()
    cut = (~keep).float().sum(dim=(1, 2)) / 48
    assert cut.mean() == pytest.approx(0.5, abs=0.05)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="near: rcc"):
        cutout("rc", full(2, 0.3), (14, 14), draw())
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(ArgumentError, match="ratio must be"):
            cutout("rcc", full(2, ratio), (14, 14), draw())


def test_survival_is_the_share_of_each_object_that_is_left(scenes):
    index = read_instances(scenes[0])
    found = object_survival(index, [("rcc", 0.4), ("blockwise", 0.4), ("random", 0.4)], draws=10)
    rcc, blocks, cells = found
    assert rcc.visible.shape == (len(index.objects), 10)
    assert ((rcc.visible >= 0) & (rcc.visible <= 1 + 1e-12)).all()
    assert sorted(rcc.annotations) == [record.annotation_id for record in index.objects]
    # Single cells are spread, so what is left of an object is what is left of the grid.
    assert cells.visible.mean() == pytest.approx(0.6, abs=0.02)
    assert rcc.erased.mean() < blocks.erased.mean()
    alone = object_survival(index, [("rcc", 0.4)], draws=10)[0]
    assert np.array_equal(alone.visible, rcc.visible)
    assert (object_survival(index, [("rcc", 0.4)], draws=3, seed=1)[0].visible != alone.visible[:, :3]).any()


def test_masks_writes_rows_and_a_figure(scenes, tmp_path):
    out = tmp_path / "run"
    done = run("masks", "--annotations", scenes[0], "--ratio", ".3,.5", "--draws", 4, "--out", out)
    assert done.exit_code == 0, done.output
    for word in ("blockwise", "random", "rcc", "erased"):
        assert word in done.stdout
    rows = pd.read_csv(out / "rows.csv")
    assert len(rows) == 6 * rows["annotation"].nunique()
    summary = json.loads((out / "summary.json").read_text())
    first = summary["masks"][0]
    mine = rows[(rows["strategy"] == first["strategy"]) & (rows["ratio"] == first["ratio"])]
    assert first["erased"]["value"] == pytest.approx(mine["erased"].mean())
    assert first["visible"]["value"] == pytest.approx(mine["visible_mean"].mean())
    assert (out / "survival.pdf").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--strategy", "rcc,blocks"), "strategy must be one of"),
        (("--ratio", "1.2"), "between 0 and 1"),
        (("--ratio", "a"), "not numbers"),
        (("--min-area", "99999999"), "no eligible object"),
    ],
)
def test_bad_words_are_one_sentence(scenes, tmp_path, words, sentence):
    done = run("masks", "--annotations", str(scenes[0]), "--out", str(tmp_path / "x"), *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_survival_figure_keeps_its_labels(tmp_path):
    generator = np.random.default_rng(0)
    figure = survival_figure({(name, ratio): generator.random((9, 4)) for name in STRATEGIES for ratio in (0.2, 0.6)})
    figure.draw_without_rendering()
    texts = [*figure.texts, *(axes.yaxis.label for axes in figure.axes if axes.get_ylabel()), *figure.legends]
    boxes = [text.get_window_extent() for text in texts]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
    with pytest.raises(ArgumentError, match="at least one"):
        survival_figure({})
