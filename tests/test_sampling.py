"""`sample` draws from the mixture it claims to draw from."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import binomtest, chi2, chisquare, kstest, norm
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from fastgmm import GaussianMixture
from fastgmm.exceptions import NotFittedError
from fastgmm.model.sampling import BLOCK_VALUES, sample_rows
from tests import reference
from tests.reference import Mixture

N = 20_000
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, -5.0], [0.0, 30.0, 10.0]])
ROOT = np.array([[2.0, 0.0, 0.0], [0.8, 1.0, 0.0], [-0.5, 0.3, 0.7]])
COVARIANCES = {
    "full": np.stack([ROOT @ ROOT.T, np.diag([1.0, 4.0, 0.25]), 2.0 * ROOT.T @ ROOT]),
    "tied": ROOT @ ROOT.T,
    "diag": np.array([[1.0, 4.0, 0.25], [2.0, 2.0, 3.0], [0.5, 1.0, 9.0]]),
    "spherical": np.array([1.0, 4.0, 0.25]),
}


@pytest.fixture
def model(covariance_type):
    """Three Gaussians at least 5 standard deviations apart."""
    model = GaussianMixture.from_parameters(WEIGHTS, MEANS, COVARIANCES[covariance_type], covariance_type)
    return model.set_params(random_state=0)


@pytest.fixture
def dense(covariance_type):
    mixture = Mixture(WEIGHTS, MEANS, COVARIANCES[covariance_type], covariance_type)
    return reference.dense_covariances(mixture)


def test_component_counts_are_multinomial(model):
    _, labels = model.sample(N)
    assert chisquare(np.bincount(labels, minlength=3), N * WEIGHTS).pvalue > 1e-4
    # A draw that rounded N * WEIGHTS would pass the line above, but never vary.
    model.set_params(random_state=np.random.RandomState(1))
    counts = np.array([np.bincount(model.sample(100)[1], minlength=3) for _ in range(400)])
    np.testing.assert_allclose(counts.var(axis=0), 100 * WEIGHTS * (1 - WEIGHTS), rtol=0.3)


def test_rows_of_each_component_follow_its_gaussian(model, dense):
    X, labels = model.sample(N)
    for k in range(3):
        whitened = np.linalg.solve(np.linalg.cholesky(dense[k]), (X[labels == k] - MEANS[k]).T)
        assert kstest(np.sum(whitened**2, axis=0), chi2(3).cdf).pvalue > 1e-4
        for coordinate in whitened:
            assert kstest(coordinate, "norm").pvalue > 1e-4
        correlation = np.corrcoef(whitened) - np.eye(3)
        assert np.abs(correlation).max() < 5 / np.sqrt(whitened.shape[1])


def test_a_fit_to_a_sample_recovers_the_parameters(model, dense, covariance_type):
    X, _ = model.sample(N)
    fitted = GaussianMixture(3, covariance_type=covariance_type, n_init=3, random_state=0).fit(X)
    order = cdist(MEANS, fitted.means_).argmin(axis=1)
    assert np.all(np.abs(fitted.weights_[order] - WEIGHTS) < 5 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / N))
    variances = np.diagonal(dense, axis1=1, axis2=2)
    nk = N * WEIGHTS[:, np.newaxis]
    assert np.all(np.abs(fitted.means_[order] - MEANS) < 5 * np.sqrt(variances / nk))
    found = reference.dense_covariances(Mixture(fitted.weights_, fitted.means_, fitted.covariances_, covariance_type))
    # Var(sample covariance of d and e) = (variance_d variance_e + covariance^2) / n, for Gaussians.
    spread = variances[:, :, np.newaxis] * variances[:, np.newaxis, :] + dense**2
    assert np.all(np.abs(found[order] - dense) < 5 * np.sqrt(spread / nk[:, :, np.newaxis]))


def test_rows_are_grouped_by_component_and_typed_as_scikit_learn_types_them(model, covariance_type):
    peer = SklearnGaussianMixture(3, covariance_type=covariance_type, random_state=0)
    peer.weights_, peer.means_, peer.covariances_ = WEIGHTS, MEANS, COVARIANCES[covariance_type]
    for n_samples in (1, 2, 100):
        (X, labels), (peer_X, peer_labels) = model.sample(n_samples), peer.sample(n_samples)
        assert (X.shape, X.dtype) == (peer_X.shape, peer_X.dtype)
        assert (labels.shape, labels.dtype) == (peer_labels.shape, peer_labels.dtype)
        assert np.all(np.diff(labels) >= 0)


def test_an_integer_seed_gives_the_same_sample_each_time_and_a_generator_advances(model):
    (X, labels), (X_again, labels_again) = model.sample(10), model.sample(10)
    np.testing.assert_array_equal(X, X_again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(X, model.set_params(random_state=1).sample(10)[0])
    model.set_params(random_state=np.random.RandomState(0))
    assert not np.array_equal(model.sample(10)[0], model.sample(10)[0])


def test_a_model_of_float32_data_samples_float64_rows(blobs, covariance_type):
    X, labels = blobs
    model = GaussianMixture(3, covariance_type=covariance_type, init_params=labels, random_state=0)
    sample, _ = model.fit(X.astype(np.float32)).sample(N)
    assert sample.dtype == np.float64
    np.testing.assert_allclose(sample.mean(axis=0), X.mean(axis=0), atol=5 * X.std() / np.sqrt(N))


def test_a_component_of_weight_zero_is_never_drawn():
    model = GaussianMixture.from_parameters([1.0, 0.0], [[0.0], [1e6]], [1.0, 1.0], "spherical")
    X, labels = model.sample(1000)
    assert not labels.any()
    assert np.abs(X).max() < 10


@pytest.mark.parametrize("n_samples", [0, -1])
def test_sampling_less_than_one_row_is_refused(n_samples, model):
    with pytest.raises(ValueError, match="Invalid value for 'n_samples'"):
        model.sample(n_samples)


def test_sampling_before_fitting_is_refused():
    with pytest.raises(NotFittedError, match="This GaussianMixture instance is not fitted yet"):
        GaussianMixture().sample()


SEED = np.arange(4, dtype=np.uint32)


def normal(n_samples, n_features):
    """Rows of the standard normal distribution."""
    means, labels = np.zeros((1, n_features)), np.zeros(n_samples, np.int64)
    return sample_rows(means, np.ones(1), "spherical", labels, SEED)


def test_the_sample_is_the_same_bits_for_any_number_of_threads(model):
    n_samples = 3 * BLOCK_VALUES // 3 + 1000  # four random streams
    X, labels = model.set_params(n_jobs=1).sample(n_samples)
    for n_jobs in (2, 5):
        X_again, labels_again = model.set_params(n_jobs=n_jobs).sample(n_samples)
        np.testing.assert_array_equal(X, X_again)
        np.testing.assert_array_equal(labels, labels_again)


def test_normal_numbers_are_normal_into_the_tails():
    z = normal(500_000, 4).ravel()
    assert kstest(z, "norm").pvalue > 1e-4
    for limit in (3.0, 4.0, 5.0):
        for tail in (z > limit, z < -limit):
            assert binomtest(int(tail.sum()), z.size, norm.sf(limit)).pvalue > 1e-4
    assert len(np.unique(z)) == z.size  # streams and lanes do not repeat one another
    for power in (1, 2, 3, 4):
        moment = {1: 0, 2: 1, 3: 0, 4: 3}[power]
        spread = np.sqrt({1: 1, 2: 2, 3: 15, 4: 96}[power] / z.size)
        assert abs(np.mean(z**power) - moment) < 5 * spread


def test_normal_numbers_are_independent():
    """Also the two of one radius and angle, which stand half the features apart, and squares: radii would show."""
    z = normal(BLOCK_VALUES // 4, 8)
    for values in (z, z**2, np.abs(z)):
        correlation = np.corrcoef(values.T) - np.eye(8)
        assert np.abs(correlation).max() < 5 / np.sqrt(len(z))
        centred = (values - values.mean()) / values.std()
        for lag in (1, 2, 8, 16, 32, 64, BLOCK_VALUES // 8):  # lanes, blocks of rows, streams
            assert abs(np.mean(centred[:-lag] * centred[lag:])) < 5 / np.sqrt(centred[lag:].size)


@pytest.mark.parametrize("n_features", [1, 2, 3, 5, 16, 130])
def test_rows_are_the_mean_plus_the_factor_times_normal_numbers(n_features):
    """Runs of any length, vectors or single rows: the same normal numbers under each component's factor."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, n_features, n_features)) + 3 * np.eye(n_features)
    covariances, means = root @ root.swapaxes(1, 2), rng.normal(size=(3, n_features))
    labels = np.sort(rng.integers(0, 3, 300))
    for run in (labels, np.arange(300) % 3, np.zeros(300, np.int64)):
        X = sample_rows(means, covariances, "full", run, SEED)
        factor = np.linalg.cholesky(covariances)[run]
        z = np.linalg.solve(factor, (X - means[run])[:, :, None])[:, :, 0]
        np.testing.assert_allclose(z, normal(300, n_features), atol=1e-9)


def test_many_features_keep_their_covariance():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(40, 40)) / 6 + np.eye(40)
    X = sample_rows(np.zeros((2, 40)), root @ root.T, "tied", np.repeat([0, 1], 50_000), SEED)
    whitened = np.linalg.solve(np.linalg.cholesky(root @ root.T), X.T)
    assert np.abs(np.cov(whitened) - np.eye(40)).max() < 6 * np.sqrt(2 / 100_000)


def test_sampling_takes_at_most_a_third_of_scikit_learns_processor_time(covariance_type):
    """Of all threads together, so that neither the number of processors nor other processes matter."""
    rng = np.random.default_rng(0)
    identity = {
        "full": np.stack([np.eye(16)] * 8),
        "tied": np.eye(16),
        "diag": np.ones((8, 16)),
        "spherical": np.ones(8),
    }
    model = GaussianMixture.from_parameters(
        np.full(8, 1 / 8), rng.normal(size=(8, 16)), identity[covariance_type], covariance_type
    )
    peer = SklearnGaussianMixture(8, covariance_type=covariance_type)
    peer.weights_, peer.means_, peer.covariances_ = model.weights_, model.means_, model.covariances_
    seconds = {model: [], peer: []}
    for _ in range(5):
        for mixture, times in seconds.items():
            start = time.process_time()
            mixture.sample(200_000)
            times.append(time.process_time() - start)
    assert min(seconds[model]) < min(seconds[peer]) / 3
