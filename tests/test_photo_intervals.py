"""Intervals over photos and families cover the truth; p-values are uniform under their null."""

import numpy as np
import pytest

from couplingkit.metrics.bootstrap import Estimate
from couplingkit.metrics.confusion import mean_iou
from couplingkit.metrics.photo_intervals import photo_draws, photo_intervals, photo_p_value
from couplingkit.metrics.ranks import Point, rank_correlation, within_families
from couplingkit.streams import Stream

EXPERIMENTS = 400


def photo_counts(rng, photos, *, classes=6):
    """Pixels of photos: a class is in some of them, and photos differ in how well they are predicted."""
    labelled = rng.gamma(1.5, 100, (photos, classes)) * (rng.random((photos, classes)) < np.linspace(0.9, 0.3, classes))
    hit = np.clip(rng.normal(0.6, 0.15, (photos, 1)) + rng.normal(0, 0.1, (photos, classes)), 0.02, 0.98)
    intersection = labelled * hit
    predicted = intersection + rng.gamma(1.0, 60, (photos, classes)) * 0.5
    return intersection, predicted, labelled


@pytest.mark.parametrize("photos", [40, 100])
def test_intervals_of_mean_iou_cover_it(photos):
    truth = mean_iou(*(part.sum(axis=0) for part in photo_counts(np.random.default_rng(1), 400_000)))
    inside = 0
    for number in range(EXPERIMENTS):
        parts = photo_counts(np.random.default_rng([2, number]), photos)
        (found,) = photo_intervals(
            lambda weights, parts=parts: mean_iou(*(weights @ part for part in parts))[:, None],
            photos,
            Stream(number),
            resamples=400,
        )
        inside += found.low <= truth <= found.high
    # Of 400 experiments of 95 % a share within 93 and 98 % is what one expects, but for a standard error of 1.1 %.
    assert 0.92 <= inside / EXPERIMENTS <= 0.98


def test_a_mean_has_students_interval():
    values = np.random.default_rng(0).normal(0.5, 0.1, 60)
    (found,) = photo_intervals(lambda w: (w @ values / w.sum(axis=1))[:, None], 60, Stream(0), resamples=20_000)
    half = 2.0010 * values.std(ddof=1) / np.sqrt(60)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)


def test_few_photos_have_no_interval_and_no_p_value():
    (found,) = photo_intervals(lambda w: w.sum(axis=1, keepdims=True), 9, Stream(0))
    assert found.value == 9 and np.isnan(found.low)
    assert np.isnan(photo_p_value(0.1, np.ones(10), 20))


def test_p_values_of_no_difference_are_seldom_small():
    small = 0
    for number in range(300):
        gaps = np.random.default_rng([3, number]).normal(0, 1, 50)
        values, deviations = photo_draws(
            lambda w, gaps=gaps: (w @ gaps / w.sum(axis=1))[:, None], 50, Stream(number), resamples=400
        )
        small += photo_p_value(values[0], deviations[:, 0], 50) < 0.05
    assert 0.02 <= small / 300 <= 0.085


def point(family, x, y, half=0.0):
    return Point(family, *(Estimate(value, value - half, value + half) for value in (x, y)))


def test_within_families_the_p_value_is_uniform_under_its_null():
    """Families differ in both numbers, so that all models together are related; within them nothing is."""
    rng = np.random.default_rng(0)
    p_values, together = [], []
    for number in range(150):
        points = [point(str(family), *(family + rng.normal(0, 0.3, 2))) for family in range(6) for _ in range(4)]
        p_values.append(within_families(points, Stream(number), permutations=200).p)
        together.append(rank_correlation(points, Stream(number), resamples=100)[0].value)
    assert np.mean(together) > 0.8
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.11)


def test_within_families_finds_what_is_there():
    points = [point(str(family), family + step, -family + step) for family in range(5) for step in np.arange(4) / 10]
    found = within_families(points, Stream(0))
    assert found.rho == pytest.approx(1) and found.p < 0.01 and (found.families, found.models) == (5, 20)
    assert rank_correlation(points, Stream(0))[0].value < -0.8


@pytest.mark.slow
def test_intervals_of_rho_cover_it_over_families():
    """Each family has its own place; the truth is the correlation of all models that there could be."""
    rng = np.random.default_rng(0)

    def drawn(families, models):
        places = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], families)
        return [
            point(str(n), *(place + rng.normal(0, 0.5, 2))) for n, place in enumerate(places) for _ in range(models)
        ]

    truth = rank_correlation(drawn(3000, 1), Stream(0), resamples=100)[0].value
    inside = 0
    for number in range(200):
        found, families = rank_correlation(drawn(20, 3), Stream(number), resamples=300)
        inside += found.low <= truth <= found.high
    assert families == 20
    # Few families and twice resampled: wider than it need be, never narrower.
    assert inside / 200 >= 0.92


def test_below_five_families_there_is_no_inference():
    found, families = rank_correlation([point(str(n % 4), n, -n) for n in range(12)], Stream(0))
    assert families == 4 and found.value == pytest.approx(-1) and np.isnan(found.low)
    assert np.isnan(within_families([point(str(n), n, n) for n in range(4)], Stream(0)).rho)
