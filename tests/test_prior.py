"""Maximum a posteriori: closed forms against a numerical maximiser, and fits where maximum likelihood collapses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from fastgmm import ConjugatePrior, GaussianMixture
from fastgmm.exceptions import ConvergenceWarning, SingularCovarianceError
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.map_prior import ResolvedPrior
from fastgmm.model.maximisation import Maximiser
from fastgmm.model.parameters import MixtureParameters
from fastgmm.rows.source import ArraySource
from tests import reference

D, K = 2, 2


def small_problem(covariance_type, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, D)) + np.where(np.arange(12)[:, None] < 6, 0.0, 2.0)
    resp = rng.dirichlet(np.ones(K), size=12)
    scale = {"full": [[1.5, 0.3], [0.3, 0.8]], "tied": [[1.5, 0.3], [0.3, 0.8]], "diag": [1.5, 0.8], "spherical": 1.2}
    prior = {
        "weight_concentration": 1.7,
        "mean_precision": 0.6,
        "mean": np.array([0.4, -0.2]),
        "degrees_of_freedom": 4.5,
        "scale": np.array(scale[covariance_type]),
    }
    return X, resp, prior


def statistics_of(X, resp, covariance_type):
    structure = STRUCTURES[covariance_type]
    start = MixtureParameters(
        np.full(K, 1 / K), np.zeros((K, D)), structure.cholesky(structure.identity(K, D)), covariance_type
    )
    source = ArraySource(X)
    return StatisticsPass(source, X.mean(axis=0))(start, resp)


def unpack(theta, covariance_type):
    """Unconstrained numbers to a mixture: logit, means, and Cholesky factors with logarithms on the diagonal."""
    weights = np.array([1.0, np.exp(theta[0])])
    means, rest = theta[1 : 1 + K * D].reshape(K, D), theta[1 + K * D :]

    def matrix(values):
        lower = np.array([[np.exp(values[0]), 0.0], [values[2], np.exp(values[1])]])
        return lower @ lower.T

    covariances = {
        "full": lambda: np.stack([matrix(rest[:3]), matrix(rest[3:])]),
        "tied": lambda: matrix(rest),
        "diag": lambda: np.exp(rest).reshape(K, D),
        "spherical": lambda: np.exp(rest),
    }[covariance_type]()
    return reference.Mixture(weights / weights.sum(), means, covariances, covariance_type)


def gradient(function, theta, h=1e-3):
    """Central differences extrapolated twice (Richardson): error of the order of h^6."""
    steps = np.eye(len(theta))
    slope = [[(function(theta + s * e) - function(theta - s * e)) / (2 * s) for e in steps] for s in (h, h / 2, h / 4)]
    a, b, c = np.array(slope)
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15


def maximise_numerically(function, theta):
    """Quasi-Newton to the neighbourhood, then Newton's method with the Hessian found there."""
    theta = minimize(lambda x: -function(x), theta, method="BFGS").x
    slopes = [(gradient(function, theta + e) - gradient(function, theta - e)) / 2e-3 for e in 1e-3 * np.eye(len(theta))]
    hessian = (np.array(slopes) + np.transpose(slopes)) / 2
    for _ in range(8):
        step = -np.linalg.solve(hessian, gradient(function, theta))
        theta = theta + step
    assert np.abs(step).max() < 1e-9
    return theta


@pytest.mark.parametrize("seed", [0, 1])
def test_the_m_step_is_the_numerical_maximum_of_the_log_posterior(covariance_type, seed):
    X, resp, prior = small_problem(covariance_type, seed)
    maximise = Maximiser(
        covariance_type, 0.0, X.var(axis=0), prior=ResolvedPrior(**prior, covariance_type=covariance_type)
    )
    closed = maximise(statistics_of(X, resp, covariance_type))
    n_covariance = {"full": 6, "tied": 3, "diag": 4, "spherical": 2}[covariance_type]

    def objective(theta):
        return reference.expected_log_posterior(X, resp, unpack(theta, covariance_type), prior)

    best = unpack(maximise_numerically(objective, np.zeros(1 + K * D + n_covariance)), covariance_type)
    np.testing.assert_allclose(closed.weights, best.weights, atol=1e-8)
    np.testing.assert_allclose(closed.means, best.means, atol=1e-8)
    np.testing.assert_allclose(closed.covariances, best.covariances, atol=1e-8)


def test_the_log_density_of_the_prior_is_scipys_but_for_a_constant(covariance_type):
    X, resp, prior = small_problem(covariance_type, 3)
    resolved = ResolvedPrior(**prior, covariance_type=covariance_type)
    structure = STRUCTURES[covariance_type]
    rng = np.random.default_rng(4)
    n_theta = 1 + K * D + {"full": 6, "tied": 3, "diag": 4, "spherical": 2}[covariance_type]
    differences = []
    for _ in range(5):
        mixture = unpack(rng.normal(size=n_theta) * 0.7, covariance_type)
        ours = resolved.log_density(
            MixtureParameters(*mixture[:2], structure.cholesky(mixture.covariances), covariance_type)
        )
        differences.append(reference.expected_log_posterior(X, np.zeros_like(resp), mixture, prior) - ours)
    assert np.ptp(differences) < 1e-10


def test_defaults_are_those_of_fraley_and_raftery(covariance_type, faithful):
    model = GaussianMixture(3, covariance_type=covariance_type, prior="conjugate", max_iter=0, random_state=0)
    resolved = ConjugatePrior().resolved(
        covariance_type, 3, faithful.mean(axis=0), faithful.var(axis=0), lambda: np.cov(faithful.T, bias=True)
    )
    variance = faithful.var(axis=0).mean() / 3
    expected = {
        "full": np.cov(faithful.T, bias=True) / 3,
        "tied": np.cov(faithful.T, bias=True) / 3,
        "diag": np.full(2, variance),
        "spherical": variance,
    }[covariance_type]
    np.testing.assert_allclose(resolved.scale, expected)
    assert (resolved.mean_precision, resolved.degrees_of_freedom, resolved.weight_concentration) == (0.01, 4.0, 1.0)
    np.testing.assert_allclose(resolved.mean, faithful.mean(axis=0))
    assert np.isfinite(model.fit(faithful).means_).all()


def test_rows_without_any_value_say_nothing_about_the_default_prior(covariance_type, blobs):
    X = blobs[0][:200].copy()
    X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    more = np.concatenate([X, np.full((1000, 3), np.nan)])
    start = {"weights_init": [0.5, 0.3, 0.2], "means_init": [[0, 0, 0], [4, 1, -1], [-1, 5, 2]]}
    start["precisions_init"] = {"full": [np.eye(3)] * 3, "tied": np.eye(3), "diag": np.ones((3, 3))}.get(
        covariance_type, np.ones(3)
    )
    settings = {"covariance_type": covariance_type, "prior": "conjugate", "missing": "em", "max_iter": 500}
    fits = [GaussianMixture(3, **settings, **start).fit(rows) for rows in (X, more)]
    np.testing.assert_allclose(fits[0].covariances_, fits[1].covariances_, atol=1e-12)
    assert fits[0].lower_bound_ == pytest.approx(fits[1].lower_bound_, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_log_posterior_never_falls(covariance_type, dtype, blobs):
    prior = ConjugatePrior(weight_concentration=2.0, mean_precision=0.5)
    model = GaussianMixture(
        5, covariance_type=covariance_type, prior=prior, tol=0, max_iter=60, init_params="random", random_state=1
    )
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model.fit(blobs[0].astype(dtype))
    rise = np.diff(np.asarray(model.lower_bounds_, np.float64))
    assert rise.min() > (-1e-12 if dtype == np.float64 else -5e-6)
    assert rise.max() > 1e-4


def test_map_converges_where_maximum_likelihood_collapses(covariance_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    X[:6] = X[0] + 8.0  # six equal rows
    labels = np.where(np.arange(40) < 6, 0, 1)
    if covariance_type == "tied":
        X[:, 2] = X[:, 0] + X[:, 1]  # the shared covariance has no volume
    settings = {"covariance_type": covariance_type, "init_params": labels, "reg_covar": 0.0, "max_iter": 500}
    with pytest.raises(SingularCovarianceError):
        GaussianMixture(2, **settings).fit(X)
    scale = {"tied": 0.5 * np.eye(3)}.get(covariance_type)
    model = GaussianMixture(2, prior=ConjugatePrior(scale=scale), **settings).fit(X)
    assert model.converged_
    assert np.isfinite(model.covariances_).all()
    assert not model.diagnostics_.boundary.get(-1)


def test_weights_count_as_rows_under_a_prior(covariance_type, blobs):
    X = blobs[0][:200]
    repeats = np.random.default_rng(0).integers(0, 4, len(X))
    prior = ConjugatePrior(mean=[0, 0, 0], scale=None if covariance_type != "diag" else [1.0, 2.0, 3.0])
    settings = {"covariance_type": covariance_type, "prior": prior, "max_iter": 20, "tol": 0}
    start = np.argmax(X @ np.random.default_rng(1).normal(size=(3, 3)), axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weighted = GaussianMixture(3, init_params=start, **settings).fit(X, sample_weight=repeats)
        repeated = GaussianMixture(3, init_params=np.repeat(start, repeats), **settings).fit(
            np.repeat(X, repeats, axis=0)
        )
    np.testing.assert_allclose(weighted.means_, repeated.means_, atol=1e-10)
    np.testing.assert_allclose(weighted.covariances_, repeated.covariances_, atol=1e-10)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (ConjugatePrior(weight_concentration=0.5), "weight_concentration of the prior must be at least 1"),
        (ConjugatePrior(mean_precision=-1), "mean_precision of the prior must be at least 0"),
        (ConjugatePrior(degrees_of_freedom=1.0), "degrees_of_freedom of the prior must be greater than 1"),
        (ConjugatePrior(scale=np.ones((2, 3))), r"scale of the prior must have shape \(2, 2\)"),
        (ConjugatePrior(scale=-np.eye(2)), "scale of the prior must be symmetric and positive definite"),
        (ConjugatePrior(mean=[1.0]), r"mean of the prior must have shape \(2,\)"),
        (ConjugatePrior(mean=[1.0, np.nan]), "mean of the prior must be finite"),
    ],
)
def test_a_bad_prior_is_named(prior, message, faithful):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, prior=prior).fit(faithful)


def test_a_strong_prior_decides(covariance_type, blobs):
    scale = {
        "full": np.diag([2.0, 3.0, 4.0]),
        "tied": np.diag([2.0, 3.0, 4.0]),
        "diag": [2.0, 3, 4],
        "spherical": 3.0,
    }
    dof = 1e9
    prior = ConjugatePrior(1.0, 1e9, [1.0, 2.0, 3.0], dof, np.array(scale[covariance_type]) * dof)
    model = GaussianMixture(2, covariance_type=covariance_type, prior=prior, random_state=0, max_iter=300).fit(blobs[0])
    np.testing.assert_allclose(model.means_, [[1.0, 2.0, 3.0]] * 2, atol=1e-5)
    expected = np.broadcast_to(scale[covariance_type], model.covariances_.shape)
    np.testing.assert_allclose(model.covariances_, expected, atol=2e-5)
