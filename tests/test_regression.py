"""Regression by a joint mixture: laws, files, gaps, scikit-learn's checks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgmm import GaussianMixture, GaussianMixtureRegressor, MixtureOfFactorAnalyzers, open_source
from fastgmm.exceptions import NotFittedError
from tests import reference_conditioning as slow


@parametrize_with_checks([GaussianMixtureRegressor(), GaussianMixtureRegressor(missing="em", random_state=0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def table():
    X = load_iris().data
    return X[:, :2], X[:, 2:]


def test_one_component_is_linear_regression(table):
    X, Y = table
    model = GaussianMixtureRegressor(reg_covar=0).fit(X, Y)
    linear = LinearRegression().fit(X, Y)
    np.testing.assert_allclose(model.predict(X), linear.predict(X), rtol=1e-9)
    residual = (Y - linear.predict(X)).std(axis=0)
    np.testing.assert_allclose(model.predict(X, return_std=True)[1], np.tile(residual, (len(X), 1)), rtol=1e-9)
    assert model.score(X, Y) == pytest.approx(linear.score(X, Y))


def test_answers_are_those_of_the_joint_mixture(table):
    X, Y = table
    model = GaussianMixtureRegressor(3, random_state=0).fit(X, Y)
    joint = model.mixture_._density().gaussians()
    mean, std = model.predict(X[:20], return_std=True)
    quantiles, log_prob = model.predict_quantiles(X[:20], [0.1, 0.5]), model.log_prob(X[:20], Y[:20])
    for i in range(20):
        weights, means, covariances = slow.condition(
            joint.weights, joint.means, joint.covariances, [0, 1], X[i], [2, 3]
        )
        expected, spread = slow.moments(weights, means, covariances)
        np.testing.assert_allclose(mean[i], expected, rtol=1e-8)
        np.testing.assert_allclose(std[i], np.sqrt(np.diagonal(spread)), rtol=1e-8)
        assert log_prob[i] == pytest.approx(slow.log_density(weights, means, covariances, Y[i]), rel=1e-8)
        for w in range(2):
            deviations = np.sqrt(covariances[:, w, w])
            found = [slow.quantile(weights, means[:, w], deviations, p) for p in (0.1, 0.5)]
            np.testing.assert_allclose(quantiles[i, w], found, rtol=1e-8)
    np.testing.assert_array_equal(model.predict(X[:20], kind="median"), quantiles[:, :, 1])
    left = model.conditional(X[0])
    assert left.score_samples(model.predict(X[:1], kind="mode"))[0] >= left.score_samples(left.sample(300)[0]).max()


def test_a_flat_target_is_answered_flat(table):
    X, Y = table
    model = GaussianMixtureRegressor(2, random_state=0).fit(X, Y[:, 0])
    assert model.predict(X).shape == (150,)
    assert [found.shape for found in model.predict(X, return_std=True)] == [(150,), (150,)]
    assert model.predict_quantiles(X, [0.1, 0.9]).shape == (150, 2)
    assert model.sample(X, 7).shape == (150, 7)
    assert model.log_prob(X, Y[:, 0]).shape == (150,)
    column = GaussianMixtureRegressor(2, random_state=0).fit(X, Y[:, :1])
    np.testing.assert_array_equal(column.predict(X)[:, 0], model.predict(X))


def test_weights_are_repeated_rows(table):
    X, Y = table
    weight = np.random.default_rng(0).integers(1, 4, size=len(X))
    weighted = GaussianMixtureRegressor(random_state=0).fit(X, Y, sample_weight=weight)
    repeated = GaussianMixtureRegressor(random_state=0).fit(np.repeat(X, weight, axis=0), np.repeat(Y, weight, axis=0))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)


def test_files_and_frames_whose_columns_are_named(table, tmp_path):
    pd = pytest.importorskip("pandas")
    X, Y = table
    frame = pd.DataFrame(np.column_stack([Y[:, 0], X]), columns=["length", "a", "b"])
    frame.to_csv(tmp_path / "rows.csv", index=False)
    arrays = GaussianMixtureRegressor(2, random_state=0).fit(X, Y[:, 0])
    for rows in (frame, tmp_path / "rows.csv", open_source(tmp_path / "rows.csv")):
        model = GaussianMixtureRegressor(2, random_state=0).fit(rows, "length")
        assert model.feature_names_in_.tolist() == ["a", "b"]
        np.testing.assert_allclose(model.predict(frame[["a", "b"]]), arrays.predict(X), rtol=1e-9)
    np.testing.assert_allclose(model.predict(tmp_path / "rows.csv"), arrays.predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match=r"no column 'price'; its columns are \['length', 'a', 'b'\]"):
        GaussianMixtureRegressor().fit(frame, "price")
    with pytest.raises(ValueError, match="y must name the target's column"):
        GaussianMixtureRegressor().fit(tmp_path / "rows.csv", Y[:, 0])


def test_gaps_among_the_features(table):
    X, Y = (part.copy() for part in table)
    X[::3, 0] = np.nan
    X[1] = np.nan
    model = GaussianMixtureRegressor(2, missing="em", random_state=0).fit(X, Y)
    mean, joint = model.predict(X), model.mixture_._density().gaussians()
    for i in (0, 3, 4):
        have = np.flatnonzero(~np.isnan(X[i]))
        weights, means, covariances = slow.condition(
            joint.weights, joint.means, joint.covariances, have, X[i, have], [2, 3]
        )
        np.testing.assert_allclose(mean[i], slow.moments(weights, means, covariances)[0], rtol=1e-8)
    np.testing.assert_allclose(mean[1], joint.weights @ joint.means[:, 2:], rtol=1e-8)
    X[2, 1] = np.inf
    for ask in (model.predict, model.mixture_.conditional().mean):
        with pytest.raises(ValueError, match="infinity"):
            ask(X if ask == model.predict else np.hstack([X, Y]))
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixtureRegressor().fit(X, Y)


def test_any_mixture_of_the_joint_rows(table):
    X, Y = table
    model = GaussianMixtureRegressor(mixture=MixtureOfFactorAnalyzers(2, 1, random_state=0)).fit(X, Y)
    assert isinstance(model.mixture_, MixtureOfFactorAnalyzers)
    assert model.score(X, Y) > 0.8
    made = GaussianMixtureRegressor.from_mixture(model.mixture_, 2)
    np.testing.assert_array_equal(made.predict(X), model.predict(X))
    with pytest.raises(TypeError, match="mixture must be a mixture of fastgmm"):
        GaussianMixtureRegressor(mixture=LinearRegression()).fit(X, Y)
    with pytest.raises(ValueError, match="n_outputs must be from 1 to 3"):
        GaussianMixtureRegressor.from_mixture(model.mixture_, 4)


def test_held_out_log_likelihood_of_real_rows_is_higher_than_a_lines_and_a_forests(table):
    """Iris and nothing tuned: what Gaussian residuals of one width miss."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    X, y = load_iris().data[:, :3], load_iris().data[:, 3]
    totals = {"mixture": 0.0, "line": 0.0, "forest": 0.0}
    for train, test in KFold(5, shuffle=True, random_state=0).split(X):
        model = GaussianMixtureRegressor(3, n_init=3, random_state=0).fit(X[train], y[train])
        totals["mixture"] += model.log_prob(X[test], y[test]).sum()
        line = LinearRegression().fit(X[train], y[train])
        forest = RandomForestRegressor(100, oob_score=True, random_state=0).fit(X[train], y[train])
        for name, peer, fitted in (("line", line, line.predict(X[train])), ("forest", forest, forest.oob_prediction_)):
            width = np.sqrt(np.mean((y[train] - fitted) ** 2))
            residual = (y[test] - peer.predict(X[test])) / width
            totals[name] += (-0.5 * residual**2 - np.log(width) - 0.5 * np.log(2 * np.pi)).sum()
    assert totals["mixture"] > max(totals["line"], totals["forest"]) + 5


def test_what_is_wrong_is_named(table):
    X, Y = table
    with pytest.raises(NotFittedError, match="not fitted"):
        GaussianMixtureRegressor().predict(X)
    model = GaussianMixtureRegressor().fit(X, Y)
    with pytest.raises(ValueError, match="kind must be one of"):
        model.predict(X, kind="best")
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.predict_quantiles(X, [2.0])
    with pytest.raises(ValueError, match="X has 3 features"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="covariance_type"):
        GaussianMixtureRegressor(covariance_type="round").fit(X, Y)
    assert isinstance(GaussianMixture(2), type(GaussianMixtureRegressor(mixture=GaussianMixture(2))._joint_mixture()))
