"""Section 7, point 5: a 95 % interval covers the truth in 93-98 % of simulated experiments."""

from dataclasses import replace

import numpy as np
import pytest

from couplingkit.metrics.bootstrap import FEWEST_IMAGES, Statistic, intervals, sharing_variance
from couplingkit.metrics.coupling import SEEN, CouplingRates, derived_columns
from couplingkit.metrics.quantities import QUANTITIES
from couplingkit.metrics.summary import paired_difference, paired_quantity, summarize
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


NAMES = ("cr", "cr_mean", "turn", "specificity", "leak", "displacement")
# Photos, probes, shares of the effects of A's photo, B's (or C's) photo and the probe; and whether one photo is A's in
# half of the probes.
DESIGNS = (
    (30, 150, (0.5, 0.5, 0.7), False),
    (30, 60, (0.5, 0.5, 0.7), False),
    (40, 300, (0.3, 0.3, 0.9), False),
    (100, 300, (0.5, 0.3, 0.8), False),
    (400, 300, (0.5, 0.5, 0.7), False),
    (100, 200, (0.3, 0.3, 0.9), True),
)


def drawn_photos(generator, design):
    """Photos of A, B and C of each probe, (N, 3), different within a row."""
    images, probes, _, star = design
    a = generator.integers(images, size=probes)
    if star:
        a = np.where(generator.random(probes) < 0.5, 0, a)
    b = (a + 1 + generator.integers(images - 1, size=probes)) % images
    c = (b + 1 + generator.integers(images - 2, size=probes)) % images
    c = np.where(c == a, (b - 1) % images, c)
    c = np.where(c == a, (b + 1) % images, c)
    return np.stack([a, b, c], axis=1)


def seen_rows(generator, design, spread, photos=None):
    """What was seen of simulated probes, and their photos; means are known. `spread` is that of the denominators."""
    images, probes, shares, _ = design
    photos = drawn_photos(generator, design) if photos is None else photos
    a, b, c = photos.T

    def effects(first, second):
        of_first, of_second = (generator.normal(size=images) for _ in range(2))
        mixed = shares[0] * of_first[first] + shares[1] * of_second[second] + shares[2] * generator.normal(size=probes)
        return mixed / np.sqrt(np.square(shares).sum())

    true = 0.35 + spread * effects(a, b)
    biased = 1.1 * true + 0.02 + 0.03 * effects(a, b)
    control = 1.02 * true + 0.03 * effects(a, c)
    moved = 0.2 * np.exp(0.5 * effects(a, b))
    toward_b, toward_c = 0.06 + 0.05 * effects(a, b), 0.02 + 0.05 * effects(a, c)
    angles = [np.pi / 2 - similarity for similarity in (true, biased, control)]
    return dict(zip(SEEN, (*angles, moved, toward_b, toward_c), strict=True)), photos


def known_means(spread):
    true = 0.35 + spread * np.random.default_rng(9).normal(size=2_000_000)
    biased = 1.1 * true + 0.02 + 0.03 * np.random.default_rng(8).normal(size=2_000_000)
    of_ratios = np.maximum(biased, 0.01) / np.maximum(true, 0.01)
    exact = {"cr": 0.405 / 0.35, "turn": 0.055, "specificity": (0.405 - 0.357) / 0.35, "leak": 0.04}
    return exact | {"displacement": 0.2 * np.exp(0.125), "cr_mean": of_ratios.mean()}


def covered_by(design, spread, experiments):
    """How often the interval of each quantity holds its mean; and how often cr_mean was marked."""
    generator, known = np.random.default_rng(design[0] + design[1]), known_means(spread)
    hits, marked = dict.fromkeys(NAMES, 0), 0
    for number in range(experiments):
        seen, photos = seen_rows(generator, design, spread)
        summary = summarize(seen, photos, Stream(number), resamples=400)
        marked += bool(summary.marks("cr_mean"))
        for name in NAMES:
            estimate = summary.estimates[name]
            hits[name] += estimate.low <= known[name] <= estimate.high
    return {name: count / experiments for name, count in hits.items()}, marked / experiments


@pytest.mark.parametrize("design", [DESIGNS[0], DESIGNS[5]])
def test_intervals_of_the_panel_cover_the_truth(design):
    """Few experiments: a wide margin about 93-98 %; the slow test below has the narrow one."""
    covered, _ = covered_by(design, 0.08, 250)
    for name in NAMES:
        assert 0.90 <= covered[name] <= 0.99, name


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("spread", [0.08, 0.17])
def test_the_panel_covers_93_to_98_in_100(design, spread):
    """Also with heavy-tailed denominators (.35 +- .17), at 30 photos, and with one photo in half of the probes.

    The mean of ratios does not, with such denominators, and is marked. A skewed displacement (its logarithm varies by
    .5) is covered 1 in 100 less at 30 photos.
    """
    covered, marked = covered_by(design, spread, 1000)
    heavy = spread > 0.1
    for name in NAMES:
        if not (heavy and name == "cr_mean"):
            # Of 1,000 experiments the share itself is known to .007.
            assert 0.92 <= covered[name] <= 0.98, (name, covered[name])
    if heavy:
        assert marked > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS[:5])
@pytest.mark.parametrize("name", ["cr", "specificity", "leak"])
def test_what_is_true_is_rejected_3_to_7_times_in_100(design, name):
    """Two models that differ by chance alone, in what A and B do to both of them and in what they do to each."""
    generator, rejected = np.random.default_rng(1), 0
    for number in range(600):
        seen, photos = seen_rows(generator, design, 0.08)
        other, _ = seen_rows(generator, design, 0.08, photos)
        means = {"theta_a2_b": np.pi / 2 - 0.405, "toward_b": 0.06}
        twin = {**seen, **{key: seen[key] + 0.3 * (other[key] - mean) for key, mean in means.items()}}
        first, second = (derived_columns(columns, 0.01) for columns in (seen, twin))
        gap = paired_quantity(QUANTITIES[name], first, second, photos, Stream(number))
        rejected += gap.p < 0.05
    assert 0.02 <= rejected / 600 <= 0.08


def rates_of(cr):
    """Rates of which each probe's is `cr`: the similarity apart is 0.7 rad."""
    true = np.where(np.isnan(cr), np.nan, 0.7)
    none = np.full_like(true, np.nan)
    angles = (np.pi / 2 - true, np.pi / 2 - true * cr, none, np.abs(cr - 1), cr - 1, none)
    return CouplingRates(*angles)


def test_statistics_are_what_their_names_say():
    seen, photos = seen_rows(np.random.default_rng(1), DESIGNS[3], 0.12)
    seen["theta_a1_b"][:4] = np.pi / 2 + 0.1
    summary = summarize(CouplingRates(**seen, eps=0.02), photos, Stream(0))
    true, biased, control = (np.pi / 2 - seen[f"theta_{name}_b"] for name in ("a1", "a2", "a3"))
    rates = np.maximum(biased, 0.02) / np.maximum(true, 0.02)
    expected = {
        "cr": biased.mean() / true.mean(),
        "cr_mean": rates.mean(),
        "turn": (biased - true).mean(),
        "specificity": (biased.mean() - control.mean()) / true.mean(),
        "leak": (seen["toward_b"] - seen["toward_c"]).mean(),
        "displacement": seen["theta_a1_a2"].mean(),
        "cr_median": np.median(rates),
        "cr_geomean": np.exp(np.log(rates).mean()),
        "cr_control": control.mean() / true.mean(),
        "similarity_true": true.mean(),
        "similarity_biased": biased.mean(),
        "clipped_numerator": (biased < 0.02).mean(),
        "clipped_denominator": (true < 0.02).mean(),
    }
    assert set(summary.estimates) == set(expected)
    for name, value in expected.items():
        estimate = summary.estimates[name]
        assert estimate.value == pytest.approx(value), name
        assert estimate.low <= estimate.value <= estimate.high, name
    assert summary.cr == summary.estimates["cr"].value


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda true: np.where(np.arange(200) < 14, -0.1, true), "over 5% of the denominators are clipped"),
        (lambda true: np.where(np.arange(200) < 2, 0.03, true), "3 probes carry over half of its variance"),
        (lambda true: np.where(np.arange(200) < 8, 0.01, true), "it moves by over 5% between eps / 3 and 3 eps"),
    ],
)
def test_a_mean_of_ratios_that_is_no_measurement_is_marked(change, reason):
    """By each of the three rules; and the ratio of means is not."""
    generator = np.random.default_rng(0)
    true = generator.uniform(0.5, 0.9, 200)
    images = np.column_stack([np.arange(200), np.arange(200) + 500])

    def marks(true):
        rates = rates_of(np.full(200, 1.0))
        biased = np.pi / 2 - (0.8 * generator.uniform(0.9, 1.1, 200))
        return summarize(replace(rates, theta_a1_b=np.pi / 2 - true, theta_a2_b=biased), images, Stream(0)).doubts

    assert marks(true) == {}
    assert reason in marks(change(true))["cr_mean"]
    assert "cr" not in marks(change(true))


def test_a_ratio_over_what_may_be_zero_is_marked():
    generator = np.random.default_rng(0)
    true = generator.normal(0.01, 0.3, 200)
    rates = replace(rates_of(np.full(200, 1.0)), theta_a1_b=np.pi / 2 - true)
    images = np.column_stack([np.arange(200), np.arange(200) + 500])
    assert {"cr", "cr_mean"} <= set(summarize(rates, images, Stream(0)).doubts)


@pytest.mark.parametrize("eps", [0.001, 0.003, 0.03, 0.1])
def test_eps_changes_the_mean_of_ratios_alone(eps):
    seen, photos = seen_rows(np.random.default_rng(4), DESIGNS[3], 0.17)
    usual, other = (summarize(CouplingRates(**seen), photos, Stream(0), eps=value) for value in (0.01, eps))
    for name in ("cr", "turn", "specificity", "leak", "displacement", "cr_control"):
        assert usual.estimates[name] == other.estimates[name]
    assert usual.cr_mean != other.cr_mean


def test_unmeasured_rows_do_not_count():
    cr = np.concatenate([np.full(30, np.nan), np.linspace(0.9, 1.3, 60)])
    images = np.column_stack([np.arange(90), np.arange(90) + 500])
    summary = summarize(rates_of(cr), images, Stream(0))
    assert (summary.probes, summary.measured) == (90, 60)
    assert summary.cr_mean == pytest.approx(1.1)
    assert summary.cr == pytest.approx(1.1)


def test_too_few_photos_give_no_interval():
    images = np.column_stack([np.zeros(50, int), np.arange(50) % (FEWEST_IMAGES - 2) + 1])
    cr = np.linspace(0.9, 1.1, 50)
    with_c = np.column_stack([images, np.arange(50) + 100])
    rates = replace(rates_of(cr), theta_a3_b=np.full(50, 1.0), toward_c=np.zeros(50))
    summary = summarize(rates, with_c, Stream(0))
    assert summary.cr_mean == pytest.approx(1)
    assert np.isnan(summary.estimates["specificity"].low)
    assert np.isnan(summary.estimates["cr"].low)


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
