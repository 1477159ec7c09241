"""Mixtures of linear regressions: values certified by R, laws, options, files."""

from __future__ import annotations

import csv
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgmm import MixtureOfLinearRegressions
from fastgmm.exceptions import ConvergenceWarning

DATA = Path(__file__).parent / "data" / "regression"
CERTIFIED = json.loads((DATA / "regression_mixtures.json").read_text())
EXACT = {"tol": 0.0, "noise_floor": 0.0}


@parametrize_with_checks([MixtureOfLinearRegressions(random_state=0, n_init=2)])
@pytest.mark.filterwarnings("ignore::fastgmm.exceptions.ConvergenceWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def columns(name):
    with (DATA / f"set_{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


@contextmanager
def quiet():
    """Not to converge is no matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def converged(*arguments, max_iter=3000, labels=None, **settings):
    """A fit to the last bit."""
    model = MixtureOfLinearRegressions(2, random_state=0, max_iter=max_iter, **(EXACT | settings))
    with quiet():
        return model.fit(*arguments, labels=labels)


@pytest.mark.parametrize(("noise", "key"), [("free", "own_em"), ("shared", "own_em_equal_variance")])
def test_tone_data_of_r(noise, key):
    table, expected = columns("tonedata"), CERTIFIED["tonedata"][key]
    model = converged(table["stretchratio"][:, None], table["tuned"], noise=noise)
    assert model.log_likelihood_ == pytest.approx(expected["loglik"], rel=1e-9)
    order = np.argsort(model.intercept_)
    found = np.column_stack([model.intercept_, model.coef_])[order]
    np.testing.assert_allclose(found, expected["coef"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.weights_[order], expected["weights"], rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(model.noise_variance_[order]), expected["sigma"], rtol=1e-5)


@pytest.mark.parametrize(("noise", "key"), [("free", "own_em"), ("shared", "own_em_equal_variance")])
def test_npreg_of_r(noise, key):
    table = columns("npreg")
    X = np.column_stack([table["x"], table["x"] ** 2])
    model = converged(X, table["yn"], noise=noise)
    assert model.log_likelihood_ == pytest.approx(CERTIFIED["npreg"][key]["loglik"], rel=1e-9)


def test_a_softmax_gate_of_r():
    table, expected = columns("moe"), CERTIFIED["moe"]["own_em"]
    model = converged(table["x"][:, None], table["y"], gate="softmax", max_iter=6000)
    assert model.log_likelihood_ == pytest.approx(expected["loglik"], rel=1e-9)
    # Boehning's steps converge slowly: the likelihood, flat at its top, is exact to 1e-9 when these are to 1e-4.
    order = np.argsort(-model.intercept_)
    found = np.column_stack([model.intercept_, model.coef_])[order]
    np.testing.assert_allclose(found, expected["coef"], rtol=1e-3)
    gate = np.array([model.gate_intercept_[order], model.gate_coef_[order, 0]])
    np.testing.assert_allclose(gate[:, 1] - gate[:, 0], expected["gating_of_2_against_1"], rtol=1e-3)


def slow_pass(X, Y, model):
    """Log-likelihood and responsibilities by definition."""
    coef, intercept = model.coef_.reshape(len(model.weights_), -1, X.shape[1]), np.atleast_2d(model.intercept_.T).T
    intercept = intercept.reshape(len(coef), -1)
    noise = model.noise_variance_.reshape(len(coef), Y.shape[1], Y.shape[1])
    gate = model.gate_intercept_ + X @ model.gate_coef_.T
    log_gate = np.log(softmax(gate, axis=1))
    log_prob = np.empty((len(X), len(coef)))
    for k in range(len(coef)):
        residual = Y - intercept[k] - X @ coef[k].T
        log_prob[:, k] = log_gate[:, k] + multivariate_normal(np.zeros(Y.shape[1]), noise[k]).logpdf(residual)
    total = logsumexp(log_prob, axis=1)
    return total, np.exp(log_prob - total[:, None])


@pytest.fixture(scope="module")
def lines():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(1500, 2)) + 3
    line = rng.integers(3, size=1500)
    slopes = np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -2.0]])
    y = np.array([0.0, 4.0, 8.0])[line] + (X * slopes[line]).sum(axis=1) + rng.normal(0, [0.1, 0.3, 0.2]).T[line]
    return X, y + rng.normal(0, 0.2, 1500), line, slopes


@pytest.mark.parametrize("gate", ["constant", "softmax"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_answers_are_the_definitions(lines, gate, n_outputs):
    X, y = lines[:2]
    Y = np.column_stack([y, y**2 / 10])[:, :n_outputs]
    model = MixtureOfLinearRegressions(3, gate=gate, random_state=0, max_iter=60, n_init=3)
    with quiet():
        model.fit(X, Y)
    log_prob, resp = slow_pass(X, Y, model)
    assert model.log_likelihood_ == pytest.approx(log_prob.sum(), rel=1e-10)
    np.testing.assert_allclose(model.log_prob(X, Y), log_prob, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(model.component_proba(X, Y), resp, atol=1e-9)
    gates = softmax(model.gate_intercept_ + X @ model.gate_coef_.T, axis=1)
    np.testing.assert_allclose(model.component_proba(X), gates, atol=1e-12)
    each = model.intercept_[None] + np.einsum("keD,nD->nke", model.coef_, X)
    np.testing.assert_allclose(model.predict(X), np.einsum("nk,nke->ne", gates, each), rtol=1e-9)


def test_crossing_lines_are_found(lines):
    X, y, line, slopes = lines
    model = MixtureOfLinearRegressions(3, random_state=0).fit(X, y)
    order = [int(np.argmin(((model.coef_ - slope) ** 2).sum(axis=1))) for slope in slopes]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(model.coef_[order], slopes, atol=0.05)
    assert (np.array(order)[line] == model.predict_component(X, y)).mean() > 0.9


def test_the_likelihood_never_falls(lines):
    for settings in (
        {},
        {"gate": "softmax"},
        {"noise": "shared"},
        {"weights": "equal"},
        {"hard_assignment": False, "alpha": 0.0},
    ):
        model = MixtureOfLinearRegressions(3, random_state=1, max_iter=80, tol=0.0, n_init=1, **settings)
        with quiet():
            model.fit(*lines[:2])
        assert (np.diff(model.lower_bounds_) > -1e-11).all(), settings


def test_one_component_is_least_squares(lines):
    X, y = lines[:2]
    model, linear = MixtureOfLinearRegressions(1).fit(X, y), LinearRegression().fit(X, y)
    np.testing.assert_allclose(model.coef_[0], linear.coef_, rtol=1e-9)
    assert model.intercept_[0] == pytest.approx(linear.intercept_, rel=1e-9)
    assert model.noise_variance_[0] == pytest.approx(np.mean((y - linear.predict(X)) ** 2), rel=1e-9)


def test_known_labels_are_separate_regressions(lines):
    X, y, line, _ = lines
    with quiet():
        model = MixtureOfLinearRegressions(3, random_state=0).fit(X, y, labels=line)
    for k in range(3):
        linear = LinearRegression().fit(X[line == k], y[line == k])
        np.testing.assert_allclose(model.coef_[k], linear.coef_, rtol=1e-8)
    np.testing.assert_allclose(model.weights_, np.bincount(line) / len(line), rtol=1e-9)


def test_weights_are_repeated_rows(lines):
    X, y = lines[0][:300], lines[1][:300]
    weight = np.random.default_rng(0).integers(1, 4, size=300)
    line = lines[2][:300]
    start = np.where(np.arange(300) < 60, line, -1)
    weighted = converged(X, y, weight.astype(float), labels=np.minimum(start, 1), max_iter=50)
    repeated = converged(
        np.repeat(X, weight, axis=0), np.repeat(y, weight), labels=np.repeat(np.minimum(start, 1), weight), max_iter=50
    )
    # One random start is another's in another order of rows: compare what both converge to.
    assert weighted.log_likelihood_ == pytest.approx(repeated.log_likelihood_, rel=1e-6)


def test_an_affine_change_of_the_columns_changes_the_coefficients_alike(lines):
    X, y = lines[:2]
    plain = MixtureOfLinearRegressions(3, random_state=0, tol=1e-12, max_iter=3000).fit(X, y)
    other = X * [2.0, -5.0] + 1e4
    moved = MixtureOfLinearRegressions(3, random_state=0, tol=1e-12, max_iter=3000).fit(other, 10 * y - 7)
    back = moved.coef_ * [2.0, -5.0] / 10
    here, there = plain.coef_[np.argsort(plain.coef_[:, 0])], back[np.argsort(back[:, 0])]
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moved.predict(other), 10 * plain.predict(X) - 7, rtol=1e-5, atol=1e-4)


def test_options(lines):
    X, y = lines[:2]
    equal = MixtureOfLinearRegressions(3, weights="equal", random_state=0).fit(X, y)
    np.testing.assert_allclose(equal.component_proba(X[:1]), 1 / 3, rtol=1e-12)
    given = MixtureOfLinearRegressions(3, weights=[0.5, 0.3, 0.2], random_state=0).fit(X, y)
    np.testing.assert_allclose(given.component_proba(X[:1])[0], [0.5, 0.3, 0.2], rtol=1e-12)
    flat = MixtureOfLinearRegressions(3, alpha=1e9, random_state=0).fit(X, y)
    assert np.abs(flat.coef_).max() < 1e-3
    through = MixtureOfLinearRegressions(3, fit_intercept=False, random_state=0).fit(X, y)
    np.testing.assert_array_equal(through.intercept_, 0.0)
    fixed = np.full((3, 3), np.nan)
    fixed[0] = [0.0, 1.0, 2.0]
    held = MixtureOfLinearRegressions(3, fixed=fixed, random_state=0).fit(X, y)
    np.testing.assert_allclose(np.append(held.intercept_[0], held.coef_[0]), fixed[0], atol=1e-9)
    hard = MixtureOfLinearRegressions(3, hard_assignment=True, random_state=0).fit(X, y)
    best = hard.predict_component(X, y)
    for k in range(3):
        assert hard.coef_[k] == pytest.approx(LinearRegression().fit(X[best == k], y[best == k]).coef_, abs=0.05)


def test_files_threads_and_pieces_give_the_same_bits(lines, tmp_path):
    X, y = lines[:2]
    whole = MixtureOfLinearRegressions(3, random_state=0, n_jobs=1).fit(X, y)
    np.save(tmp_path / "rows.npy", np.column_stack([X, y]))
    named = MixtureOfLinearRegressions(3, random_state=0).fit(tmp_path / "rows.npy", 2)
    for name in ("coef_", "intercept_", "noise_variance_", "weights_"):
        np.testing.assert_array_equal(getattr(named, name), getattr(whole, name))
    np.testing.assert_array_equal(named.predict(X), whole.predict(X))


def test_workers_give_the_same_lines(lines):
    X, y = lines[:2]
    whole = MixtureOfLinearRegressions(3, random_state=0).fit(X, y)
    with ThreadPoolExecutor(2) as pool:
        spread = MixtureOfLinearRegressions(3, random_state=0).fit(X, y, executor=pool)
    np.testing.assert_allclose(spread.coef_, whole.coef_, rtol=1e-9)
    assert spread.log_likelihood_ == pytest.approx(whole.log_likelihood_, rel=1e-12)


def test_what_is_said_of_targets_follows_the_mixture(lines):
    X, y = lines[:2]
    model = MixtureOfLinearRegressions(3, random_state=0).fit(X, y)
    drawn = model.sample(X[:2], 30_000)
    mean, std = model.predict(X[:2], return_std=True)
    assert (np.abs(drawn.mean(axis=1) - mean) < 5 * std / np.sqrt(30_000)).all()
    share = (drawn < model.predict_quantiles(X[:2], [0.3])).mean(axis=1)
    assert (np.abs(share - 0.3) < 5 * np.sqrt(0.21 / 30_000)).all()
    mode = model.predict(X[:2], kind="mode")
    assert (model.log_prob(X[:2], mode) >= model.log_prob(X[:2], drawn[:, 0])).all()
    assert model.score(X, y) < 1


def test_what_is_wrong_is_named(lines, tmp_path):
    X, y = lines[:2]
    rows = np.column_stack([X, y])
    rows[7, 1] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(ValueError, match=r"NaN \(first at row 7.*column 1"):
        MixtureOfLinearRegressions().fit(tmp_path / "rows.npy", 2)
    with pytest.raises(ValueError, match="gate"):
        MixtureOfLinearRegressions(gate="soft").fit(X, y)
    with pytest.raises(ValueError, match="cannot be held where gate='softmax'"):
        MixtureOfLinearRegressions(gate="softmax", weights=[0.5, 0.5]).fit(X, y)
    with pytest.raises(ValueError, match=r"fixed must have shape \(2, 1, 3\)"):
        MixtureOfLinearRegressions(fixed=np.zeros((2, 2))).fit(X, y)
    with pytest.raises(ValueError, match="labels must lie between -1 and 1, got 0 to 2"):
        MixtureOfLinearRegressions().fit(X, y, labels=lines[2])
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        MixtureOfLinearRegressions(max_iter=1).fit(X, y)
