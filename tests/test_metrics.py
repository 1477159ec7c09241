"""Metrics against their definitions, on known answers, on real digits, and on input that they refuse."""

import json
import lzma
import math
import re
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.distance import jensenshannon as jensen_shannon_distance

from fastgmm import GaussianMixture, metrics
from fastgmm.exceptions import NotFittedError
from fastgmm.metrics import _pairs, _rows
from tests import reference_metrics as reference

PAIRWISE = {
    "precision_recall_density_coverage": metrics.precision_recall_density_coverage,
    "maximum_mean_discrepancy": metrics.maximum_mean_discrepancy,
    "sliced_wasserstein": metrics.sliced_wasserstein,
    "two_sample_accuracy": metrics.two_sample_accuracy,
    "memorisation": metrics.memorisation,
}


def normal(seed, n_rows, n_features=6):
    return np.random.default_rng(seed).standard_normal((n_rows, n_features))


@pytest.fixture(name="sets", params=[60, 250])
def make_sets(request):
    """Real, generated (wider and shifted) and held-out rows; of 250 rows, radii are found in groups."""
    real, generated, held_out = np.split(50 + normal(0, 3 * request.param), 3)
    return real, 50 + 1.5 * (generated - 50) + 0.3, held_out


@pytest.fixture(name="small_blocks")
def make_small_blocks(monkeypatch):
    """Blocks of a few rows, so that small sets take several."""
    real = _rows.float_blocks

    def blocks(rows, width=1, block_bytes=None):
        return real(rows, width, 8 * 23 * max(width, rows.shape[1]) if block_bytes is None else 8 * 40 * rows.shape[1])

    monkeypatch.setattr(_pairs, "float_blocks", blocks)


@pytest.fixture(name="digits", scope="module")
def digits_as_floats(mnist):
    """4,000 training and 1,000 held-out MNIST digits in [0, 1], and the labels of the latter."""
    train, held_out = mnist
    return train[0] / 255.0, held_out[0] / 255.0, held_out[1]


# Against the definitions


@pytest.mark.parametrize("n_neighbors", [1, 5])
@pytest.mark.usefixtures("small_blocks")
def test_precision_recall_density_coverage_follow_their_definitions(sets, n_neighbors):
    real, generated, held_out = sets
    measured = metrics.precision_recall_density_coverage(real, generated, held_out, n_neighbors)
    value = reference.precision_recall_density_coverage(real, generated, n_neighbors)
    baseline = reference.precision_recall_density_coverage(real, held_out, n_neighbors)
    np.testing.assert_allclose(measured, np.transpose([value, baseline]), rtol=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_maximum_mean_discrepancy_follows_its_definition(sets):
    real, generated, held_out = sets
    expected = [reference.maximum_mean_discrepancy(real, rows) for rows in (generated, held_out)]
    np.testing.assert_allclose(metrics.maximum_mean_discrepancy(*sets), expected, rtol=1e-9, atol=1e-13)


def test_sliced_wasserstein_follows_its_definition(sets):
    real, generated, held_out = sets
    directions = np.random.default_rng(3).standard_normal((6, 20))
    directions /= np.linalg.norm(directions, axis=0)
    expected = [reference.sliced_wasserstein(real, rows, directions) for rows in (generated, held_out)]
    np.testing.assert_allclose(metrics.sliced_wasserstein(*sets, 20, random_state=3), expected, rtol=1e-10)


@pytest.mark.usefixtures("small_blocks")
def test_two_sample_accuracy_follows_its_definition(sets):
    real, generated, held_out = sets
    expected = [reference.two_sample_accuracy(real, rows) for rows in (generated, held_out)]
    np.testing.assert_allclose(metrics.two_sample_accuracy(*sets), expected, rtol=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_nearest_distances_and_memorisation_follow_their_definitions(sets):
    train, generated, held_out = sets
    new, unseen = cdist(generated, train).min(axis=1), cdist(held_out, train).min(axis=1)
    np.testing.assert_allclose(metrics.nearest_distances(generated, train), new, rtol=1e-13)
    measured = metrics.memorisation(train, generated, held_out, quantile=0.1)
    threshold = np.sort(unseen)[len(unseen) // 10 - 1]
    np.testing.assert_allclose(measured.share, [(new <= threshold).mean(), 0.1])
    np.testing.assert_allclose(measured.low, [np.quantile(new, 0.1), np.quantile(unseen, 0.1)])
    np.testing.assert_allclose(measured.median, [np.median(new), np.median(unseen)])


@pytest.mark.parametrize("z", [1.0, 1.96, 4.0])
def test_bins_follow_their_definitions(sets, z):
    train, generated, held_out = sets
    bins = metrics.Bins(n_bins=12, random_state=1).fit(train)
    train_counts, *counts = (
        np.bincount(cdist(rows, bins.centers_).argmin(axis=1), minlength=12) for rows in (train, generated, held_out)
    )
    np.testing.assert_array_equal(bins.shares(generated), counts[0] / len(generated))
    different = metrics.number_of_different_bins(bins, generated, held_out, z=z)
    assert different == tuple(reference.different_bins(train_counts, other, z) for other in counts)
    # SciPy's distance is the square root of the divergence.
    expected = [jensen_shannon_distance(train_counts, other) ** 2 for other in counts]
    np.testing.assert_allclose(metrics.jensen_shannon(bins, generated, held_out), expected, rtol=1e-10)


def test_log_likelihood_is_the_mean_score_and_bits_its_conversion():
    train, held_out = 0.3 + 0.1 * normal(0, 300, 2), 0.3 + 0.1 * normal(1, 200, 2)
    model = GaussianMixture(2, random_state=0).fit(train)
    measured = metrics.log_likelihood(model, held_out, train)
    assert measured == pytest.approx((model.score(held_out), model.score(train)))
    # log2 of 1/256 of the density of an image of 2 pixels, by hand
    bits = -(measured.value / math.log(2) - 2 * math.log2(256)) / 2
    assert metrics.bits_per_dimension(measured.value, 2) == pytest.approx(bits)
    np.testing.assert_allclose(metrics.bits_per_dimension(np.zeros(3), 5, levels=16), np.full(3, 4.0))


# Known answers


def test_copies_of_the_real_rows():
    real, held_out = normal(0, 200), normal(1, 200)
    copied = metrics.precision_recall_density_coverage(real, real, held_out)
    assert [measured.value for measured in (copied.precision, copied.recall, copied.coverage)] == [1, 1, 1]
    assert metrics.two_sample_accuracy(real, real, held_out).value == 0
    assert metrics.sliced_wasserstein(real, real, held_out).value == 0
    assert metrics.maximum_mean_discrepancy(real, real, held_out).value < 0
    assert (metrics.nearest_distances(real, 1e3 + real - 1e3) < 1e-12).all()
    np.testing.assert_array_equal(metrics.nearest_distances(1e6 + real, 1e6 + real), 0)


def test_memorisation_tells_copies_from_new_rows():
    train, held_out = normal(0, 1000), normal(1, 1000)
    nearly_copied = np.concatenate([train[:400] + 1e-3, normal(2, 600)])
    share, low, median = metrics.memorisation(train, nearly_copied, held_out)
    assert share.baseline == 0.01
    assert share.value == pytest.approx(0.4, abs=0.02)
    assert low.value < 0.01 * low.baseline
    assert median.value < median.baseline
    # Held-out rows that are copies themselves put the threshold at 0 and hide nothing.
    assert metrics.memorisation(train, train, np.concatenate([train[:20], held_out])).share.value == 1


def test_far_rows_have_no_precision_and_are_told_apart():
    real, held_out = normal(0, 200), normal(1, 200)
    far = metrics.precision_recall_density_coverage(real, normal(2, 200) + 100, held_out)
    assert [measured.value for measured in far] == [0, 0, 0, 0]
    assert far.density.baseline == pytest.approx(1, abs=0.15)
    assert metrics.two_sample_accuracy(real, held_out + 100, held_out).value == 1


def test_a_missing_class_costs_recall_and_coverage_but_no_precision():
    centers = 20 * np.eye(6)[:4]
    real, held_out = (normal(seed, 400) + np.repeat(centers, 100, axis=0) for seed in (0, 1))
    three = normal(2, 400) + np.repeat(centers[:3], [134, 133, 133], axis=0)
    precision, recall, density, coverage = metrics.precision_recall_density_coverage(real, three, held_out)
    assert recall.value < recall.baseline - 0.2
    assert coverage.value < coverage.baseline - 0.2
    assert precision.value > precision.baseline - 0.05
    assert density.value == pytest.approx(1, abs=0.15)


def test_a_shift_gives_the_sliced_distance_of_its_length():
    real, shift = normal(0, 2000, 10), np.full(10, 2.0)
    # The mean of |u'v| over the sphere: |v| Gamma(d/2) / (sqrt(pi) Gamma((d + 1)/2)).
    expected = np.linalg.norm(shift) * math.gamma(5) / (math.sqrt(math.pi) * math.gamma(5.5))
    measured = metrics.sliced_wasserstein(real, normal(1, 2000, 10) + shift, normal(2, 2000, 10), 1000)
    assert measured.value == pytest.approx(expected, rel=0.05)
    assert measured.baseline < 0.05


def test_unbiased_discrepancy_and_accuracy_of_equal_distributions():
    discrepancies, accuracies = [], []
    for seed in range(40):
        real, generated, held_out = np.split(normal(seed, 300), 3)
        discrepancies += metrics.maximum_mean_discrepancy(real, generated, held_out)
        accuracies += metrics.two_sample_accuracy(real, generated, held_out)
    assert abs(np.mean(discrepancies)) < 3 * np.std(discrepancies) / math.sqrt(40)
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.02)
    assert min(discrepancies) < 0


def test_equal_distributions_differ_in_a_twentieth_of_the_bins():
    """Bins of one set, two others compared: of 60 bins 3 are expected, and (B - 1)(1/n + 1/m)/8 nats."""
    bins = metrics.Bins(n_bins=60).fit(normal(0, 20_000, 3))
    counts, divergences = [], []
    for seed in range(1, 21):
        counts += metrics.number_of_different_bins(bins, normal(seed, 1000, 3), normal(100 + seed, 1000, 3))
        divergences += metrics.jensen_shannon(bins, normal(seed, 1000, 3), normal(100 + seed, 1000, 3))
    assert np.mean(counts) == pytest.approx(0.05 * 60, abs=0.9)  # standard error of 40 counts: 0.27
    assert np.mean(divergences) == pytest.approx(59 * (1 / 20_000 + 1 / 1000) / 8, rel=0.15)


def test_one_bin_and_disjoint_bins():
    X = np.repeat([[0.0], [9.0]], 50, axis=0)
    one, two = metrics.Bins(n_bins=1).fit(X), metrics.Bins(n_bins=2).fit(X[:50] + np.arange(50)[:, None] % 2)
    assert metrics.number_of_different_bins(one, X[:50], X[50:]) == (0, 0)
    assert metrics.jensen_shannon(one, X[:50], X[50:]) == (0, 0)
    assert metrics.jensen_shannon(two, X[:50], X[50:]).value > 0


# Real digits


def test_bins_find_a_missing_digit(digits):
    """With 10 bins, over 18 choices of split and seed: held-out JS .0003 to .0020, without 9s .0027 to .0059."""
    train, held_out, labels = digits
    without = held_out[labels != 9]
    measured = []
    for seed in range(4):
        bins = metrics.Bins(n_bins=10, random_state=seed).fit(train)
        measured.append(metrics.jensen_shannon(bins, without, held_out))
        assert metrics.number_of_different_bins(bins, held_out, held_out).baseline <= 2
    value, baseline = np.mean(measured, axis=0)
    assert baseline < 0.002
    assert value > 2.5 * baseline


def test_evaluate_tells_a_gaussian_from_digits(digits):
    """One Gaussian, clipped: measured two-sample accuracy .94, recall .20, JS .056, MMD^2 .032."""
    train, held_out, _ = digits
    pixels = train.reshape(4000, -1)
    rng = np.random.default_rng(1)
    generated = rng.multivariate_normal(pixels.mean(0), np.cov(pixels.T) + 1e-3 * np.eye(784), 1000, method="cholesky")
    report = metrics.evaluate(np.clip(generated, 0, 1).reshape(-1, 28, 28), train, held_out)
    assert report.n_rows == 1000
    assert report["two_sample_accuracy"].value > 0.9
    assert report["two_sample_accuracy"].baseline == pytest.approx(0.5, abs=0.04)
    assert report["recall"].value < 0.3
    assert report["recall"].baseline > 0.9
    assert report["jensen_shannon"].value > 4 * report["jensen_shannon"].baseline
    assert report["maximum_mean_discrepancy"].value > 0.02
    assert abs(report["maximum_mean_discrepancy"].baseline) < 0.002
    assert report["memorised_share"].value == 0


def test_copies_of_training_rows_do_not_pass_for_new_ones(digits):
    """A generator that repeats what it was shown: against that, recall would look as good as real rows'."""
    train, held_out, _ = digits
    few = train[:100]
    report = metrics.evaluate(np.repeat(few, 10, axis=0), np.concatenate([few] * 10), held_out)
    assert report["recall"].value < 0.3
    assert report["coverage"].value < 0.5
    assert report["two_sample_accuracy"].value > 0.7
    assert report["memorised_share"].value == 1


# Trivial models of levels


def test_trivial_bits_are_a_histogram_s_and_lzma_s(digits):
    levels = [np.floor(images * 256).astype(np.uint8) for images in digits[:2]]
    found = metrics.trivial_bits(*levels)
    rows = [images.reshape(len(images), -1) for images in levels]
    expected = 0.0
    for column in range(784):
        counts = np.array([0.5 + np.sum(rows[0][:, column] == level) for level in np.unique(rows[1][:, column])])
        share = np.array([np.sum(rows[1][:, column] == level) for level in np.unique(rows[1][:, column])])
        expected -= share @ np.log2(counts / (len(rows[0]) + 128))
    assert found.histogram_bits.value == pytest.approx(expected / rows[1].size, rel=1e-12)
    assert found.lzma_bits.value == 8 * len(lzma.compress(rows[1].tobytes())) / rows[1].size
    assert found.lzma_bits.value < found.histogram_bits.value < 2
    with pytest.raises(TypeError, match="train must hold integers"):
        metrics.trivial_bits(digits[0], levels[1])
    with pytest.raises(ValueError, match="held_out must hold integers from 0 to 15"):
        metrics.trivial_bits(levels[0] // 16, levels[1], 16)


# Results, seeds, shapes


def test_report_is_a_table_and_a_dictionary():
    model = GaussianMixture(1).fit(normal(0, 100))
    report = metrics.evaluate(model.sample(80)[0], normal(0, 100), normal(1, 90), model=model, levels=256, n_bins=5)
    assert list(report)[:2] == ["log_likelihood", "bits_per_dimension"]
    assert len(report) == 16
    assert report.n_rows == 80
    lines = str(report).splitlines()
    assert len(lines) == 18
    ends = {re.match(r"\S+ +\S+ +\S+", line).end() for line in lines[:-1]}
    assert len(ends) == 1, "columns are aligned"
    again = json.loads(json.dumps(report.to_dict()))
    assert {name: metrics.Measured(**entry) for name, entry in again.items()} == dict(report)
    assert str(metrics.Measured(0.123456, 2.0)) == "0.1235 (baseline 2)"


def test_evaluate_is_made_of_the_metrics():
    new, train, held_out = normal(0, 60), normal(1, 120), normal(2, 60)
    report = metrics.evaluate(new, train, held_out, n_components=None, n_bins=4, random_state=7)
    bins = metrics.Bins(4, random_state=7).fit(train)
    assert report["jensen_shannon"] == metrics.jensen_shannon(bins, new, held_out)
    sets = held_out, new, metrics._rows.matched(new, train, held_out, random_state=7)[1]
    assert report["recall"] == metrics.precision_recall_density_coverage(*sets).recall
    assert report["maximum_mean_discrepancy"] == metrics.maximum_mean_discrepancy(*sets, random_state=7)
    assert report["nearest_distance_median"] == metrics.memorisation(train, new, held_out).median
    few = metrics.evaluate(new, train, held_out, n_bins=4, max_samples=30)
    assert few.n_rows == 30
    # Six components of six features are a rotation, which changes no distance.
    rotated = metrics.evaluate(new, train, held_out, n_bins=4, random_state=7)
    np.testing.assert_allclose([*rotated.values()], [*report.values()], rtol=1e-9)


@pytest.mark.parametrize("name", PAIRWISE)
def test_same_seed_same_numbers_whatever_the_shape_and_precision(name):
    metric = PAIRWISE[name]
    rng = np.random.default_rng(0)
    sets = [rng.random((size, 4, 3), dtype=np.float32) for size in (50, 40, 60)]
    measured = np.array(metric(*sets))
    np.testing.assert_array_equal(measured, metric(*sets))
    rows = [images.reshape(-1, 12) for images in sets]
    np.testing.assert_array_equal(measured, metric(*rows))
    np.testing.assert_array_equal(measured, metric(*(np.float64(X) for X in rows)))
    np.testing.assert_array_equal(measured, metric(*(np.asfortranarray(X) for X in rows)))


def test_integer_pixels_do_not_wrap_around():
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 3, 3, 3), dtype=np.uint8)
    for metric in PAIRWISE.values():
        np.testing.assert_array_equal(np.array(metric(*images)), metric(*images.astype(np.float64)))


def test_larger_sets_are_drawn_from_by_seed():
    real, generated, held_out = normal(0, 300), normal(1, 50), normal(2, 80)
    first, again, other = (
        metrics.two_sample_accuracy(real, generated, held_out, random_state=seed) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_wide_rows_are_binned_by_a_sixth_of_their_columns():
    X = np.random.default_rng(0).random((60, 1200))
    bins, again, other = (metrics.Bins(n_bins=3, random_state=seed).fit(X) for seed in (0, 0, 1))
    assert bins.centers_.shape == (3, 200)
    np.testing.assert_array_equal(bins.columns_, again.columns_)
    np.testing.assert_array_equal(bins.shares_, again.shares_)
    assert not np.array_equal(bins.columns_, other.columns_)
    assert bins.shares(X.reshape(60, 20, 20, 3)).sum() == pytest.approx(1)


def test_bins_do_not_depend_on_the_scale_or_offset_of_the_rows():
    X = normal(0, 500)
    expected = metrics.Bins(n_bins=8).fit(X).shares_
    np.testing.assert_array_equal(metrics.Bins(n_bins=8).fit(2.0**20 * X).shares_, expected)
    np.testing.assert_allclose(metrics.Bins(n_bins=8).fit(X + 64).shares_, expected, atol=0.01)


@pytest.mark.parametrize("name", PAIRWISE)
def test_memory_does_not_grow_as_the_square_of_the_rows(name):
    sets = np.split(normal(0, 12_000, 4), 3)
    tracemalloc.start()
    PAIRWISE[name](*sets)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6, "a matrix of all distances has 128 MB"


# What is refused


@pytest.mark.parametrize("name", PAIRWISE)
def test_bad_sets_are_named(name):
    metric, rows = PAIRWISE[name], normal(0, 20)
    first = "train" if name == "memorisation" else "real"
    with_nan = rows.copy()
    with_nan[3, 2] = np.nan
    with pytest.raises(ValueError, match="generated is nan in row 3, column 2; remove or impute it"):
        metric(rows, with_nan, rows)
    with pytest.raises(ValueError, match=f"held_out has 5 features per row, but {first} has 6"):
        metric(rows, rows, rows[:, :5])
    with pytest.raises(ValueError, match=rf"{first} must be rows .* got \(0, 6\)"):
        metric(rows[:0], rows, rows)
    with pytest.raises(ValueError, match=r"generated must be rows .* got \(20,\)"):
        metric(rows, rows[:, 0], rows)
    with pytest.raises(TypeError, match="held_out must hold real numbers, got dtype <U3"):
        metric(rows, rows, np.full((20, 6), "one"))


def test_too_few_rows_and_arguments_out_of_range():
    rows, few = normal(0, 20), normal(1, 5)
    with pytest.raises(ValueError, match="n_neighbors=5 needs more than 5 rows of each set, but the smallest has 5"):
        metrics.precision_recall_density_coverage(rows, few, rows)
    with pytest.raises(ValueError, match="n_neighbors must be at least 1, got 0"):
        metrics.precision_recall_density_coverage(rows, few, rows, n_neighbors=0)
    for metric in (metrics.maximum_mean_discrepancy, metrics.two_sample_accuracy):
        with pytest.raises(ValueError, match="at least 2 rows of each set, the smallest has 1"):
            metric(rows, rows[:1], rows)
    with pytest.raises(ValueError, match="half of the pairs of real rows are equal"):
        metrics.maximum_mean_discrepancy(np.ones((20, 6)), rows, rows)
    with pytest.raises(ValueError, match="n_directions must be at least 1, got 0"):
        metrics.sliced_wasserstein(rows, rows, rows, n_directions=0)
    with pytest.raises(ValueError, match="quantile must be between 0 and 1, got 1"):
        metrics.memorisation(rows, rows, rows, quantile=1)
    with pytest.raises(ValueError, match="n_bins must be from 1 to the number of training rows, 5, got 50"):
        metrics.Bins().fit(few)
    with pytest.raises(NotFittedError, match=r"call fit\(train\) first"):
        metrics.number_of_different_bins(metrics.Bins(), rows, rows)
    with pytest.raises(ValueError, match="generated has 4 features per row, but the bins were fitted with 6"):
        metrics.jensen_shannon(metrics.Bins(2).fit(rows), rows[:, :4], rows[:, :4])
    with pytest.raises(ValueError, match="levels needs a model"):
        metrics.evaluate(rows, rows, rows, levels=256)


def test_a_model_must_score_every_row():
    class Silent:
        pass

    class Total:
        def score_samples(self, X):
            return X.sum()

    rows = normal(0, 20)
    with pytest.raises(TypeError, match="model must have a method score_samples, which Silent has not"):
        metrics.log_likelihood(Silent(), rows, rows)
    with pytest.raises(ValueError, match=r"score_samples\(held_out\) must give a number for each of the 20 rows"):
        metrics.log_likelihood(Total(), rows, rows)
