"""Some columns of a mixture given others or linear evidence: against the textbook, and the laws of probability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture
from fastgmm.representation.scaling import Standardisation
from fastgmm.threads import thread_limit
from tests import reference_conditioning as slow

D, K = 5, 4
KINDS = ("full", "tied", "diag", "spherical", "factors", "standardised", "standardised factors")


def parameters(seed, n_features=D, n_components=K):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_components, n_features, n_features))
    covariances = roots @ roots.transpose(0, 2, 1) / n_features + 0.2 * np.eye(n_features)
    return rng.dirichlet(np.full(n_components, 3.0)), 2 * rng.normal(size=(n_components, n_features)), covariances


def mixture(kind, seed=0, offset=0.0):
    weights, means, covariances = parameters(seed)
    rng = np.random.default_rng(seed + 1)
    means = means + offset
    if kind.startswith("standardised"):
        standardisation = Standardisation()
        standardisation.mean_, standardisation.scale_ = rng.normal(size=D), rng.uniform(0.5, 3.0, size=D)
        standardisation.n_features_in_ = D
        inner = mixture("factors" if kind.endswith("factors") else "full", seed)
        return StandardisedMixture(inner, standardisation)
    if kind == "factors":
        loadings, noise = rng.normal(size=(K, D, 2)), rng.uniform(0.2, 1.0, size=(K, D))
        return MixtureOfFactorAnalyzers.from_parameters(weights, means, loadings, noise, random_state=0)
    arrays = {
        "full": covariances,
        "tied": covariances[0],
        "diag": np.einsum("kdd->kd", covariances),
        "spherical": covariances[:, 0, 0],
    }[kind]
    return GaussianMixture.from_parameters(weights, means, arrays, kind, random_state=0)


def dense(model):
    found = model._density().gaussians()
    return found.weights, found.means, found.covariances


@pytest.fixture(params=KINDS)
def model(request):
    return mixture(request.param)


SPLITS = [([0, 1, 2], [3, 4]), ([3, 1], [4, 0, 2]), ([4], [1]), ([2, 0, 1, 4], [3])]


@pytest.mark.parametrize(("columns", "wanted"), SPLITS)
def test_every_answer_is_the_textbooks(model, columns, wanted):
    rows = model.sample(30)[0]
    X, Y = rows[:, columns], rows[:, wanted]
    asked = model.conditional(columns, wanted)
    answers = asked.mean(X), asked.std(X), asked.covariance(X), asked.log_prob(X, Y), asked.predict_proba(X)
    for i, (mean, std, covariance, log_prob, resp) in enumerate(zip(*answers, strict=True)):
        weights, means, covariances = slow.condition(*dense(model), columns, X[i], wanted)
        expected, spread = slow.moments(weights, means, covariances)
        np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(covariance, spread, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(std, np.sqrt(np.diagonal(spread)), rtol=1e-9)
        np.testing.assert_allclose(log_prob, slow.log_density(weights, means, covariances, Y[i]), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(resp, weights, atol=1e-10)


@pytest.mark.parametrize(("columns", "wanted"), SPLITS)
def test_quantiles_are_the_textbooks_far_into_the_tails(model, columns, wanted):
    X = model.sample(4)[0][:, columns]
    probabilities = np.array([1e-300, 1e-12, 0.03, 0.5, 0.8, 1 - 1e-12])
    found = model.conditional(columns, wanted).quantile(X, probabilities)
    assert found.shape == (4, len(wanted), len(probabilities))
    for i in range(len(X)):
        weights, means, covariances = slow.condition(*dense(model), columns, X[i], wanted)
        for w in range(len(wanted)):
            deviations = np.sqrt(covariances[:, w, w])
            expected = [slow.quantile(weights, means[:, w], deviations, p) for p in probabilities]
            np.testing.assert_allclose(found[i, w], expected, rtol=1e-9, atol=1e-9)


def test_a_condition_is_the_textbooks_and_a_model_of_its_kind(model, tmp_path):
    columns, wanted, values = [3, 1], [0, 2, 4], np.array([0.4, -1.0])
    left = model.condition(columns, values)
    assert type(left) is type(model)
    for ours, theirs in zip(dense(left), slow.condition(*dense(model), columns, values, wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    left.save(tmp_path / "left.safetensors")
    again = fastgmm.load(tmp_path / "left.safetensors")
    X = left.sample(20)[0]
    np.testing.assert_array_equal(again.score_samples(X), left.score_samples(X))


def test_covariance_types_stay_what_they_are():
    for kind in ("full", "tied", "diag", "spherical"):
        assert mixture(kind).condition([0], [1.0]).covariance_type == kind
        assert mixture(kind).marginal([2, 0]).covariance_type == kind
    left = mixture("factors").condition([0, 1, 2, 3], np.zeros(4))
    assert isinstance(left, MixtureOfFactorAnalyzers)
    assert left.loadings_.shape == (K, 1, 1)  # two factors of one column are one


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.permutations(range(D)), st.integers(1, D - 1), st.integers(0, 2**31))
def test_marginal_times_condition_is_the_joint(kind, order, n_given, seed):
    model = mixture(kind, seed % 5)
    rows = np.random.default_rng(seed).normal(scale=3.0, size=(6, D))
    columns, wanted = list(order[:n_given]), list(order[n_given:])
    parts = model.marginal(columns).score_samples(rows[:, columns])
    parts = parts + model.conditional(columns, wanted).log_prob(rows[:, columns], rows[:, wanted])
    np.testing.assert_allclose(parts, model.score_samples(rows), rtol=1e-11, atol=1e-11)
    one = model.condition(columns, rows[0, columns])
    at_one = one.score_samples(rows[:1][:, sorted(wanted)])
    np.testing.assert_allclose(at_one, parts[0] - model.marginal(columns).score_samples(rows[:1, columns]), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.permutations(range(D)), st.integers(0, 2**31))
def test_two_conditions_are_one_and_marginals_commute(kind, order, seed):
    model = mixture(kind, seed % 5)
    a, b = order[0], order[1]
    values = np.random.default_rng(seed).normal(size=2)
    at_once = model.condition([a, b], values)
    rest = [column for column in range(D) if column != a]
    in_turn = model.condition([a], values[:1]).condition([rest.index(b)], values[1:])
    for ours, theirs in zip(dense(at_once), dense(in_turn), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    last = at_once.marginal([2, 0])
    kept = sorted(set(range(D)) - {a, b})
    before = model.marginal([kept[2], kept[0], b, a]).condition([3, 2], values)
    for ours, theirs in zip(dense(last), dense(before), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_the_mean_of_conditional_means_is_the_mean(model):
    rows = model.sample(200_000)[0]
    found = model.conditional([0, 3]).mean(rows[:, [0, 3]])
    error = rows[:, [1, 2, 4]].std(axis=0) / np.sqrt(len(rows))
    weights, means, _ = dense(model)
    assert (np.abs(found.mean(axis=0) - (weights @ means)[[1, 2, 4]]) < 5 * error).all()


# ---- linear evidence ----


@pytest.mark.parametrize("noise", [None, 0.3, [0.1, 2.0], [[0.5, 0.2], [0.2, 0.3]]])
def test_linear_evidence_is_the_textbooks(model, noise):
    A, values = np.array([[1.0, 1.0, 0.0, 0.0, -0.5], [0.0, 0.0, 1.0, 2.0, 0.0]]), np.array([0.7, -1.2])
    R = np.zeros((2, 2)) if noise is None else np.diag(np.broadcast_to(noise, 2)) if np.ndim(noise) < 2 else noise
    wanted = [0, 3, 1] if noise is None else [2, 0, 1, 4, 3]
    found = model.given(A, values, noise, wanted)
    expected = slow.evidence(*dense(model), A, values, np.asarray(R, float), wanted)
    for ours, theirs in zip(dense(found), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_given_columns_are_evidence_that_selects_them(model):
    values = np.array([1.5, 0.0])
    found = model.given(np.eye(D)[[4, 2]], values, columns=[0, 1, 3])
    for ours, theirs in zip(dense(found), dense(model.condition([4, 2], values)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_evidence_that_says_nothing_changes_nothing(model):
    found = model.given(np.ones((1, D)), [3.0], noise=1e14)
    for ours, theirs in zip(dense(found), dense(model), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_shared_covariances_stay_shared_under_evidence():
    found = mixture("tied").given(np.ones((1, D)), [3.0], noise=0.5)
    assert (found.covariance_type, found.covariances_.shape) == ("tied", (D, D))


def test_what_evidence_determines_is_named():
    model = mixture("full")
    model.feature_names_in_ = np.array(list("abcde"), dtype=object)
    with pytest.raises(ValueError, match=r"determines column 1 \('b'\).*Leave it out of columns=.*noise="):
        model.given([[1, 1, 0, 0, 0]], [2.0], columns=["a", "b"])
    with pytest.raises(ValueError, match="repeats itself"):
        model.given([[1, 1, 0, 0, 0], [2, 2, 0, 0, 0]], [2.0, 4.0], columns=["a"])
    with pytest.raises(ValueError, match="determines column 0"):
        model.given(np.eye(D), np.zeros(D))


# ---- draws and modes ----


def test_draws_follow_the_conditional(model):
    columns, wanted = [3, 1], [4, 0, 2]
    X = model.sample(2)[0][:, columns]
    asked = model.conditional(columns, wanted)
    drawn, mean, std = asked.sample(X, 40_000), asked.mean(X), asked.std(X)
    assert drawn.shape == (2, 40_000, 3)
    assert (np.abs(drawn.mean(axis=1) - mean) < 5 * std / 200).all()
    low, high = asked.quantile(X, [0.2, 0.9]).transpose(2, 0, 1)
    for quantile, p in ((low, 0.2), (high, 0.9)):
        share = (drawn < quantile[:, None]).mean(axis=1)
        assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 40_000)).all()


def test_a_rows_draws_are_its_own_for_any_threads(model):
    X = model.sample(700)[0][:, :2]
    asked = model.conditional([0, 1])
    whole = asked.sample(X, 3)
    np.testing.assert_array_equal(asked.sample(X[:200], 3), whole[:200])
    model.n_jobs = 1
    np.testing.assert_array_equal(model.conditional([0, 1]).sample(X, 3), whole)


def test_modes_are_where_no_other_place_is_denser(model):
    columns, wanted = [0, 1, 2], [3, 4]
    X = model.sample(6)[0][:, columns]
    asked = model.conditional(columns, wanted)
    modes = asked.mode(X)
    for x, mode, draws in zip(X, modes, asked.sample(X, 500), strict=True):
        left = model.condition(columns, x)
        best = left.score_samples(mode[None])[0]
        assert best >= left.score_samples(draws).max()
        polished = minimize(lambda y, at=left: -at.score_samples(y[None])[0], mode, options={"gtol": 1e-9})
        assert best >= -polished.fun - 1e-12
        np.testing.assert_allclose(mode, polished.x, atol=1e-5)


# ---- numbers that are hard ----


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_common_offset_costs_no_digits(kind):
    near, far = mixture(kind), mixture(kind, offset=1e8)
    X = near.sample(50)[0][:, :3]
    np.testing.assert_allclose(
        far.conditional([0, 1, 2]).mean(X + 1e8) - 1e8, near.conditional([0, 1, 2]).mean(X), atol=2e-6
    )


def test_values_far_from_everything_give_finite_answers(model):
    X = np.full((3, 3), [[1e3], [-1e5], [1e9]])
    asked = model.conditional([0, 1, 2])
    for answer in (
        asked.mean(X),
        asked.std(X),
        asked.quantile(X, 0.3),
        asked.log_prob(X, asked.mean(X)),
        asked.mode(X),
    ):
        assert np.isfinite(answer).all()
    np.testing.assert_allclose(asked.predict_proba(X).sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(dense(model.condition([0, 1, 2], X[2]))[1]).all()


def test_one_component_is_least_squares():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3)) + 5
    Y = X @ rng.normal(size=(3, 2)) + rng.normal(size=(400, 2))
    fitted = GaussianMixture(1, reg_covar=0).fit(np.hstack([X, Y]))
    slopes = np.linalg.lstsq(np.column_stack([np.ones(400), X]), Y, rcond=None)[0]
    expected = np.column_stack([np.ones(400), X]) @ slopes
    np.testing.assert_allclose(fitted.conditional([0, 1, 2]).mean(X), expected, rtol=1e-9, atol=1e-9)


# ---- gaps, files, noise, Bayesian mixtures ----


def test_every_row_may_want_other_columns():
    model = mixture("full").set_params(missing="em")
    rows = model.sample(60)[0]
    X = rows.copy()
    X[np.random.default_rng(0).random(X.shape) < 0.4] = np.nan
    X[5], X[6] = np.nan, rows[6]
    asked = model.conditional()
    mean, std, middle = asked.mean(X), asked.std(X), asked.quantile(X, 0.5)
    for x, m, s, q in zip(X, mean, std, middle, strict=True):
        have, want = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
        np.testing.assert_array_equal(m[have], x[have])
        np.testing.assert_array_equal(q[have], x[have])
        assert not s[have].any()
        if len(want) and len(have):
            weights, means, covariances = slow.condition(*dense(model), have, x[have], want)
            expected, spread = slow.moments(weights, means, covariances)
            np.testing.assert_allclose(m[want], expected, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(s[want], np.sqrt(np.diagonal(spread)), rtol=1e-9)
    np.testing.assert_allclose(mean[5], dense(model)[0] @ dense(model)[1], rtol=1e-12)
    np.testing.assert_allclose(mean, model.impute(X), rtol=1e-9, atol=1e-9)


def test_files_answer_as_arrays_do(tmp_path):
    model = mixture("full")
    X = np.ascontiguousarray(model.sample(5000)[0][:, :3])
    np.save(tmp_path / "X.npy", X)
    asked = model.conditional([0, 1, 2])
    for method in ("mean", "std", "sample", "predict_proba"):
        np.testing.assert_array_equal(getattr(asked, method)(tmp_path / "X.npy"), getattr(asked, method)(X))


def test_noise_stays_noise_and_is_impossible_outside_its_box():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (900, 3)), rng.uniform(-20, 20, (100, 3))])
    model = GaussianMixture(1, noise=True, random_state=0).fit(X)
    inside, outside = model.condition([0], [15.0]), model.condition([0], [1000.0])
    log_joint = np.log(model.noise_weight_) - np.log(np.diff(model.noise_bounds_, axis=0)).sum()
    log_wanted = -np.log(np.diff(model.noise_bounds_[:, 1:], axis=0)).sum()
    at = norm(model.means_[0, 0], np.sqrt(model.covariances_[0, 0, 0])).logpdf(15.0) + np.log(model.weights_[0])
    share = 1 / (1 + np.exp(at - (log_joint - log_wanted)))
    assert inside.noise_weight_ == pytest.approx(share, rel=1e-9)
    assert inside.noise_weight_ + inside.weights_.sum() == pytest.approx(1)
    assert outside.noise_weight_ == 0
    np.testing.assert_array_equal(inside.noise_bounds_, model.noise_bounds_[:, 1:])
    with pytest.raises(ValueError, match="noise component"):
        model.given([[1, 1, 0]], [2.0], noise=1.0)


def test_a_bayesian_mixture_answers_as_what_it_draws_from(blobs):
    model = BayesianGaussianMixture(n_components=4, random_state=0).fit(blobs[0])
    left = model.condition([0], [0.5])
    assert type(left) is GaussianMixture
    expected = slow.condition(*dense(model), [0], np.array([0.5]), list(range(1, blobs[0].shape[1])))
    for ours, theirs in zip(dense(left), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_names_and_settings_stay():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(mixture("full").sample(300)[0], columns=list("abcde"))
    model = GaussianMixture(2, random_state=3, n_jobs=1, missing="em").fit(frame)
    left = model.condition({"b": 0.2, "a": 1.0})
    assert left.feature_names_in_.tolist() == ["c", "d", "e"]
    assert (left.random_state, left.n_jobs, left.missing) == (3, 1, "em")
    assert model.marginal(["e", "a"]).feature_names_in_.tolist() == ["e", "a"]
    np.testing.assert_array_equal(
        model.conditional(["a", "b"]).mean(frame[["a", "b"]]), model.conditional([0, 1]).mean(frame[["a", "b"]].values)
    )
    with pytest.raises(ValueError, match=r"must be \['a', 'b'\], in this order"):
        model.conditional(["a", "b"]).mean(fastgmm.open_source(frame[["b", "a"]]))


# ---- what is wrong is named ----


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.marginal([5]), "columns: the mixture has no column 5; it has 5, from 0 on"),
        (lambda m: m.marginal(["a"]), "no column 'a'; the fit knew no names"),
        (lambda m: m.marginal([]), "at least one column"),
        (lambda m: m.marginal([1, -4]), "different ones"),
        (lambda m: m.marginal([True]), "numbers or names of columns, got True"),
        (lambda m: m.condition(range(5), np.zeros(5)), "all columns are given"),
        (lambda m: m.condition([0, 1], [1.0]), "values must be 2 finite numbers"),
        (lambda m: m.condition([0], [np.nan]), "values must be 1 finite numbers"),
        (lambda m: m.given([[1, 0]], [1.0]), r"shape \(n_evidence, 5\)"),
        (lambda m: m.given(np.ones((1, 5)), [1.0], noise=-1.0), "noise must be a variance"),
        (lambda m: m.conditional([0], [0, 1]), "none of those that are given"),
        (lambda m: m.conditional(wanted=[0]), "wanted needs columns"),
        (lambda m: m.conditional([0]).mean(np.zeros((3, 2))), "X has 2 columns, but 1 are given"),
        (lambda m: m.conditional([0]).mean([[0.0], [np.inf]]), "infinity"),
        (lambda m: m.conditional([0]).mean([[0.0], [np.nan]]), "NaN"),
        (lambda m: m.conditional([0]).quantile([[0.0]], 1.5), "between 0 and 1"),
        (lambda m: m.conditional([0]).log_prob([[0.0]], [[0.0]]), r"Y must be finite and of shape \(1, 4\)"),
        (lambda m: m.conditional([0]).sample([[0.0]], 0), "at least 1"),
        (lambda m: m.conditional().sample([[0.0] * 5]), "needs the columns that are given"),
        (lambda m: GaussianMixture(2).marginal([0]), "not fitted"),
    ],
)
def test_what_is_wrong_is_named(ask, message):
    with pytest.raises(ValueError, match=message), thread_limit(1):
        ask(mixture("full"))
