"""Factor analysers of rows with gaps: scores, imputation and reconstruction against dense conditional Gaussians."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastgmm import MixtureOfFactorAnalyzers as Mixture
from fastgmm import open_source
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.model.factors.expectation import FactorPass
from fastgmm.model.factors.maximisation import FactorMaximiser
from fastgmm.model.factors.missing import VisibleSums
from fastgmm.model.factors.parameters import FactorParameters
from tests.reference_factor_mixture import covariance, em_step_missing, expectations, impute, log_likelihood, log_prob
from tests.test_factor_reference import draw, hide, random_parameters
from tests.test_sources import Chunks


@pytest.fixture(scope="module")
def truth():
    return random_parameters(3, 7, 2)


@pytest.fixture(scope="module")
def rows(truth):
    """120 rows without a third of their values, one of them without any."""
    X = hide(draw(truth, 120))
    X[3] = np.nan
    X.flags.writeable = False
    return X


def make(parameters, **settings):
    return Mixture.from_parameters(*parameters, missing="em", random_state=0, **settings)


def quietly(model, X):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Best performing initialization did not converge", ConvergenceWarning)
        return model.fit(X)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("obs_noise", [0.0, 0.7])
def test_scores_are_those_of_the_visible_values(obs_noise, dtype, truth, rows):
    model, X = make(truth, obs_noise=obs_noise), rows.astype(dtype)
    observed = truth._replace(noise=truth.noise + obs_noise)
    expected = log_prob(X.astype(np.float64), *observed)
    # Computed in float64 from the values of X, whatever their dtype.
    np.testing.assert_allclose(
        model.score_samples(X), log_likelihood(X.astype(np.float64), observed), rtol=1e-9, atol=1e-12
    )
    resp = model.predict_proba(X)
    joint = np.exp(expected - expected.max(axis=1, keepdims=True))
    np.testing.assert_allclose(resp, joint / joint.sum(axis=1, keepdims=True), atol=1e-10)
    np.testing.assert_array_equal(model.predict(X), expected.argmax(axis=1))
    assert model.score(X) == pytest.approx(log_likelihood(X.astype(np.float64), observed).mean(), rel=1e-9)


def test_complete_rows_score_alike_with_and_without_gaps_beside_them(truth):
    X = draw(truth, 50)
    with_gaps = np.vstack([X, np.full((1, 7), np.nan)])
    model = make(truth)
    np.testing.assert_allclose(model.score_samples(with_gaps)[:-1], model.score_samples(X), rtol=1e-11)
    assert model.score_samples(with_gaps)[-1] == pytest.approx(0.0, abs=1e-12)  # nothing seen, nothing learnt
    np.testing.assert_allclose(model.predict_proba(with_gaps)[-1], truth.weights, rtol=1e-12)


@pytest.mark.parametrize("size", [1e160, 1e250])
def test_far_rows_with_gaps_keep_their_nearest_component(size, truth):
    wide = truth._replace(loadings=truth.loadings * np.array([1.0, 1.0, 100.0])[:, None, None])
    model = make(wide)
    X = size * np.vstack([wide.loadings[2, :, 0], wide.loadings[2, :, 1]])
    X[:, 4] = np.nan
    np.testing.assert_allclose(model.predict_proba(X), np.eye(3)[[2, 2]], atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), 2)
    np.testing.assert_array_equal(model.score_samples(X), -np.inf)
    filled = model.impute(X)
    # Far along a loading the hidden value is on it too, but for the noise's share of 1e-4.
    np.testing.assert_allclose(filled[:, 4], size * wide.loadings[2, 4], rtol=0.01)


@pytest.mark.parametrize("obs_noise", [0.0, 0.7])
def test_imputed_means_are_conditional_expectations(obs_noise, truth, rows):
    model = make(truth, obs_noise=obs_noise)
    filled = model.impute(rows)
    seen = ~np.isnan(rows)
    np.testing.assert_array_equal(filled[seen], rows[seen])
    np.testing.assert_allclose(filled, impute(rows, truth, obs_noise), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(filled[3], truth.weights @ truth.means, rtol=1e-12)


def test_gaps_are_filled_in_whatever_missing_says(truth, rows):
    np.testing.assert_array_equal(Mixture.from_parameters(*truth).impute(rows), make(truth).impute(rows))
    with pytest.raises(ValueError, match="mode must be 'mean' or 'sample'"):
        make(truth).impute(rows, mode="median")


def conditional(x, parameters):
    """Mean and covariance of the hidden values of a row given the visible ones, of the whole mixture."""
    h, v = np.isnan(x), ~np.isnan(x)
    joint = log_prob(x[None], *parameters)[0]
    resp = np.exp(joint - joint.max())
    resp /= resp.sum()
    means, second = [], []
    for mean, loadings, noise in zip(*parameters[1:], strict=True):
        dense = covariance(loadings, noise)
        gain = dense[np.ix_(h, v)] @ np.linalg.inv(dense[np.ix_(v, v)])
        means.append(mean[h] + gain @ (x[v] - mean[v]))
        second.append(dense[np.ix_(h, h)] - gain @ dense[np.ix_(v, h)] + np.outer(means[-1], means[-1]))
    mean = resp @ np.array(means)
    return mean, np.einsum("k,kij->ij", resp, np.array(second)) - np.outer(mean, mean), resp


def test_draws_have_the_conditional_mean_and_covariance():
    parameters = random_parameters(2, 5, 2)
    parameters = parameters._replace(means=0.3 * parameters.means)
    x = np.array([0.4, np.nan, np.nan, -0.2, np.nan])
    mean, dense, resp = conditional(x, parameters)
    assert resp.min() > 0.1  # both components take part
    n = 40_000
    drawn = make(parameters).impute(np.tile(x, (n, 1)), mode="sample")
    np.testing.assert_array_equal(drawn[:, [0, 3]], np.tile(x[[0, 3]], (n, 1)))
    diff = drawn[:, [1, 2, 4]] - mean
    assert np.all(np.abs(diff.mean(axis=0)) < 5 * np.sqrt(np.diag(dense) / n))
    products = diff[:, :, None] * diff[:, None, :]
    assert np.all(np.abs(products.mean(axis=0) - dense) < 5 * products.std(axis=0) / np.sqrt(n))


def test_draws_follow_the_seed(truth, rows):
    first, again = (make(truth).impute(rows, mode="sample") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = make(truth).set_params(random_state=1).impute(rows, mode="sample")
    hidden = np.isnan(rows)
    assert np.all(first[hidden] != other[hidden])
    np.testing.assert_array_equal(first[~hidden], rows[~hidden])


@pytest.mark.parametrize("obs_noise", [0.0, 0.7])
def test_reconstructions_are_expected_rows_without_noise(obs_noise, truth, rows):
    resp, z, _ = expectations(rows, truth._replace(noise=truth.noise + obs_noise))
    coef = np.concatenate([truth.loadings, truth.means[:, :, None]], axis=2)
    expected = np.einsum("nk,kda,nka->nd", resp, coef, z)
    model = make(truth, obs_noise=obs_noise)
    np.testing.assert_allclose(model.reconstruct(rows), expected, rtol=1e-9, atol=1e-10)
    single = make([np.asarray(value, np.float32) for value in truth]).reconstruct(rows.astype(np.float32))
    assert single.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_fits_take_the_reference_steps(dtype, truth, rows):
    """From a warm start, four iterations with a floor that binds now and then."""
    X = rows.astype(dtype)
    model = make(truth, noise_floor=0.4, warm_start=True, max_iter=4, tol=0)
    model.converged_, model.lower_bound_ = False, -np.inf  # as a fit leaves them
    expected, bounds = truth._replace(noise=np.maximum(truth.noise, 0.4)), []
    for _ in range(4):
        bounds.append(log_likelihood(X.astype(np.float64), expected).mean())
        expected = em_step_missing(X.astype(np.float64), expected, floor=0.4)
    quietly(model, X)
    # float32: bounds are kept in the dtype of the rows.
    np.testing.assert_allclose(model.lower_bounds_, bounds, rtol=1e-8 if dtype == np.float64 else 1e-6)
    for name, wanted in zip(("weights_", "means_", "loadings_", "noise_variance_"), expected, strict=True):
        # Four steps multiply the rounding of the first by the condition of the equations, about 1e3 each.
        np.testing.assert_allclose(getattr(model, name), wanted, rtol=1e-6, atol=1e-6)


def test_the_likelihood_never_falls_with_half_of_the_values_hidden():
    for seed in range(5):
        X = hide(draw(random_parameters(3, 8, 2, seed=seed), 150), share=0.5, seed=seed)
        model = Mixture(2, 2, missing="em", noise_floor=1e-12, tol=0, max_iter=30, random_state=seed)
        quietly(model, X)
        assert model.noise_variance_.min() > 1e-12
        bounds = np.array(model.lower_bounds_)
        assert np.diff(bounds).min() >= -1e-9 * np.abs(bounds).max(), seed
        assert model.score(X) == pytest.approx(model.log_likelihood_ / len(X), rel=1e-12)


def test_nothing_missing_gives_the_bits_of_the_plain_fit(truth):
    X = draw(truth, 100)
    fits = [quietly(Mixture(3, 2, missing=missing, random_state=0, max_iter=5), X) for missing in ("raise", "em")]
    for name in ("weights_", "means_", "loadings_", "noise_variance_", "lower_bounds_"):
        np.testing.assert_array_equal(getattr(fits[0], name), getattr(fits[1], name))


def test_missing_values_are_an_error_unless_asked_for(truth, rows):
    message = r"(?s)NaN \(first at row 0, column \d\).*MixtureOfFactorAnalyzers with missing='em'"
    for call in (Mixture(2).fit, Mixture.from_parameters(*truth).predict):
        with pytest.raises(ValueError, match=message):
            call(rows[np.isnan(rows).any(axis=1)])
    X = rows.copy()
    X[5, 1] = np.inf
    model = make(truth)
    for call in (Mixture(2, missing="em").fit, model.predict, model.score_samples, model.impute, model.reconstruct):
        with pytest.raises(ValueError, match=r"infinity or a value too large .*\(first at row 5, column 1\)"):
            call(X)


def test_a_column_without_values_is_named(rows):
    X = rows.copy()
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match="Column 2 has no values"):
        Mixture(2, missing="em").fit(X)
    with pytest.raises(ValueError, match="Every row misses all its values"):
        Mixture(2, missing="em").fit(np.full((4, 3), np.nan))


# Rows with gaps are computed with in float64, where 1e30 has a square.
@pytest.mark.parametrize(
    ("missing", "dtype", "size"),
    [("raise", np.float64, 1e149), ("raise", np.float32, 1e30), ("em", np.float64, 1e149)],
)
def test_rows_beyond_the_range_of_squares_end_a_fit_with_their_number(missing, dtype, size, truth):
    # The spread of 1e149 has a square; over a noise of 1e-6 it has none.
    sharp = truth._replace(noise=np.full((3, 7), 1e-12)) if dtype == np.float64 else truth
    model = make(sharp, noise_floor=1e-12, warm_start=True).set_params(missing=missing)
    model.converged_, model.lower_bound_ = False, -np.inf  # as a fit leaves them
    X = draw(truth, 50).astype(dtype)
    X[7] = size
    X[8, 0] = np.nan if missing == "em" else 0.0
    with pytest.raises(ValueError, match="1 rows are so far from every component"):
        model.fit(X)
    np.testing.assert_array_equal(model.means_, truth.means)


@pytest.mark.parametrize("weighted", [False, True])
def test_complete_rows_take_the_fast_way_to_the_same_step(weighted, truth):
    X = draw(truth, 90)
    X[::3, 2] = X[1::9, 5] = np.nan
    weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float) if weighted else None
    parameters = FactorParameters(*truth)
    apart = FactorPass(open_source(Chunks([X[:50], X[50:]])), weight, truth.means[0], gaps=True)(parameters)
    visible = VisibleSums(parameters)
    visible.add(X, weight)
    together = visible.statistics()
    assert apart.log_likelihood == pytest.approx(together.log_likelihood, rel=1e-12)
    steps = [FactorMaximiser()(statistics) for statistics in (apart, together)]
    for name in ("weights", "means", "loadings", "noise_variance"):
        np.testing.assert_allclose(*(getattr(step, name) for step in steps), rtol=1e-9, atol=1e-10)


def test_rows_that_share_what_is_hidden_are_completed_as_each_alone():
    """One elimination serves all rows of a pattern: the same numbers as row by row, where each has its own."""
    rng = np.random.default_rng(5)
    data = rng.normal(size=(300, 8)) + 3 * rng.integers(2, size=(300, 1))
    model = Mixture(2, 3, missing="em", random_state=0, max_iter=5, tol=1e6).fit(data)
    one, few = np.zeros((40, 8), bool), np.zeros((40, 8), bool)
    one[:, 3:] = True
    few[::2, :4], few[1::4, 5] = True, True
    own = rng.random((40, 8)) < 0.4
    for hidden in (one, few, own, np.zeros((40, 8), bool)):
        rows = np.where(hidden, np.nan, data[:40])
        rows[np.isnan(rows).all(axis=1), 0] = 1.0
        for method in (model.score_samples, model.impute, model.reconstruct, model.predict_proba):
            alone = np.concatenate([method(row[None]) for row in rows])
            np.testing.assert_allclose(method(rows), alone, rtol=1e-9, atol=1e-11)


def test_a_pattern_is_eliminated_once_for_each_component(monkeypatch):
    """However many rows share it: a picture's hidden half took an elimination per picture."""
    from fastgmm.model.factors import missing as module

    data = np.random.default_rng(6).normal(size=(3000, 8))
    model = Mixture(2, 3, missing="em", random_state=0, max_iter=2, tol=1e6).fit(data)
    eliminated, original = [], module._cholesky
    monkeypatch.setattr(
        module, "_cholesky", lambda patterns, W: eliminated.append(len(patterns)) or original(patterns, W)
    )
    rows = data.copy()
    rows[:, 5:] = np.nan
    model.impute(rows)
    assert eliminated == [1, 1]
