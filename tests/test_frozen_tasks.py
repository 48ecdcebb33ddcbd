"""Frozen features are scored rightly: against scikit-learn, loops and networks whose score is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import jaccard_score

import couplingkit as ck
from couplingkit.data.label_maps import ArrayPhotos
from couplingkit.data.labelled_data import LabelledData, open_labelled_data
from couplingkit.errors import ArgumentError, CouplingKitError, DataError
from couplingkit.evaluation.bank import Bank
from couplingkit.evaluation.cells import cell_shares, predicted_pixels
from couplingkit.evaluation.chunks import Chunks
from couplingkit.evaluation.knn_segmentation import NeighbourSegmenter
from couplingkit.evaluation.leak import LeakingNetwork, leaked
from couplingkit.evaluation.photo_features import PhotoFeatures
from couplingkit.evaluation.running import evaluate
from couplingkit.evaluation.scores import compare_scores, score_gaps
from couplingkit.evaluation.task import EvaluateSettings
from couplingkit.metrics.confusion import count_pixels, mean_iou
from couplingkit.metrics.discovery import cells_box, lost, overlap, token_cut
from couplingkit.metrics.nearest import mask_gaps
from couplingkit.pixels import Frame

COLOURS = np.array([[40, 40, 40], [250, 20, 20], [20, 250, 20], [20, 20, 250]], dtype=np.uint8)
CLASSES = ("background", "red", "green", "blue")
HEIGHT, WIDTH, STRIDE = 48, 64, 8


def flat_photos(count, seed, *, shuffled=False):
    """Photos of rectangles in the colours of their classes: what a pixel is can be read off it."""
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
        for kind in rng.permutation([1, 2, 3])[: rng.integers(1, 4)]:
            top, left = rng.integers(0, HEIGHT - 16), rng.integers(0, WIDTH - 16)
            labels[top : top + rng.integers(10, 16), left : left + rng.integers(10, 16)] = kind
        # No two photos are the same.
        rgb = COLOURS[labels].copy()
        rgb[0, 0] = rng.integers(0, 30, 3)
        labels[0, 0] = 255
        if shuffled:
            labels = rng.permutation(labels.ravel()).reshape(labels.shape)
        items.append((rgb, labels))
    return ArrayPhotos(items, CLASSES)


@pytest.fixture(scope="module")
def flat():
    return LabelledData("flat", flat_photos(20, 0), flat_photos(20, 1))


class Shares(torch.nn.Module):
    """Says of each cell which share of it has each colour."""

    def forward(self, images):
        colours = torch.from_numpy(COLOURS).float() / 255
        distances = ((images[:, None] - colours[None, :, :, None, None]) ** 2).sum(dim=2)
        nearest = F.one_hot(distances.argmin(dim=1), len(COLOURS)).permute(0, 3, 1, 2).float()
        return F.avg_pool2d(nearest, STRIDE)


def backbone(network, name="net", stride=STRIDE):
    return ck.NetworkBackbone(
        network,
        lambda net, images: net(images),
        name=name,
        size_px=(HEIGHT, WIDTH),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        declared=ck.Declaration(stride),
    )


class Logarithm(torch.nn.Module):
    def forward(self, shares):
        return (shares + 1e-3).log()


class Constant(torch.nn.Module):
    def forward(self, images):
        return torch.ones(len(images), 5, HEIGHT // STRIDE, WIDTH // STRIDE)


@pytest.fixture(scope="module")
def patches():
    torch.manual_seed(0)
    return backbone(torch.nn.Sequential(torch.nn.Conv2d(3, 16, STRIDE, STRIDE), torch.nn.ReLU()))


BOTH = ("knn-seg", "linear-seg")


def test_true_shares_as_features_come_within_a_point_of_the_ceiling(flat):
    many = LabelledData("many", flat_photos(400, 2), flat.test)
    # What a softmax of planes can say exactly are the logarithms of shares.
    logarithms = torch.nn.Sequential(Shares(), Logarithm())
    settings = EvaluateSettings(k=5)
    (near,) = evaluate(backbone(Shares()), "knn-seg", many, settings)
    (linear,) = evaluate(backbone(logarithms), "linear-seg", many, settings)
    for one in (near, linear):
        assert one.score.value >= one.ceiling - 0.01, one.task
        assert one.ceiling > 0.6 > 0.3 > one.floor


def test_constant_features_are_the_floor_exactly(flat):
    for one in evaluate(backbone(Constant()), BOTH, flat):
        assert one.score.value == one.floor, one.task


def test_training_labels_that_say_nothing_give_the_floor(flat):
    said = LabelledData("shuffled", flat_photos(20, 0, shuffled=True), flat.test)
    for one in evaluate(backbone(Shares()), BOTH, said):
        assert one.score.low <= one.floor <= one.score.high, one.task


def test_mean_iou_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(-1, 6, (5, 40, 50)), rng.integers(0, 7, (5, 40, 50))
    counts = [count_pixels(ours, true, 7) for ours, true in zip(predicted, labels, strict=True)]
    sums = [
        np.sum([getattr(one, name) for one in counts], axis=0) for name in ("intersection", "predicted", "labelled")
    ]
    known = labels >= 0
    expected = jaccard_score(labels[known], predicted[known], average="macro", labels=range(6), zero_division=0)
    assert mean_iou(*(one.astype(float) for one in sums)) == pytest.approx(expected, abs=1e-12)


def test_scores_are_what_a_loop_over_pixels_counts(flat, patches):
    """The whole way, by slow means: features, neighbours, pixels, counts."""
    settings = EvaluateSettings(k=5, temperature=0.1)
    one = evaluate(patches, "knn-seg", flat, settings)[0]
    vectors, shares = [], []
    for identity in flat.train.ids:
        rgb, labels = flat.train.read(identity)
        cells = patches(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)[0]
        for row in range(HEIGHT // STRIDE):
            for column in range(WIDTH // STRIDE):
                block = labels[row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
                block = block[block >= 0]
                vectors.append(cells[:, row, column].double().numpy())
                shares.append(np.bincount(block, minlength=4) / len(block))
    unit = np.array(vectors) / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    sums = np.zeros((3, 4))
    for identity in flat.test.ids:
        rgb, labels = flat.test.read(identity)
        cells = patches(torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255)[0].double().numpy()
        grid = np.zeros((4, HEIGHT // STRIDE, WIDTH // STRIDE))
        for row in range(grid.shape[1]):
            for column in range(grid.shape[2]):
                query = cells[:, row, column] / max(np.linalg.norm(cells[:, row, column]), 1e-12)
                cosines = unit @ query
                nearest = np.argsort(-cosines, kind="stable")[:5]
                weights = np.exp((cosines[nearest] - cosines[nearest].max()) / 0.1)
                grid[:, row, column] = weights @ np.array(shares)[nearest] / weights.sum()
        up = F.interpolate(torch.from_numpy(grid)[None], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
        predicted = up.numpy().argmax(axis=0)
        known = labels >= 0
        for kind in range(4):
            sums[:, kind] += [
                (known & (predicted == kind) & (labels == kind)).sum(), (known & (predicted == kind)).sum(),
                (known & (labels == kind)).sum(),
            ]  # fmt: skip
    expected = np.mean(sums[0] / (sums[1] + sums[2] - sums[0]))
    # Equal neighbours, of which these flat photos have many, come in another order: pixels at edges may change.
    assert one.score.value == pytest.approx(expected, abs=0.02)


def test_neighbours_are_those_of_a_loop_whatever_the_chunk():
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (200, 6)).astype(np.float32) + 0.01
    shares = rng.dirichlet(np.ones(3), 200).astype(np.float32)
    queries = torch.from_numpy(rng.standard_normal((50, 6)).astype(np.float32))
    bank = Bank(vectors, shares, np.arange(200))
    results = []
    for chunk in (7, 64, 1000):
        fitted = NeighbourSegmenter.fitted(bank, torch.device("cpu"), k=10)
        one = NeighbourSegmenter(fitted.unit, fitted.shares, fitted.k, fitted.temperature, chunk)
        results.append(one(queries))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, query in enumerate(queries.numpy()):
        cosines = unit @ (query / np.linalg.norm(query))
        nearest = np.argsort(-cosines, kind="stable")[:10]
        weights = np.exp((cosines[nearest] - cosines[nearest].max()) / 0.02)
        expected = weights @ shares[nearest] / weights.sum()
        for found in results:
            assert found[row] == pytest.approx(expected, abs=1e-4)


def test_of_equal_cosines_the_first_in_the_bank_counts():
    bank = Bank(np.ones((100, 4), np.float32), np.eye(2, dtype=np.float32)[[0] * 30 + [1] * 70], np.arange(100))
    one = NeighbourSegmenter.fitted(bank, torch.device("cpu"), k=30)
    assert one(torch.ones(1, 4)).tolist() == [[pytest.approx(1.0), 0.0]]


def test_shares_of_cells_are_exact_and_leave_out_what_is_not_labelled():
    frame = Frame.fitted((48, 64), (48, 64), fit="stretch")
    labels = np.full((48, 64), -1, dtype=np.int16)
    labels[:8, :2], labels[:8, 2:4] = 1, 2
    features = PhotoFeatures(torch.zeros(1, 6, 8), frame, 8)
    shares, labelled = cell_shares(labels, features, 3)
    assert shares[:, 0, 0].tolist() == [0, 0.5, 0.5] and labelled[0, 0] == 0.5
    assert not shares[:, 1, 1].any() and labelled[1, 1] == 0


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_pixels_are_predicted_by_linear_interpolation(fit):
    frame = Frame.fitted((30, 60), (32, 32), fit=fit)
    shares = np.random.default_rng(0).random((3, 8, 8))
    predicted = predicted_pixels(shares, PhotoFeatures(torch.zeros(1, 8, 8), frame, 4))
    assert predicted.shape == (30, 60)
    if fit == "stretch":
        up = F.interpolate(torch.from_numpy(shares)[None], (30, 60), mode="bilinear", align_corners=False)[0]
        assert (up.numpy().argmax(axis=0) == predicted).all()


def test_batches_places_and_going_on_change_nothing(flat, patches, tmp_path):
    def rows(chunks=None, **settings):
        found = evaluate(patches, BOTH, flat, EvaluateSettings(**settings), chunks=chunks)
        return [one.rows for one in found]

    plain = rows()
    for found in (rows(batch_size=3), rows(chunks=Chunks(tmp_path / "a"))):
        assert all(one.equals(other) for one, other in zip(plain, found, strict=True))
    kept = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert kept == ["test-knn-seg-linear-seg-000000.npz", "train-000000.npz"]
    (tmp_path / "a" / kept[0]).write_bytes(b"damaged")
    assert all(one.equals(other) for one, other in zip(plain, rows(chunks=Chunks(tmp_path / "a")), strict=True))


def test_what_is_there_is_not_read_again(flat, patches, tmp_path):
    evaluate(patches, "knn-seg", flat, chunks=Chunks(tmp_path))

    def broken(_identity):
        raise AssertionError("a photo was read again")

    train, test = (ArrayPhotos(half.items, half.classes) for half in (flat.train, flat.test))
    fingerprints = train.fingerprint(), test.fingerprint()
    train.read = test.read = broken
    again = evaluate(patches, "knn-seg", LabelledData("flat", train, test), chunks=Chunks(tmp_path))
    assert fingerprints == (flat.train.fingerprint(), flat.test.fingerprint())
    assert again[0].score == evaluate(patches, "knn-seg", flat)[0].score


def test_a_bank_of_some_cells_has_as_many_of_each_photo(flat, patches):
    whole, part = (evaluate(patches, "knn-seg", flat, EvaluateSettings(bank=bank))[0] for bank in (None, 200))
    assert whole.score != part.score
    assert whole.provenance["settings"]["bank"] is None


def test_a_photo_in_both_halves_is_refused(flat, patches):
    same = LabelledData("same", flat.train, ArrayPhotos([*flat.test.items, flat.train.items[3]], CLASSES))
    with pytest.raises(DataError, match="stand in both halves"):
        evaluate(patches, "knn-seg", same)


def test_a_leak_of_nothing_is_the_network_itself_and_more_costs_more(flat):
    network = ck.LayeredBackbone([backbone(Shares())])
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    assert torch.equal(LeakingNetwork(network, 0.0)(images)[0], network(images)[0])
    scores = [evaluate(LeakingNetwork(network, amount), "knn-seg", flat)[0].score.value for amount in (0.0, 0.5, 0.9)]
    assert scores[0] > scores[2]


@pytest.mark.parametrize("reach", [None, 1, 2])
def test_a_leak_is_a_mean_of_the_cells_around(reach):
    features = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    found = leaked(features, 0.3, reach=reach)
    for row in range(5):
        for column in range(6):
            near = features[
                0, :,
                slice(None) if reach is None else slice(max(row - reach, 0), row + reach + 1),
                slice(None) if reach is None else slice(max(column - reach, 0), column + reach + 1),
            ].mean(dim=(1, 2))  # fmt: skip
            assert torch.allclose(found[0, :, row, column], 0.7 * features[0, :, row, column] + 0.3 * near)


@pytest.fixture(scope="module")
def bundled():
    return ck.load_layers("bundled:ibot", precision="float32", device="cpu")


@pytest.fixture(scope="module")
def drawn():
    return open_labelled_data("scenes:24+24")


@pytest.fixture(scope="module")
def scored(bundled, drawn):
    return {one.task: one for one in evaluate(bundled, "knn-seg,linear-seg,objects,discover", drawn)}


def test_objects_are_told_as_object_knn_tells_them(scored, bundled, drawn, tmp_path):
    """The same objects, read from files by the older way."""
    import json

    from PIL import Image

    from couplingkit.data.segmentation import encode_mask, tight_box

    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number, identity in enumerate(drawn.test.ids):
        rgb, _ = drawn.test.read(identity)
        Image.fromarray(rgb).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": rgb.shape[1], "height": rgb.shape[0]})
        for one in drawn.test.objects(identity):
            rle = encode_mask(one.mask)
            area, *box = tight_box(rle)
            annotations.append(
                {"id": one.annotation, "image_id": number, "category_id": one.label, "area": area, "bbox": box,
                 "segmentation": rle, "iscrowd": 0}
            )  # fmt: skip
    kinds = [{"id": place, "name": name} for place, name in enumerate(drawn.classes)]
    (tmp_path / "i.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": kinds}))
    index = ck.read_instances(tmp_path / "i.json", ck.Eligibility(min_area=1, allow_border=True))
    older = ck.object_knn(bundled.layers[0], index, tmp_path / "images")
    ours = scored["objects"].objects
    assert sorted(ours["annotation"]) == sorted(older.rows["annotation"])
    known = ours.set_index("annotation").loc[older.rows["annotation"]]
    assert (known["correct"].to_numpy() == older.rows["correct"].to_numpy()).all()
    assert scored["objects"].score.value == pytest.approx(older.accuracy.value)


def test_what_objects_are_taken_for_derives_from_predicted_pixels(scored, drawn):
    table = scored["linear-seg"].objects
    assert ((table["recall"] >= 0) & (table["recall"] <= 1)).all()
    measured = table[table["measured"]]
    assert (measured["neighbour_category"] != measured["category"]).all()
    assert (measured["recall"] + measured["taken_by_neighbour"] <= 1 + 1e-6).all()
    # A neighbour of another class is the nearest one, by a loop over all pixels.
    row = measured.iloc[0]
    objects = {one.annotation: one for one in drawn.test.objects(row["photo"])}
    own = np.argwhere(objects[row["annotation"]].mask)
    gaps = {
        key: np.sqrt(((own[:, None] - np.argwhere(one.mask)[None]) ** 2).sum(axis=2).min())
        for key, one in objects.items()
        if one.label != objects[row["annotation"]].label
    }
    assert min(gaps, key=gaps.get) == row["neighbour"]
    assert row["distance_px"] == pytest.approx(min(gaps.values()), abs=1e-3)


def test_the_control_is_the_same_class_where_it_is_not(scored):
    """taken_elsewhere by a loop over the objects."""
    from couplingkit.evaluation.concluding import _elsewhere

    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), 30).astype(np.float32)
    photo, label = rng.integers(0, 8, 30), rng.integers(0, 4, 30)
    near = np.where(rng.random(30) < 0.3, -1, (label + rng.integers(1, 4, 30)) % 4)
    found = _elsewhere(shares, photo, label, near)
    for row in range(30):
        kind = near[row]
        absent = [
            one for one in range(30) if not ((photo == photo[one]) & (label == kind)).any() and label[one] != kind
        ]
        alike = [one for one in absent if label[one] == label[row]] or absent
        if kind < 0 or not alike:
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(np.mean([shares[one, kind] for one in alike]), abs=1e-6)


def test_a_difference_is_of_the_photos_of_both(scored, drawn):
    other = evaluate(ck.load_layers("bundled:ibot-d", precision="float32", device="cpu"), "knn-seg", drawn)[0]
    gap = compare_scores(other, scored["knn-seg"])
    assert gap.estimate.value == pytest.approx(other.score.value - scored["knn-seg"].score.value)
    assert gap.estimate.low <= gap.estimate.value <= gap.estimate.high and gap.photos == 24
    back = compare_scores(scored["knn-seg"], other)
    assert back.estimate.low == pytest.approx(-gap.estimate.high, abs=2e-3)
    with pytest.raises(CouplingKitError, match="scored in"):
        compare_scores(other, scored["linear-seg"])
    alone = evaluate(ck.load_layers("bundled:ibot-d", device="cpu"), "knn-seg", drawn, EvaluateSettings(k=3))[0]
    with pytest.raises(CouplingKitError, match="other settings"):
        score_gaps(other, alone)


def test_discovery_finds_the_one_object_there_is():
    """Cells of one object that are alike, on a ground that is alike."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 0.05, (16, 10, 12))
    features[0] += 1
    features[:, 3:7, 4:9] += np.eye(16)[1][:, None, None] * 3 - np.eye(16)[0][:, None, None]
    features -= features.mean(axis=(1, 2), keepdims=True)
    expected = np.zeros((10, 12), dtype=bool)
    expected[3:7, 4:9] = True
    for find in (token_cut, lost):
        cells = find(features)
        assert (cells & expected).sum() / (cells | expected).sum() > 0.9, find.__name__
    assert cells_box(expected, stride_px=16) == (64, 48, 144, 112)
    assert overlap((0, 0, 4, 4), np.array([[0.0, 0, 4, 4], [2, 0, 6, 4]])).tolist() == [1.0, pytest.approx(1 / 3)]


def test_gaps_of_masks_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    masks = [np.zeros((20, 30), dtype=bool) for _ in range(4)]
    for place, mask in enumerate(masks):
        mask[rng.integers(0, 12) : 14, place * 7 : place * 7 + rng.integers(2, 7)] = True
    gaps = mask_gaps(masks)
    for first in range(4):
        for second in range(4):
            if first != second:
                pairs = np.argwhere(masks[first])[:, None] - np.argwhere(masks[second])[None]
                assert gaps[first, second] == pytest.approx(np.sqrt((pairs**2).sum(axis=2).min()))
    assert mask_gaps([masks[0], masks[0]])[0, 1] == 0


@pytest.mark.parametrize("names", ["knn", "", "knn-seg,knn-seg"])
def test_tasks_that_are_none_are_refused(names, flat, patches):
    with pytest.raises(ArgumentError, match="task"):
        evaluate(patches, names, flat)


def test_objects_are_needed_where_they_are_scored(flat, patches):
    with pytest.raises(ArgumentError, match="needs single objects"):
        evaluate(patches, "objects", flat)


def test_several_layers_are_scored_in_one_pass(drawn):
    both = ck.load_layers("bundled:ibot", layer="1,3", precision="float32", device="cpu")
    found = evaluate(both, "knn-seg", drawn)
    alone = evaluate(ck.load_layers("bundled:ibot", layer="3", precision="float32", device="cpu"), "knn-seg", drawn)
    assert [one.name for one in found] == [layer.name for layer in both.layers]
    assert found[1].rows.equals(alone[0].rows)
