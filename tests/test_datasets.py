"""The bundled digits and the seeded mixtures."""

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn import datasets as sklearn_datasets

from fastgmm.datasets import load_digits, make_mixture

COVARIANCE_SHAPES = {"full": (3, 4, 4), "tied": (4, 4), "diag": (3, 4), "spherical": (3,)}


def dense_covariances(mixture):
    """Return the covariances of three components in four features as (3, 4, 4), whatever their structure."""
    covariances = mixture.covariances
    return {
        (3, 4, 4): lambda: covariances,
        (4, 4): lambda: np.broadcast_to(covariances, (3, 4, 4)),
        (3, 4): lambda: covariances[:, :, np.newaxis] * np.eye(4),
        (3,): lambda: covariances[:, np.newaxis, np.newaxis] * np.eye(4),
    }[covariances.shape]()


def test_digits_are_those_of_scikit_learn():
    images, labels = load_digits()
    theirs = sklearn_datasets.load_digits()
    np.testing.assert_array_equal(images, theirs.images / 16)
    np.testing.assert_array_equal(labels, theirs.target)
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.float64
    assert labels.dtype == np.int64


@pytest.mark.parametrize("covariance_type", COVARIANCE_SHAPES)
def test_rows_follow_the_stated_parameters(covariance_type):
    mixture = make_mixture(40_000, 4, 3, covariance_type=covariance_type, random_state=0)
    assert mixture.covariances.shape == COVARIANCE_SHAPES[covariance_type]
    for k, covariance in enumerate(dense_covariances(mixture)):
        rows = mixture.X[mixture.labels == k]
        share = len(rows) / len(mixture.X)
        # Five standard errors each: of a proportion, of a mean, and of an empirical covariance entry.
        assert abs(share - mixture.weights[k]) < 5 * np.sqrt(mixture.weights[k] / len(mixture.X))
        variances = np.diagonal(covariance)
        errors = np.abs(rows.mean(axis=0) - mixture.means[k])
        assert (errors < 5 * np.sqrt(variances / len(rows))).all()
        spread = np.sqrt((covariance**2 + np.outer(variances, variances)) / len(rows))
        assert (np.abs(np.cov(rows.T) - covariance) < 5 * spread).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_SHAPES)
def test_promised_bounds_hold(covariance_type):
    mixture = make_mixture(10, 4, 3, covariance_type=covariance_type, separation=2.5, random_state=1)
    assert pdist(mixture.means).min() == pytest.approx(2.5, rel=1e-12)
    assert mixture.weights.sum() == pytest.approx(1, rel=1e-12)
    assert mixture.weights.max() <= 3 * mixture.weights.min()
    variances = np.linalg.eigvalsh(dense_covariances(mixture))
    assert variances.min() >= 0.3**2 - 1e-12
    assert variances.max() <= 1 + 1e-12


def test_one_seed_gives_one_data_set():
    first, again = make_mixture(20_000, 2, 3, random_state=5), make_mixture(20_000, 2, 3, random_state=5)
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.array_equal(first.X, make_mixture(20_000, 2, 3, random_state=6).X)


def test_float32_is_the_rounded_float64():
    X = make_mixture(100, 2, 3, random_state=0).X
    single = make_mixture(100, 2, 3, dtype=np.float32, random_state=0)
    assert single.means.dtype == np.float64
    np.testing.assert_array_equal(single.X, X.astype(np.float32))


def test_memory_is_the_result_plus_a_few_blocks():
    tracemalloc.start()
    mixture = make_mixture(1_000_000, 8, 4, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < mixture.X.nbytes + mixture.labels.nbytes + 8 * 2**20


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"n_components": -1}, "n_components must be at least 1, got -1"),
        ({"separation": 0}, "separation must be a positive number, got 0"),
        ({"separation": np.nan}, "separation must be a positive number, got nan"),
        ({"dtype": np.int64}, "dtype must be float32 or float64, got int64"),
        ({"covariance_type": "flat"}, "covariance_type must be .* got 'flat'"),
    ],
)
def test_bad_arguments_are_named(arguments, cause):
    with pytest.raises(ValueError, match=cause):
        make_mixture(**{"n_samples": 10, "n_features": 2, "n_components": 2, **arguments})
