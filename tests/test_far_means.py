"""Rows far from the mean of their component: moments keep the digits of the rows' own variance."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, ConjugatePrior, GaussianMixture
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.model import expectation
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.parameters import MixtureParameters
from fastgmm.optimization import problem
from fastgmm.rows.source import ArraySource
from tests import reference


def offset_rows(n, d, seed=0):
    """Two clusters 1e5 deviations from the origin, as float32 rounds them, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return (rng.normal(size=(n, d)) + 6 * labels[:, None] + 1e5).astype(np.float32), labels


@pytest.mark.parametrize("far", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("structure", ["full", "diag"])
def test_second_moments_are_those_of_the_rows_wherever_the_means_are(structure, far):
    X, labels = offset_rows(400, 3)
    means = np.full((2, 3), 1e5 - far)
    start = MixtureParameters(np.full(2, 0.5), means, STRUCTURES[structure].cholesky(
        STRUCTURES[structure].identity(2, 3)), structure)  # fmt: skip
    resp = reference.one_hot(labels)
    statistics = StatisticsPass(ArraySource(X), X.astype(np.float64).mean(axis=0))(start, resp)
    np.testing.assert_allclose(statistics.means, means, rtol=1e-6)
    own = statistics.means + statistics.sum_diff / statistics.sum_resp[:, None]
    moved = statistics.about(own, STRUCTURES[structure])
    expected = reference.m_step(X, resp, structure)
    np.testing.assert_allclose(own, expected.means, rtol=1e-7)
    count = moved.sum_resp.reshape(-1, *[1] * (moved.sum_outer.ndim - 1))
    np.testing.assert_allclose(moved.sum_outer / count, expected.covariances, atol=1e-3)


@pytest.mark.parametrize("n", [100, 600])
@pytest.mark.parametrize("acceleration", ["lbfgs", None])
def test_float32_rows_bear_a_prior_mean_at_a_distance(covariance_type, n, acceleration):
    """The prior makes covariances long, not singular: across the way to its mean precisions are float64's."""
    X, labels = offset_rows(n, 2)
    fits = []
    for rows in (X, X.astype(np.float64)):
        model = BayesianGaussianMixture(
            n_components=2, covariance_type=covariance_type, mean_prior=[0.0, 0.0], init_params=labels,
            acceleration=acceleration, max_iter=1,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(model.fit(rows))
            fits[-1].set_params(max_iter=50).fit(rows)  # to the end, without an error
    # Covariances of 1e8 have no digits of variances of 1 in float32; their inverse factors, which densities read, do.
    if covariance_type in ("full", "tied"):
        across = np.array([1, -1]) / np.sqrt(2)
        found = [across @ np.asarray(model.precisions_cholesky_, np.float64) for model in fits]
        precisions = [np.sum(factor**2, axis=-1) for factor in found]
        np.testing.assert_allclose(*precisions, rtol=1e-2)
    assert fits[0].score(X) == pytest.approx(fits[1].score(X), abs=0.05)


def test_float32_rows_bear_a_far_prior_in_map_fits(covariance_type):
    X, labels = offset_rows(200, 2)
    prior = ConjugatePrior(mean_precision=5.0, mean=[0.0, 0.0])
    fits = [
        GaussianMixture(2, covariance_type=covariance_type, prior=prior, init_params=labels, tol=0.1).fit(rows)
        for rows in (X, X.astype(np.float64))
    ]
    for name in ("weights_", "means_"):
        np.testing.assert_allclose(getattr(fits[0], name), getattr(fits[1], name), rtol=2e-3, err_msg=name)


def test_a_usual_fit_makes_no_moment_twice(covariance_type, blobs, monkeypatch):
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)
    calls = []
    make = expectation.accumulate_part
    monkeypatch.setattr(expectation, "accumulate_part", lambda *args: calls.append(args[4]) or make(*args))
    for dtype in (np.float64, np.float32):
        GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(blobs[0].astype(dtype))
    assert calls
    assert all(centres is None for centres in calls)
