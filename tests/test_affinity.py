"""Affinity maps: laws, an independent slow reference, and that a point of a photo is where a person sees it."""

import numpy as np
import pytest
import reference
import torch
from PIL import Image

import couplingkit as ck
from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.evaluation.affinity import Query, affinity_maps, map_arrays, probe_maps
from couplingkit.evaluation.photo_features import CellMap, read_photos
from couplingkit.features.loading import load_layers
from couplingkit.features.regions import covered_shares
from couplingkit.metrics.affinity import affinity_at_points, affinity_map, features_at, upsample
from couplingkit.pixels import Frame

STRIDE = 16


@pytest.fixture
def features():
    return torch.from_numpy(np.random.default_rng(3).normal(size=(7, 5, 9)).astype(np.float32))


def whole(grid, photo=None):
    """A photo that fills the input exactly."""
    size = (grid[0] * STRIDE, grid[1] * STRIDE)
    return Frame.fitted(photo or size, size, fit="stretch")


class Colours(torch.nn.Module):
    """A network that cannot couple: the mean colour of each cell, away from gray."""

    def forward(self, images):
        return torch.nn.functional.avg_pool2d(images, STRIDE)


def colour_backbone(size, mean=(0.5, 0.5, 0.5)):
    return ck.NetworkBackbone(
        Colours(), lambda net, x: net(x), name="colours", size_px=size, mean=mean, std=(0.5, 0.5, 0.5)
    )


def test_a_query_at_a_cells_centre_has_affinity_1_there(features):
    frame = whole((5, 9))
    points = [(STRIDE * (column + 0.5) - 0.5, STRIDE * (row + 0.5) - 0.5) for row in range(5) for column in range(9)]
    maps = affinity_at_points(features, torch.tensor(points), frame=frame, stride_px=STRIDE)
    assert torch.allclose(maps.flatten(1).diagonal(), torch.ones(45, dtype=torch.float64), atol=1e-6)
    assert maps.abs().max() <= 1


def test_maps_agree_with_the_slow_reference(features):
    frame = Frame((60, 50), (80, 144), 8, 20, 64, 100)
    for x, y in ((0, 0), (49, 59), (17.25, 33.5), (-0.5, 59.5)):
        row = (8 + (y + 0.5) * 64 / 60) / STRIDE - 0.5
        column = (20 + (x + 0.5) * 100 / 50) / STRIDE - 0.5
        query = reference.bilinear_feature(features.numpy(), row, column)
        point = torch.tensor([[x, y]])
        found = features_at(features, point, frame=frame, stride_px=STRIDE)[0].numpy()
        assert np.abs(found - query).max() < 1e-12
        maps = affinity_at_points(features, point, frame=frame, stride_px=STRIDE)[0].numpy()
        assert np.abs(maps - reference.cosine_map(features.numpy(), query)).max() < 1e-12


def test_the_scale_of_the_features_changes_nothing(features):
    query = features[:, 2, 3][None]
    one = affinity_map(features[None], query)
    assert torch.allclose(one, affinity_map(1000 * features[None], 0.01 * query), atol=1e-7)


def test_a_feature_without_direction_is_undefined_not_zero(features):
    features[:, 1, 1] = 0
    maps = affinity_at_points(features, torch.tensor([[100.0, 60.0]]), frame=whole((5, 9)), stride_px=STRIDE)
    assert maps[0].isnan().sum() == 1
    assert maps[0, 1, 1].isnan()
    pixels = upsample(maps, frame=whole((5, 9)), stride_px=STRIDE)[0]
    assert pixels[STRIDE : 2 * STRIDE, STRIDE : 2 * STRIDE].isnan().all()
    assert pixels.isnan().sum() == STRIDE * STRIDE


def test_upsampling_is_cubic_convolution_and_nearest_is_blocks(features):
    maps = features[:2].to(torch.float64) / 10
    frame = whole((5, 9))
    blocks = upsample(maps, frame=frame, stride_px=STRIDE, how="nearest")
    assert torch.equal(blocks, maps.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2))
    smooth = upsample(maps, frame=frame, stride_px=STRIDE)
    # Pillow's bicubic is the same convolution, but for the border.
    inner = np.s_[2 * STRIDE : -2 * STRIDE, 2 * STRIDE : -2 * STRIDE]
    for one, cells in zip(smooth.numpy(), maps.numpy(), strict=True):
        image = Image.fromarray(cells.astype(np.float32)).resize((9 * STRIDE, 5 * STRIDE), Image.Resampling.BICUBIC)
        expected = np.clip(np.asarray(image), cells.min(), cells.max())
        assert np.abs(one[inner] - expected[inner]).max() < 1e-6
    assert smooth[0].max() <= maps[0].max()
    with pytest.raises(ArgumentError, match="bicubic, bilinear, nearest"):
        upsample(maps, frame=frame, stride_px=STRIDE, how="linear")


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("photo_size", [(96, 192), (192, 96), (100, 300)])
def test_a_point_of_a_non_square_photo_lands_where_it_should(fit, photo_size):
    """A planted red patch on blue: seen from inside it the map is 1 on the patch, and lower off it."""
    height, width = photo_size
    photo = np.full((height, width, 3), (0, 0, 255), dtype=np.uint8)
    top, left = height // 2, width // 8
    bottom, right = top + height // 3, left + width // 3
    photo[top:bottom, left:right] = (255, 0, 0)
    query = Query(0, (left + right) // 2, (top + bottom) // 2)
    (found,) = affinity_maps(colour_backbone((256, 256)), [photo], [query], fit=fit)
    pixels = found.maps[0].pixels()
    assert pixels.shape == photo_size
    planted = np.zeros(photo_size, dtype=bool)
    planted[top:bottom, left:right] = True
    # Along the patch's edge a cell holds both colours.
    close = pixels > 0.5
    assert (close & planted).sum() > 0.8 * planted.sum()
    assert (close & ~planted).sum() < 0.35 * planted.sum()
    inner = np.s_[
        (3 * top + bottom) // 4 + 4 : (top + 3 * bottom) // 4 - 4, (3 * left + right) // 4 : (left + 3 * right) // 4
    ]
    assert pixels[inner].min() > 0.9


def test_batch_size_and_company_change_nothing(real_photos):
    backbone = load_layers("random:test_vit", precision="float32", device="cpu")
    queries = [Query(number, 20, 30) for number in range(len(real_photos))]
    one, many = (affinity_maps(backbone, real_photos, queries, batch_size=size)[0] for size in (1, 8))
    for first, second in zip(one.maps, many.maps, strict=True):
        assert np.abs(first.cells - second.cells).max() < 1e-5
    (last,) = affinity_maps(backbone, real_photos, queries[-1:])
    assert np.abs(last.maps[0].cells - one.maps[-1].cells).max() < 1e-5


@pytest.fixture
def real_photos(scenes):
    from couplingkit.data.photos import open_photo

    return [open_photo(path)[:, : 90 + 10 * number] for number, path in enumerate(sorted(scenes[1].iterdir())[:5])]


def test_several_layers_and_raw_arrays(real_photos):
    layers = load_layers("random:test_vit", layer="0,2", precision="float32", device="cpu")
    queries = [Query(1, 20, 30), Query(0, 5, 6)]
    found = affinity_maps(layers, real_photos, queries)
    assert [model.name for model in found] == ["random:test_vit (layer 0)", "random:test_vit (layer 2)"]
    arrays = map_arrays(found, queries)
    assert arrays["queries"].tolist() == [[1, 20, 30], [0, 5, 6]]
    again = Frame(*[tuple(part) for part in np.split(arrays["frame_1_0"][:4], 2)], *arrays["frame_1_0"][4:8])
    kept = CellMap(arrays["map_1_0"], again, int(arrays["frame_1_0"][8]))
    assert np.array_equal(kept.pixels(), found[1].maps[0].pixels())


def test_pad_puts_the_mean_colour_around_the_photo():
    seen = []

    def read(net, images):
        seen.append(images)
        return net(images)

    backbone = ck.NetworkBackbone(Colours(), read, name="spy", size_px=64, mean=(0.2, 0.4, 0.6), std=(1, 1, 1))
    next(read_photos(ck.LayeredBackbone([backbone]), [np.full((32, 128, 3), 255, dtype=np.uint8)], fit="pad"))
    assert (seen[-1][0, :, :24] == 0).all()
    assert (seen[-1][0, :, 40:] == 0).all()
    assert torch.allclose(seen[-1][0, :, 24:40].amin(dim=(1, 2)), torch.tensor([0.8, 0.6, 0.4]))


def test_covered_shares_count_what_the_mask_covers():
    mask = np.random.default_rng(0).random((12, 20)) > 0.4
    frame = Frame((12, 20), (32, 48), 3, 5, 22, 36)
    found = covered_shares(torch.from_numpy(mask)[None], frame, stride_px=8, grid=(4, 6))[0].numpy()
    slow = reference.covered(mask, 3, 5, 22, 36, 8, (4, 6))
    assert np.abs(found - slow).max() < 0.02
    assert found.sum() == pytest.approx(mask.sum() * 22 * 36 / (12 * 20) / 64)


@pytest.mark.parametrize("point", [(-1, 5), (640, 5), (3, -0.6), (3, 99), (float("nan"), 1)])
def test_points_outside_are_refused(point):
    photo = np.zeros((64, 80, 3), dtype=np.uint8)
    with pytest.raises(ArgumentError, match="outside"):
        affinity_maps(colour_backbone(64), [photo], [Query(0, *point)])
    with pytest.raises(ArgumentError, match="outside"):
        features_at(torch.ones(3, 4, 4), torch.tensor([point]), frame=whole((4, 4), (64, 80)), stride_px=STRIDE)


def test_features_that_are_not_finite_give_no_map():
    backbone = ck.NetworkBackbone(
        Colours(), lambda net, x: net(x) / (x.amax() < 0.9), name="broken", size_px=64, mean=(0,) * 3, std=(1,) * 3
    )
    with pytest.raises(MeasurementError, match="not finite"):
        affinity_maps(backbone, [np.full((64, 64, 3), 255, dtype=np.uint8)], [Query(0, 5, 5)])


def test_a_probe_shows_the_leak_and_nothing_where_there_is_none(probes):
    leaky, clean = (
        probe_maps(load_layers(name, precision="float32", device="cpu"), probes, 3)[0]
        for name in ("control:leak:0.4", "control:cell")
    )
    # A network that reads each cell by itself: nothing of A's map changes.
    on_a = ~np.isnan(clean.alone.cells)
    assert np.nanmax(np.abs(clean.difference.cells[on_a])) < 1e-6
    assert clean.on_a[0] == pytest.approx(clean.on_a[1], abs=1e-6)
    assert abs(leaky.on_a[1] - leaky.on_a[0]) > 1e-4
    assert np.allclose(leaky.difference.cells, leaky.together.cells - leaky.alone.cells, equal_nan=True)
    with pytest.raises(ArgumentError, match="probe must be between 0 and 23"):
        probe_maps(load_layers("control:cell"), probes, 24)
