"""Missing values: exact EM against a row-by-row reference, recovery of parameters, scoring and imputation."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.model.missing import find_patterns
from tests import reference

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_", "log_likelihood_")


def with_gaps(X, share, seed, dtype=np.float64):
    """The rows without a share of their entries, at random."""
    X = X.astype(dtype).copy()
    X[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    return X


def fit(X, start, covariance_type, **settings):
    """A fit of a fixed number of iterations from the reference's parameters."""
    precisions = np.linalg.inv(reference.dense_covariances(start))
    given = {
        "full": precisions,
        "tied": precisions[0],
        "diag": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }[covariance_type]
    weight = settings.pop("sample_weight", None)
    model = GaussianMixture(
        len(start.weights), covariance_type=covariance_type, weights_init=start.weights, means_init=start.means,
        precisions_init=given, tol=0, missing="em", **settings
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, sample_weight=weight)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_em_is_the_row_by_row_reference(covariance_type, dtype, tolerance, blobs):
    X = with_gaps(blobs[0][:150], 0.3, 0, dtype)
    X[7] = np.nan
    weight = np.random.default_rng(1).uniform(0.2, 2.0, len(X))
    start = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    model = fit(X, start, covariance_type, max_iter=4, reg_covar=1e-3, sample_weight=weight)
    mixture, bounds = start, []
    for _ in range(4):
        mixture, bound = reference.missing_em_step(X.astype(np.float64), mixture, weight, 1e-3)
        bounds.append(bound)
    np.testing.assert_allclose(model.lower_bounds_, bounds, atol=tolerance)
    for ours, theirs in zip((model.weights_, model.means_, model.covariances_), mixture[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_nothing_missing_gives_the_bits_of_the_plain_fit(covariance_type, blobs):
    fits = [
        GaussianMixture(3, covariance_type=covariance_type, missing=missing, random_state=0).fit(blobs[0])
        for missing in ("raise", "em")
    ]
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(fits[0], name), getattr(fits[1], name))
    np.testing.assert_array_equal(fits[0].score_samples(blobs[0]), fits[1].score_samples(blobs[0]))


def test_the_likelihood_never_falls(covariance_type, blobs):
    X = with_gaps(blobs[0], 0.4, 3)
    model = GaussianMixture(4, covariance_type=covariance_type, missing="em", tol=0, max_iter=60, reg_covar=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(random_state=0).fit(X)
    assert np.diff(model.lower_bounds_).min() > -1e-12
    assert model.score(X) == pytest.approx(model.log_likelihood_ / len(X), abs=1e-12)


def test_parameters_are_recovered_within_three_standard_errors():
    """30 % of the entries removed: means as close to the complete data's as their standard errors allow."""
    for seed in range(20):
        covariance_type = reference.COVARIANCE_TYPES[seed % 4]
        problem = make_mixture(4000, 4, 3, separation=5.0, covariance_type=covariance_type, random_state=seed)
        settings = {"covariance_type": covariance_type, "init_params": problem.labels, "max_iter": 500, "tol": 1e-6}
        complete = GaussianMixture(3, **settings).fit(problem.X)
        gaps = with_gaps(problem.X, 0.3, seed)
        model = GaussianMixture(3, missing="em", **settings).fit(gaps)
        dense = reference.dense_covariances(
            reference.Mixture(complete.weights_, complete.means_, complete.covariances_, covariance_type)
        )
        variances = np.diagonal(dense, axis1=1, axis2=2)
        # Of a mean from 70 % of a component's rows; the error of the complete fit is in both.
        error = np.sqrt(variances / (0.7 * len(gaps) * complete.weights_[:, None]))
        assert np.all(np.abs(model.means_ - complete.means_) < 3 * error), (seed, covariance_type)
        fitted = reference.dense_covariances(
            reference.Mixture(model.weights_, model.means_, model.covariances_, covariance_type)
        )
        spread = np.diagonal(fitted, axis1=1, axis2=2)
        count = 0.7 * len(gaps) * complete.weights_[:, None]
        assert np.all(np.abs(spread / variances - 1) < 3 * np.sqrt(2 / count)), (seed, covariance_type)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scores_are_those_of_the_observed_values(covariance_type, dtype, blobs):
    start = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    model = GaussianMixture.from_parameters(*start[:3], covariance_type, missing="em")
    X = with_gaps(blobs[0][:200], 0.4, 5, dtype)
    X[3] = np.nan
    log_prob = reference.missing_log_prob(X.astype(np.float64), start) + np.log(start.weights)
    norm = np.log(np.exp(log_prob).sum(axis=1))
    tolerance = 1e-9 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(model.score_samples(X), norm, atol=tolerance)
    np.testing.assert_allclose(model.predict_proba(X), np.exp(log_prob - norm[:, None]), atol=tolerance)
    np.testing.assert_array_equal(model.predict(X), log_prob.argmax(axis=1))
    assert model.score_samples(X)[3] == pytest.approx(0.0, abs=1e-12)


def test_imputed_means_are_conditional_expectations(covariance_type, blobs):
    start = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    model = GaussianMixture.from_parameters(*start[:3], covariance_type, missing="em", random_state=0)
    X = with_gaps(blobs[0][:60], 0.4, 6)
    X[3] = np.nan
    filled, drawn = model.impute(X), model.impute(X, mode="sample")
    assert filled is not X
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    resp, dense = model.predict_proba(X), reference.dense_covariances(start)
    for i, row in enumerate(X):
        o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        expected = np.zeros(len(m))
        for k, covariance in enumerate(dense):
            slope = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
            expected += resp[i, k] * (start.means[k, m] + slope @ (row[o] - start.means[k, o]))
        np.testing.assert_allclose(filled[i, m], expected, atol=1e-10)
    np.testing.assert_array_equal(drawn[~np.isnan(X)], X[~np.isnan(X)])
    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn, model.impute(X, mode="sample"))
    with pytest.raises(ValueError, match="mode must be 'mean' or 'sample'"):
        model.impute(X, mode="median")


def test_imputed_draws_have_the_moments_of_the_mixture(covariance_type):
    problem = make_mixture(60_000, 3, 2, separation=4.0, covariance_type=covariance_type, random_state=1)
    model = GaussianMixture(2, covariance_type=covariance_type, missing="em", random_state=0).fit(problem.X)
    X = problem.X.copy()
    X[:, 1:] = np.nan
    drawn = model.impute(X, mode="sample")
    # Rows whose other columns are drawn given the first have the distribution they had: six standard errors.
    error = problem.X.std(axis=0) / np.sqrt(len(X))
    assert np.all(np.abs(drawn.mean(axis=0) - problem.X.mean(axis=0)) < 6 * np.sqrt(2) * error)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(problem.X.T), atol=0.05 * problem.X.var(axis=0).max())
    assert model.impute(X).std(axis=0)[1] < drawn.std(axis=0)[1]


def test_patterns_group_every_row_once():
    X = with_gaps(np.random.default_rng(0).normal(size=(500, 11)), 0.2, 1)
    X[3] = np.nan
    seen = np.zeros(len(X), int)
    for pattern in find_patterns([(0, X[:200]), (200, X[200:])], 11):
        seen[pattern.index] += 1
        assert (np.isnan(X[pattern.index]) == np.isin(np.arange(11), pattern.missing)).all()
    assert seen[3] == 0
    assert np.delete(seen, 3).all()
    assert seen.max() == 1


def test_missing_values_are_an_error_unless_asked_for(blobs):
    X = with_gaps(blobs[0], 0.1, 0)
    with pytest.raises(ValueError, match=r"(?s)NaN \(first at row .*missing='em'"):
        GaussianMixture(2).fit(X)
    model = GaussianMixture(2, missing="em", random_state=0).fit(X)
    X[5, 1] = np.inf
    for method in (model.fit, model.predict, model.score_samples, model.impute):
        with pytest.raises(ValueError, match=r"infinity or a value too large .*\(first at row 5, column 1\)"):
            method(X)
    with pytest.raises(ValueError, match="Every row misses all its values"):
        GaussianMixture(1, missing="em").fit(np.full((4, 2), np.nan))


def test_a_column_without_values_is_named():
    X = np.random.default_rng(0).normal(size=(50, 2))
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="Column 1 has no values"):
        GaussianMixture(1, missing="em").fit(X)


@pytest.mark.slow
def test_few_patterns_cost_at_most_three_complete_iterations(covariance_type):
    """1,000,000 x 8, 8 components, 20 patterns; `pytest -m slow -k patterns`. Fewer rows take 2 ms, which are noise."""
    problem = make_mixture(1_000_000, 8, 8, covariance_type=covariance_type, random_state=0)
    rng = np.random.default_rng(0)
    masks = rng.random((20, 8)) < 0.3
    masks[0] = False
    X = problem.X.copy()
    X[masks[rng.integers(20, size=len(X))]] = np.nan
    seconds = {}
    for name, rows in (("complete", problem.X), ("gaps", X)):
        times = []
        for max_iter in (2, 12):
            model = GaussianMixture(8, covariance_type=covariance_type, init_params=problem.labels, missing="em", tol=0)
            runs = []
            for _ in range(3):
                begin = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.set_params(max_iter=max_iter).fit(rows)
                runs.append(time.perf_counter() - begin)
            times.append(min(runs))
        seconds[name] = (times[1] - times[0]) / 10
    print(covariance_type, {name: f"{1e3 * value:.2f} ms" for name, value in seconds.items()})
    assert seconds["gaps"] <= 3 * seconds["complete"]
