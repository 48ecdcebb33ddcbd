"""Objects told apart by planes, the logistic regression behind it, and scenes that are drawn once."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import couplingkit as ck
from couplingkit.data.coco import read_instances
from couplingkit.data.scene_cache import SceneCache
from couplingkit.data.scenes import draw_scene
from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.evaluation.object_linear import separated
from couplingkit.evaluation.object_vectors import ObjectVectors, object_vectors
from couplingkit.metrics.logistic import fit_chosen, fit_logistic, log_loss


def blobs(count=120, classes=4, width=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=count)
    vectors = rng.normal(size=(classes, width))[labels] * 1.5 + rng.normal(size=(count, width)) * [1, 5, 0.1, 1, 2, 1]
    return vectors, labels


@pytest.mark.parametrize("strength", [1e-3, 1e-2, 1e-1])
def test_logistic_regression_is_scikit_learns(strength):
    vectors, labels = blobs()
    standard = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    theirs = LogisticRegression(C=1 / (len(labels) * strength), tol=1e-10, max_iter=10_000).fit(standard, labels)
    ours = fit_logistic(vectors, np.eye(4)[labels], strength, gradient=1e-8)
    assert np.allclose(np.exp(ours.log_probabilities(vectors)), theirs.predict_proba(standard), atol=1e-4)


def test_logistic_regression_on_shares_and_its_gradient():
    """With soft labels it is that of rows which stand in for their shares."""
    vectors, labels = blobs(40)
    soft = 0.7 * np.eye(4)[labels] + 0.3 * np.eye(4)[(labels + 1) % 4]
    doubled = np.concatenate([vectors, vectors])
    weights = np.concatenate([np.full(40, 0.7), np.full(40, 0.3)])
    standard = (doubled - vectors.mean(axis=0)) / vectors.std(axis=0)
    theirs = LogisticRegression(C=1 / (40 * 0.01), tol=1e-10, max_iter=10_000)
    theirs.fit(standard, np.concatenate([labels, (labels + 1) % 4]), sample_weight=weights)
    ours = fit_logistic(vectors, soft, 0.01, gradient=1e-8)
    assert np.allclose(np.exp(ours.log_probabilities(vectors)), theirs.predict_proba(standard[:40]), atol=1e-3)
    assert log_loss(ours, vectors, soft) < log_loss(fit_logistic(vectors, soft, 1.0), vectors, soft)
    held = np.arange(40) % 5 == 0
    assert fit_chosen(vectors, soft, held)[1] in (1e-4, 1e-3, 1e-2, 1e-1)


def test_the_minimum_is_one_wherever_the_search_begins_and_in_float32():
    vectors, labels = blobs(300)
    vectors = vectors @ np.random.default_rng(5).normal(size=(6, 6))  # correlated, as channels are
    targets = np.eye(4)[labels]
    want = fit_logistic(vectors, targets, 1e-3, gradient=1e-9).log_probabilities(vectors)
    other = fit_logistic(vectors, targets, 10.0)
    begun = fit_logistic(vectors, targets, 1e-3, gradient=1e-9, start=other).log_probabilities(vectors)
    halved = fit_logistic(vectors, targets, 1e-3, products=torch.float32).log_probabilities(vectors)
    assert np.allclose(begun, want, atol=1e-6)
    # It stops at a gradient of its own, 1e-4 away; which products a processor has moves it within that.
    assert np.allclose(np.exp(halved), np.exp(want), atol=5e-4)
    model, strength = fit_chosen(vectors, targets, np.arange(300) % 5 == 0)
    assert np.allclose(model.weights, fit_logistic(vectors, targets, strength, gradient=1e-9).weights, atol=1e-2)
    assert fit_chosen(vectors, targets, np.zeros(300, dtype=bool), strengths=(1e-1, 1e-3, 1e-2))[1] == 1e-2


def test_constant_channels_and_what_is_not_finite():
    vectors, labels = blobs(60)
    more = np.concatenate([vectors, np.full((60, 1), 3.0)], axis=1)
    one, other = (fit_logistic(part, np.eye(4)[labels], 0.01).log_probabilities(part) for part in (vectors, more))
    assert np.allclose(one, other, atol=1e-4)
    vectors[3, 2] = np.nan
    with pytest.raises(MeasurementError, match="finite"):
        fit_logistic(vectors, np.eye(4)[labels], 0.01)


@pytest.fixture(scope="module")
def objects(scenes):
    return object_vectors(ck.load_backbone("bundled:ibot", device="cpu"), read_instances(scenes[0]), scenes[1])


def test_no_object_is_named_by_a_model_of_its_own_photo(objects):
    found = separated(objects)
    rows = found.rows[found.rows["measured"]]
    assert (rows.groupby("image")["fold"].nunique() == 1).all()
    assert set(rows["fold"]) == set(range(5))
    assert found.accuracy.value == pytest.approx((rows["predicted"] == rows["category"]).mean())
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.accuracy.value > found.chance
    again = separated(objects)
    assert (again.rows["predicted"].dropna() == rows["predicted"]).all()


def test_vectors_that_say_the_category_are_told_apart_and_noise_is_not(objects):
    names = sorted(set(objects.rows["category"]))
    places = objects.rows["category"].map(names.index).to_numpy()
    told = ObjectVectors("told", objects.rows, torch.eye(len(names))[places], objects.chance, objects.provenance)
    measured = separated(told)
    # A category of a single photo cannot be known from the others.
    photos = objects.rows.groupby("category")["image"].nunique()
    known = objects.rows["category"].map(photos).to_numpy() > 1
    assert measured.rows[known & measured.rows["measured"]]["correct"].astype(bool).mean() > 0.9
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(places), 8, generator=generator)
    assert separated(ObjectVectors("n", objects.rows, noise, 0.1, objects.provenance)).accuracy.value < 0.3


def test_bad_folds(objects):
    with pytest.raises(ArgumentError, match="folds must be"):
        ck.LinearSettings(folds=1)
    few = objects.rows.assign(measured=objects.rows["image"].isin(sorted(set(objects.rows["image"]))[:6]))
    with pytest.raises(MeasurementError, match=r"6 photos have an object .* but 10 are needed"):
        separated(ObjectVectors("few", few, objects.vectors, 0.1, objects.provenance))


# ---- scenes that are drawn once ------------------------------------------------------------------


def test_a_cached_scene_is_the_drawn_one_and_damage_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "cache"))
    held = SceneCache(10, 3, 40, 32)
    drawn = [draw_scene(number, seed=3, width=40, height=32).rgb for number in range(3)]
    for _ in range(2):
        assert all(np.array_equal(held.read(number), drawn[number]) for number in (2, 0, 1))
    (path,) = (tmp_path / "cache").iterdir()
    content = bytearray(path.read_bytes())
    assert len(content) == 3 * (4 + 40 * 32 * 3)
    content[4 + 50] ^= 1
    path.write_bytes(bytes(content[:-7]))
    assert all(np.array_equal(held.read(number), drawn[number]) for number in range(3))
    assert path.stat().st_size == len(content), "and kept again"
    assert not np.array_equal(SceneCache(10, 4, 40, 32).read(0), drawn[0]), "of another seed"


def test_a_place_that_cannot_be_written_costs_speed_only(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "file"))
    assert np.array_equal(SceneCache(4, 0, 40, 32).read(1), draw_scene(1, width=40, height=32).rgb)
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "cache"))
    SceneCache(10**6, 0, 400, 320).read(0)
    assert not (tmp_path / "cache").exists(), "a set of more than 1 GiB is not kept"
