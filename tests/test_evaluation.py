"""Object-level nearest neighbours: against loops, and on features whose answer is known."""

import numpy as np
import pytest
import torch

import couplingkit as ck
from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.evaluation.object_knn import nearest_neighbours


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    annotations, images = ck.write_scenes(tmp_path_factory.mktemp("knn") / "scenes", count=24, seed=5)
    return ck.read_instances(annotations, ck.Eligibility(min_area=900)), images


@pytest.mark.parametrize(("count", "groups", "k"), [(7, 3, 1), (12, 4, 3), (5, 5, 4)])
def test_neighbours_against_loops(count, groups, k):
    rng = np.random.default_rng(count)
    vectors, group = rng.normal(size=(count, 6)), np.arange(count) % groups
    places, cosines = nearest_neighbours(torch.from_numpy(vectors), group, k)
    for one in range(count):
        found = []
        for other in range(count):
            if group[other] != group[one]:
                a, b = vectors[one], vectors[other]
                found.append((float(a @ b / np.sqrt((a @ a) * (b @ b))), other))
        found.sort(key=lambda pair: -pair[0])
        kept = [place for _, place in found[:k]]
        assert places[one, : len(kept)].tolist() == kept
        assert cosines[one, : len(kept)] == pytest.approx([value for value, _ in found[:k]], abs=1e-12)


class Colours(torch.nn.Module):
    """Cells of 8 px whose features are their mean colour and its square."""

    def forward(self, images):
        cells = torch.nn.functional.avg_pool2d(images, 8)
        return torch.cat([cells, cells**2], dim=1)


def colours():
    return ck.NetworkBackbone(
        Colours(),
        lambda network, images: network(images),
        name="colours",
        size_px=(96, 120),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def test_accuracy_is_the_mean_of_its_rows_and_hue_tells_kinds_apart(scenes):
    index, images = scenes
    found = ck.object_knn(colours(), index, images)
    rows = found.rows[found.rows["measured"]]
    assert len(found.rows) == len(index.objects)
    assert found.accuracy.value == pytest.approx((rows["predicted"] == rows["category"]).mean())
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
    by_id = found.rows.set_index("annotation")
    for row in rows.itertuples():
        assert by_id.loc[row.neighbour, "image"] != row.image
        assert by_id.loc[row.neighbour, "category"] == row.predicted
    # Kinds of this data differ by hue: their mean colours say more than the commonest kind does.
    assert found.accuracy.value > found.chance + 0.1
    again = ck.object_knn(colours(), index, images, ck.KnnSettings(batch_size=3))
    assert again.rows.equals(found.rows)


def test_small_objects_are_left_out_and_counted(scenes):
    index, images = scenes
    found = ck.object_knn(colours(), index, images, ck.KnnSettings(min_cells=6.0))
    left_out = ~found.rows["measured"].to_numpy()
    assert 0 < left_out.sum() < len(left_out)
    assert (found.rows["cells"].to_numpy()[left_out] < 6).all()
    assert found.rows["predicted"].isna().to_numpy()[left_out].all()


def test_a_draw_of_objects_and_what_cannot_be_measured(scenes):
    index, images = scenes
    one, other = (ck.object_knn(colours(), index, images, ck.KnnSettings(count=15, seed=seed, k=3)) for seed in (0, 1))
    assert len(one.rows) == len(other.rows) == 15
    assert set(one.rows["annotation"]) != set(other.rows["annotation"])
    with pytest.raises(MeasurementError, match="0 photos have an object"):
        ck.object_knn(colours(), index, images, ck.KnnSettings(min_cells=1000.0))
    with pytest.raises(ArgumentError, match="k must be at least 1"):
        ck.object_knn(colours(), index, images, ck.KnnSettings(k=0))
