"""Section 7, point 5: a 95 % interval covers the truth in 93-98 % of simulated experiments."""

import numpy as np
import pytest

from couplingkit.metrics.bootstrap import FEWEST_IMAGES, Statistic, intervals, sharing_variance
from couplingkit.metrics.coupling import CouplingRates
from couplingkit.metrics.summary import paired_difference, summarize
from couplingkit.streams import Stream

EXPERIMENTS = 1000


def experiment(generator, image_count, probe_count, effects):
    """Rates with effects of A's photo (skewed), of B's photo and of the pair; their mean is 1."""
    a = generator.integers(image_count, size=probe_count)
    b = (a + 1 + generator.integers(image_count - 1, size=probe_count)) % image_count
    of_a = generator.exponential(1, image_count) - 1
    of_b = generator.normal(size=image_count)
    noise = generator.normal(size=probe_count)
    return 1 + effects[0] * of_a[a] + effects[1] * of_b[b] + effects[2] * noise, np.stack([a, b], axis=1)


@pytest.mark.parametrize(
    ("images", "probes", "effects"),
    [
        (40, 150, (0.3, 0.3, 0.3)),
        (40, 300, (0.2, 0.2, 0.4)),
        (100, 300, (0.3, 0.1, 0.3)),
        (400, 300, (0.3, 0.3, 0.3)),
        (400, 600, (0.2, 0.2, 0.4)),
    ],
)
def test_intervals_cover_the_truth(images, probes, effects):
    generator = np.random.default_rng(images + probes)
    covered = 0
    for number in range(EXPERIMENTS):
        rates, photos = experiment(generator, images, probes, effects)
        (estimate,) = intervals([Statistic(rates)], photos, Stream(number), resamples=400)
        covered += estimate.low <= 1 <= estimate.high
    assert 0.93 <= covered / EXPERIMENTS <= 0.98


def test_a_bootstrap_over_probes_would_be_too_narrow():
    """What the sharing of photos costs: the reason for all this."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        rates, _ = experiment(generator, 40, 300, (0.3, 0.3, 0.3))
        half = 1.96 * rates.std() / np.sqrt(len(rates))
        covered += abs(rates.mean() - 1) <= half
    assert covered / 300 < 0.8


@pytest.mark.parametrize("width", [1, 2, 3])
def test_sharing_variance_equals_the_double_loop(width):
    generator = np.random.default_rng(width)
    images = np.array([generator.choice(9, size=width, replace=False) for _ in range(40)])
    psi = generator.normal(size=(40, 2))
    total = np.zeros(2)
    for p in range(40):
        for q in range(40):
            if set(images[p]) & set(images[q]):
                total += psi[p] * psi[q]
    assert np.allclose(sharing_variance(psi, images), total / 1600)


def rates_of(cr):
    none = np.zeros(len(cr), dtype=bool)
    return CouplingRates(cr, cr, np.ones_like(cr), none, none, np.abs(cr - 1))


def test_statistics_are_what_their_names_say():
    generator = np.random.default_rng(1)
    cr, images = experiment(generator, 60, 200, (0.1, 0.1, 0.1))
    control = cr - 0.2 + 0.01 * generator.normal(size=200)
    numerator, denominator = cr * 0.7, np.full(200, 0.7)
    flags = cr > 1.2
    rates = CouplingRates(cr, numerator, denominator, flags, ~flags, np.abs(cr))
    triple = np.column_stack([images, images[:, 0] + 1000])
    summary = summarize(rates, triple, Stream(0), cr_control=control)
    expected = {
        "cr_mean": cr.mean(),
        "cr_median": np.median(cr),
        "cr_geomean": np.exp(np.log(cr).mean()),
        "cr_of_means": numerator.mean() / denominator.mean(),
        "cr_control": control.mean(),
        "specificity": cr.mean() - control.mean(),
        "displacement": cr.mean(),
        "similarity_true": 0.7,
        "similarity_biased": numerator.mean(),
        "clipped_numerator": flags.mean(),
        "clipped_denominator": (~flags).mean(),
    }
    assert set(summary.estimates) == set(expected)
    for name, value in expected.items():
        estimate = summary.estimates[name]
        assert estimate.value == pytest.approx(value), name
        assert estimate.low <= estimate.value <= estimate.high, name
    assert summary.cr_mean == summary.estimates["cr_mean"].value


def test_unmeasured_rows_do_not_count():
    cr = np.concatenate([np.full(30, np.nan), np.linspace(0.9, 1.3, 60)])
    images = np.column_stack([np.arange(90), np.arange(90) + 500])
    summary = summarize(rates_of(cr), images, Stream(0))
    assert (summary.probes, summary.measured) == (90, 60)
    assert summary.cr_mean == pytest.approx(1.1)


def test_too_few_photos_give_no_interval():
    images = np.column_stack([np.zeros(50, int), np.arange(50) % (FEWEST_IMAGES - 2) + 1])
    cr = np.linspace(0.9, 1.1, 50)
    with_c = np.column_stack([images, np.arange(50) + 100])
    summary = summarize(rates_of(cr), with_c, Stream(0), cr_control=cr**2)
    assert summary.cr_mean == pytest.approx(1)
    assert np.isnan(summary.estimates["specificity"].low)
    assert np.isnan(summary.estimates["cr_mean"].low)


def test_the_same_seed_gives_the_same_interval():
    cr, images = experiment(np.random.default_rng(3), 50, 100, (0.1, 0.1, 0.1))
    first, again, other = (summarize(rates_of(cr), images, Stream(seed)) for seed in (0, 0, 1))
    assert first.estimates == again.estimates
    assert first.estimates != other.estimates


def test_a_paired_difference_is_narrower_than_two_intervals():
    generator = np.random.default_rng(2)
    shared, images = experiment(generator, 80, 300, (0.1, 0.1, 0.1))
    other = shared + 0.05 + 0.02 * generator.normal(size=300)
    other[:10] = np.nan
    difference, count = paired_difference(other, shared, images, Stream(0))
    alone = summarize(rates_of(shared), images, Stream(0)).estimates["cr_mean"]
    assert count == 290
    assert 0 < difference.low < 0.05 < difference.high
    assert difference.high - difference.low < (alone.high - alone.low) / 3
