"""The oracle itself, checked against SciPy, closed forms and certified values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import multivariate_normal

from tests import reference
from tests.reference import CERTIFIED, COVARIANCE_TYPES, Certified, Mixture

COVARIANCES = {
    "full": np.array([[[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]], np.diag([1.0, 4.0, 9.0])]),
    "tied": np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]]),
    "diag": np.array([[2.0, 1.0, 0.5], [1.0, 4.0, 9.0]]),
    "spherical": np.array([2.0, 0.5]),
}


@pytest.fixture
def mixture(covariance_type):
    means = np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.0]])
    return Mixture(np.array([0.3, 0.7]), means, COVARIANCES[covariance_type], covariance_type)


@pytest.fixture(name="X")
def rows():
    return np.random.default_rng(0).normal(size=(50, 3)) * 3


def test_data_are_the_published_ones(faithful, starts):
    iris, _ = starts["iris", "species"]
    np.testing.assert_allclose(faithful.sum(axis=0), [948.677, 19284], rtol=1e-12)
    np.testing.assert_allclose(iris.sum(axis=0), [876.5, 458.6, 563.7, 179.9], rtol=1e-12)


def test_density_equals_scipy(mixture, X):
    covariances = reference.dense_covariances(mixture)
    components = [multivariate_normal(*parameters) for parameters in zip(mixture.means, covariances, strict=True)]
    expected = np.stack([component.logpdf(X) for component in components], axis=1)
    np.testing.assert_allclose(reference.log_gaussian_prob(X, mixture), expected, rtol=1e-12)
    density = np.exp(expected) @ mixture.weights
    np.testing.assert_allclose(reference.score_samples(X, mixture), np.log(density), rtol=1e-12)
    resp = np.exp(expected) * mixture.weights / density[:, np.newaxis]
    np.testing.assert_allclose(reference.predict_proba(X, mixture), resp, rtol=1e-10)


def test_responsibilities_of_two_equal_gaussians_are_logistic():
    mixture = Mixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.array([2.0, 2.0]), "spherical")
    x = np.linspace(-50, 50, 101)
    # The log-odds of equal variances v are linear: x (m1 - m0) / v.
    np.testing.assert_allclose(reference.predict_proba(x[:, np.newaxis], mixture)[:, 1], expit(x), rtol=1e-12)


def test_m_step_equals_the_moments_of_each_group(X):
    labels = np.arange(50) % 2
    groups = [X[labels == k] for k in (0, 1)]
    full = np.stack([np.cov(group.T, bias=True) for group in groups])
    diag = np.stack([group.var(axis=0) for group in groups])
    expected = {"full": full, "tied": full.mean(axis=0), "diag": diag, "spherical": diag.mean(axis=1)}
    for covariance_type in COVARIANCE_TYPES:
        mixture = reference.m_step(X, reference.one_hot(labels), covariance_type)
        np.testing.assert_allclose(mixture.weights, [0.5, 0.5], rtol=1e-15)
        np.testing.assert_allclose(mixture.means, [group.mean(axis=0) for group in groups], rtol=1e-12)
        np.testing.assert_allclose(mixture.covariances, expected[covariance_type], rtol=1e-12)


def test_reg_covar_adds_to_the_variances_only(covariance_type, X):
    resp = reference.one_hot(np.arange(50) % 2)
    plain, ridge = (reference.m_step(X, resp, covariance_type, reg_covar) for reg_covar in (0.0, 0.25))
    added = reference.dense_covariances(ridge) - reference.dense_covariances(plain)
    np.testing.assert_allclose(added, np.stack([0.25 * np.eye(3)] * 2), atol=1e-12)
    np.testing.assert_array_equal(ridge.means, plain.means)


def test_weight_two_is_the_row_twice_and_weight_zero_the_row_absent(mixture, X):
    repeats = np.arange(50) % 3
    repeated = np.repeat(X, repeats, axis=0)
    weighted = reference.em_step(X, mixture, 1e-3, repeats.astype(float))
    for value, expected in zip(weighted[:3], reference.em_step(repeated, mixture, 1e-3)[:3], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    for criterion in (reference.log_likelihood, reference.aic, reference.bic):
        assert criterion(X, mixture, repeats) == pytest.approx(criterion(repeated, mixture), rel=1e-12)


@pytest.mark.parametrize("cell", CERTIFIED, ids=lambda cell: "-".join(map(str, cell[:4])))
def test_em_reaches_the_certified_log_likelihood(cell: Certified, starts):
    X, labels = starts[cell.data, cell.start]
    start = reference.m_step(X, reference.one_hot(labels), cell.covariance_type)
    mixture, lower_bounds = reference.em(X, start, tol=1e-13, max_iter=500)
    assert len(lower_bounds) < 500
    assert reference.log_likelihood(X, mixture) == pytest.approx(cell.log_likelihood, rel=1e-11)
    p = reference.n_parameters(cell.covariance_type, cell.n_components, X.shape[1])
    assert p == cell.n_parameters
    assert reference.aic(X, mixture) == pytest.approx(2 * p - 2 * cell.log_likelihood, rel=1e-11)
    assert reference.bic(X, mixture) == pytest.approx(p * math.log(len(X)) - 2 * cell.log_likelihood, rel=1e-11)


@pytest.mark.parametrize(("column", "cuts"), [(0, (3.0, 4.4)), (1, (65.0, 80.0))])
def test_em_reaches_the_robust_fixed_point_from_either_column(faithful, column, cuts):
    start = reference.m_step(faithful, reference.one_hot(np.digitize(faithful[:, column], cuts)), "tied")
    mixture, _ = reference.em(faithful, start, tol=1e-13, max_iter=2000)
    assert reference.log_likelihood(faithful, mixture) == pytest.approx(-1126.3159278234, rel=1e-11)
    np.testing.assert_allclose(sorted(mixture.weights), [0.168606, 0.356378, 0.475016], atol=1e-6)
