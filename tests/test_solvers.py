"""Hard, annealed and stepwise EM, streams, and gradient ascent."""

from __future__ import annotations

import ast
import warnings
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from fastgmm import ConjugatePrior, GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning, EmptyComponentWarning
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.maximisation import FixedParameters, Maximiser
from fastgmm.model.parameters import MixtureParameters, UniformNoise
from fastgmm.optimization.gradient import SCHEDULES, Chart, Coordinates
from fastgmm.optimization.hard_em import tempered
from fastgmm.optimization.solvers import ACCELERATIONS, SOLVERS
from fastgmm.rows.source import ArraySource
from tests import reference
from tests.conftest import ROOT

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")


def quietly(model, X, **data):
    """Fit without the warning that few iterations do not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **data)


def start_of(mixture, noise=None):
    structure = STRUCTURES[mixture.covariance_type]
    weights = mixture.weights * (1.0 if noise is None else 1 - noise.weight)
    factors = structure.cholesky(mixture.covariances)
    return MixtureParameters(weights, mixture.means, factors, mixture.covariance_type, mixture.covariances, noise=noise)


# ---- hard and annealed EM ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_hard_em_is_classification_em(covariance_type, dtype, blobs):
    X = blobs[0].astype(dtype)
    model = quietly(
        GaussianMixture(
            3, covariance_type=covariance_type, solver="hard", init_params=blobs[1], tol=0, max_iter=6, reg_covar=1e-3
        ),
        X,
    )
    mixture, bounds = reference.m_step(X, reference.one_hot(blobs[1]), covariance_type, 1e-3), []
    for _ in range(6):
        log_prob = reference.log_gaussian_prob(X.astype(np.float64), mixture) + np.log(mixture.weights)
        bounds.append(log_prob.max(axis=1).mean())
        mixture = reference.m_step(X, np.eye(3)[log_prob.argmax(axis=1)], covariance_type, 1e-3)
    tolerance = 1e-9 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(model.lower_bounds_, bounds, atol=tolerance)
    np.testing.assert_allclose(model.means_, mixture.means, atol=tolerance)
    np.testing.assert_allclose(model.covariances_, mixture.covariances, atol=10 * tolerance)


def test_hard_em_ends_and_plain_em_can_go_on_from_it(covariance_type, blobs):
    settings = {"covariance_type": covariance_type, "random_state": 0, "reg_covar": 0, "max_iter": 500, "tol": 1e-9}
    hard = GaussianMixture(3, solver="hard", **settings).fit(blobs[0])
    assert hard.converged_
    assert np.diff(hard.lower_bounds_).min() >= -1e-12
    polished = GaussianMixture(3, solver="hard", solver_options={"polish": True}, **settings).fit(blobs[0])
    plain = GaussianMixture(3, **settings).fit(blobs[0])
    assert polished.n_iter_ > hard.n_iter_
    assert polished.log_likelihood_ == pytest.approx(plain.log_likelihood_, abs=1e-4)
    assert polished.log_likelihood_ > hard.log_likelihood_


def test_tempered_densities_are_powers(covariance_type, blobs):
    X = blobs[0][:50]
    mixture = reference.m_step(*blobs[:1], reference.one_hot(blobs[1]), covariance_type)
    noise = UniformNoise(0.2, np.stack([X.min(axis=0) - 1, X.max(axis=0) + 1]))
    source = ArraySource(X)
    statistics = StatisticsPass(source, X.mean(axis=0))(tempered(start_of(mixture, noise), 0.3))
    log_prob = reference.log_gaussian_prob(X, mixture) + np.log(0.8 * mixture.weights)
    log_prob = np.column_stack([log_prob, np.full(len(X), noise.log_weighted_density)])
    resp = np.exp(0.3 * log_prob)
    assert statistics.log_likelihood == pytest.approx(np.log(resp.sum(axis=1)).sum(), abs=1e-9)
    resp /= resp.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(statistics.sum_resp, resp[:, :-1].sum(axis=0), atol=1e-9)
    assert statistics.noise_resp == pytest.approx(resp[:, -1].sum(), abs=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_out_of_range_are_an_error_for_every_solver(solver):
    """Squared distances that overflow float32 from every component."""
    X = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    X[3] = 1e25
    start = {"means_init": np.zeros((1, 2)), "weights_init": [1.0], "precisions_init": [np.eye(2)]}
    with pytest.raises(ValueError, match="so far from every component"):
        GaussianMixture(1, solver=solver, **start).fit(X)


def test_annealing_escapes_bad_starts(covariance_type):
    """Means that all begin near the centre of the data: annealed EM ends higher on average over twelve problems."""
    ends = {"em": [], "annealed": []}
    for seed in range(12):
        X = make_mixture(1500, 2, 6, separation=6.0, covariance_type=covariance_type, random_state=seed).X
        means = X.mean(axis=0) + 0.3 * X.std(axis=0) * np.random.default_rng(seed).normal(size=(6, 2))
        for solver, found in ends.items():
            model = GaussianMixture(6, covariance_type=covariance_type, solver=solver, init_params=means,
                                    max_iter=1000, tol=1e-5, on_singular="regularize", random_state=seed)  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EmptyComponentWarning)  # some means begin far from all rows
                found.append(quietly(model, X).score(X))
    assert np.mean(ends["annealed"]) > np.mean(ends["em"])


# ---- stepwise EM and streams ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_batch_of_all_rows_is_cappe_and_moulines(covariance_type, dtype, blobs):
    X = blobs[0].astype(dtype)
    options = {"batch_size": len(X), "passes": 3, "polish": False, "kappa": 0.7, "t0": 1.0}
    model = GaussianMixture(
        3, covariance_type=covariance_type, solver="stepwise", solver_options=options, init_params=blobs[1], reg_covar=0
    ).fit(X)
    X = X.astype(np.float64)
    mixture = reference.m_step(X, reference.one_hot(blobs[1]), covariance_type)
    weights, first = mixture.weights, mixture.weights[:, None] * mixture.means
    second = [w * (c + np.outer(m, m)) for w, c, m in
              zip(weights, reference.dense_covariances(mixture), mixture.means, strict=True)]  # fmt: skip
    for t in (1, 2, 3):
        step = (t + 1.0) ** -0.7
        resp = reference.predict_proba(X, mixture) / len(X)
        weights = (1 - step) * weights + step * resp.sum(axis=0)
        first = (1 - step) * first + step * resp.T @ X
        second = [(1 - step) * s + step * (resp[:, k] * X.T) @ X for k, s in enumerate(second)]
        means = first / weights[:, None]
        full = np.stack([s / w - np.outer(m, m) for s, w, m in zip(second, weights, means, strict=True)])
        diagonals = np.diagonal(full, axis1=1, axis2=2)
        covariances = {
            "full": full,
            "tied": np.tensordot(weights, full, 1),
            "diag": diagonals,
            "spherical": diagonals.mean(axis=1),
        }[covariance_type]
        mixture = reference.Mixture(weights, means, covariances, covariance_type)
    tolerance = 1e-9 if dtype == np.float64 else 1e-3
    assert model.stop_reason_ == "passes"
    np.testing.assert_allclose(model.weights_, mixture.weights, atol=tolerance)
    np.testing.assert_allclose(model.means_, mixture.means, atol=tolerance)
    np.testing.assert_allclose(model.covariances_, mixture.covariances, atol=tolerance)


def test_stepwise_polishes_into_an_em_maximum(covariance_type, blobs):
    settings = {"covariance_type": covariance_type, "random_state": 0, "max_iter": 1000, "tol": 1e-10, "reg_covar": 0}
    plain = GaussianMixture(3, **settings).fit(blobs[0])
    model = GaussianMixture(3, solver="stepwise", solver_options={"batch_size": 100}, **settings).fit(blobs[0])
    assert model.converged_
    assert model.score(blobs[0]) == pytest.approx(plain.score(blobs[0]), abs=1e-5)


@pytest.mark.slow
def test_one_pass_beats_em_and_five_are_near_sixty():
    """1,000,000 x 8, 12 overlapping components; `pytest -m slow -k sixty`."""
    problem = make_mixture(1_000_000, 8, 12, separation=1.5, random_state=0)
    common = {"random_state": 0, "tol": 0, "init_params": "random_from_data"}
    em = {n: quietly(GaussianMixture(12, max_iter=n, **common), problem.X).score(problem.X) for n in (1, 60)}
    stepwise = {}
    for passes in (1, 5):
        options = {"passes": passes, "polish": False}
        model = GaussianMixture(12, solver="stepwise", solver_options=options, max_iter=passes, **common)
        stepwise[passes] = model.fit(problem.X).score(problem.X)
    print("EM", em, "stepwise", stepwise)
    assert stepwise[1] > em[1]
    assert stepwise[5] > em[60] - 0.1


@pytest.mark.parametrize("weights", [None, "some"])
def test_partial_fit_is_stepwise_em_carried_over(covariance_type, weights, blobs):
    """Pieces in one call, cut by batch_size, or in a call each: the same bits."""
    X = blobs[0]
    weight = None if weights is None else np.random.default_rng(0).uniform(0.5, 2, len(X))
    options = {"batch_size": 200}

    def model():
        return GaussianMixture(3, covariance_type=covariance_type, solver="stepwise", solver_options=options,
                               random_state=0)  # fmt: skip

    whole, pieces = model(), model()
    first = None if weight is None else weight[:200]
    for each in (whole, pieces):
        each.partial_fit(X[:200], sample_weight=first)
    whole.partial_fit(X[200:], sample_weight=None if weight is None else weight[200:])
    for start in (200, 400):
        part = slice(start, start + 200)
        pieces.partial_fit(X[part], sample_weight=None if weight is None else weight[part])
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(pieces, name))
    assert pieces.n_iter_ == 3
    assert whole.fit(X).stop_reason_ == "converged"


def test_partial_fit_follows_a_drifting_stream():
    """Means that move by 0.01 per batch are tracked within 0.4 standard deviations; without forgetting, lost."""
    rng = np.random.default_rng(0)
    means = np.array([[-3.0, 0.0], [3.0, 0.0]])
    errors = {}
    for forgetting in (0.0, 0.1):
        model = GaussianMixture(
            2, solver="stepwise", solver_options={"forgetting": forgetting, "kappa": 1.0}, random_state=0
        )
        for batch in range(300):
            now = means + np.array([0.0, 0.01 * batch])
            model.partial_fit(now[rng.integers(2, size=500)] + rng.normal(size=(500, 2)))
        order = np.argsort(model.means_[:, 0])
        errors[forgetting] = np.abs(model.means_[order] - now).max()
    assert errors[0.1] < 0.4
    assert errors[0.0] > 1.0


def test_a_stream_goes_on_from_a_fit(blobs):
    """Rows of the same kind hardly move a fit whose rows count as many batches; float32 stays float32."""
    X = blobs[0].astype(np.float32)
    model = GaussianMixture(3, random_state=0, solver="stepwise", solver_options={"batch_size": 10}).fit(X)
    before = model.means_.copy()
    model.partial_fit(X[:10])
    assert 0 < np.abs(model.means_ - before).max() < 0.5
    assert model.n_iter_ == 61
    assert model.partial_fit(X[10:20]).means_.dtype == np.float32


def test_a_pickled_stream_goes_on(blobs):
    import pickle

    model = GaussianMixture(2, random_state=0).partial_fit(blobs[0][:300])
    copy = pickle.loads(pickle.dumps(model))
    for each in (model, copy):
        each.partial_fit(blobs[0][300:])
    np.testing.assert_array_equal(model.means_, copy.means_)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(np.zeros((3, 2)))


# ---- gradient ascent ----


def gradient_problem(covariance_type, blobs, kind):
    X = blobs[0][:120]
    mixture = reference.m_step(*blobs[:1], reference.one_hot(blobs[1]), covariance_type, 0.3)
    prior = ConjugatePrior(2.0, 0.5, degrees_of_freedom=6.0).resolved(
        covariance_type, 3, X.mean(axis=0), X.var(axis=0), lambda: np.cov(X.T)
    )
    bounds = np.stack([X.min(axis=0) - 1, X.max(axis=0) + 1])
    fixed = FixedParameters(
        np.array([0.2, np.nan, np.nan]), np.where(np.arange(3)[:, None] == 1, mixture.means, np.nan), None
    )
    settings = {
        "plain": {},
        "prior": {"prior": prior},
        "noise": {"noise_bounds": bounds},
        "fixed": {"fixed": fixed},
        "equal": {"fixed": FixedParameters(equal_weights=True)},
    }[kind]
    maximise = Maximiser(covariance_type, 0.0, X.var(axis=0), **settings)
    start = start_of(mixture, UniformNoise(0.1, bounds) if kind == "noise" else None)
    return X, maximise, maximise.hold(start)


@pytest.mark.parametrize("kind", ["plain", "prior", "noise", "fixed", "equal"])
def test_the_gradient_is_that_of_finite_differences(covariance_type, kind, blobs):
    X, maximise, start = gradient_problem(covariance_type, blobs, kind)
    source = ArraySource(X)
    expectation = StatisticsPass(source, X.mean(axis=0))
    chart = Chart(maximise, X.mean(axis=0), X.std(axis=0), len(X))

    def objective(point):
        mixture = chart.mixture(point)
        return (expectation(mixture).log_likelihood + maximise.log_prior(mixture)) / len(X)

    point = chart.point(start)
    gradient = chart.gradient(start, expectation(start))
    for name in ("logits", "means", "log_diagonal", "upper"):
        values, slopes = getattr(point, name), getattr(gradient, name)
        assert values.shape == slopes.shape
        for index in np.ndindex(values.shape):
            if name == "upper" and index[-2] >= index[-1]:
                assert slopes[index] == 0
                continue
            h = 1e-5
            moved = []
            for sign in (1, -1):
                changed = values.copy()
                changed[index] += sign * h
                moved.append(objective(Coordinates(**{**point.__dict__, name: changed})))
            assert slopes[index] == pytest.approx((moved[0] - moved[1]) / (2 * h), abs=1e-6), (name, index)


def test_charts_go_there_and_back(covariance_type, blobs):
    X, maximise, start = gradient_problem(covariance_type, blobs, "noise")
    chart = Chart(maximise, X.mean(axis=0), X.std(axis=0), len(X))
    back = chart.mixture(chart.point(start))
    np.testing.assert_allclose(back.weights, start.weights)
    np.testing.assert_allclose(back.means, start.means)
    np.testing.assert_allclose(back.precisions_cholesky, start.precisions_cholesky, atol=1e-12)
    assert back.noise.weight == pytest.approx(0.1)


def test_gradient_ascent_reaches_em_on_digits():
    """scikit-learn's digits, 20 principal components, K = 10, full covariances, from k-means: 0.05 nats per row."""
    X = PCA(20, random_state=0).fit_transform(load_digits().data)
    em = GaussianMixture(10, random_state=0, max_iter=1000, tol=1e-7, reg_covar=0).fit(X)
    options = {"batch_size": 300, "learning_rate": 0.03}
    model = quietly(GaussianMixture(10, random_state=0, solver="gradient", solver_options=options, max_iter=300), X)
    print(f"EM {em.score(X):.4f} after {em.n_iter_} passes, gradient {model.score(X):.4f} after {model.n_iter_}")
    assert model.score(X) > em.score(X) - 0.05


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_every_optimizer_and_schedule_climbs(optimizer, schedule, blobs):
    options = {
        "optimizer": optimizer,
        "schedule": schedule,
        "batch_size": 200,
        "learning_rate": 0.02,
        "relative_tol": 0,
    }
    model = GaussianMixture(3, solver="gradient", solver_options=options, max_iter=25, init_params=blobs[1] * 0,
                            n_init=1, on_singular="raise", means_init=blobs[0][:3])  # fmt: skip
    model.set_params(weights_init=np.full(3, 1 / 3), precisions_init=np.tile(np.eye(3) * 0.3, (3, 1, 1)))
    quietly(model, blobs[0])
    assert model.n_iter_ == 25
    assert model.lower_bounds_[-1] > model.lower_bounds_[0] + 0.1


def test_schedules_decay():
    for name, schedule in SCHEDULES.items():
        rates = [schedule(float(t), 50, 0.1) for t in range(50)]
        assert rates[0] <= 1.0
        assert (np.diff(rates) <= 0).all(), name
        assert rates[-1] < 0.5 or name == "constant"


def test_gradient_stops_on_relative_change(blobs):
    options = {"relative_tol": 1e-3, "batch_size": 600}
    model = GaussianMixture(3, solver="gradient", solver_options=options, random_state=0, max_iter=200).fit(blobs[0])
    assert model.converged_
    bounds = model.lower_bounds_
    assert abs(bounds[-1] - bounds[-2]) < 1e-3 * abs(bounds[-1])
    assert model.n_iter_ < 200


# ---- what holds for all ----


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_laws_of_weights_hold_for_every_solver(solver, covariance_type, blobs):
    """A weight of 2 is the row twice, 0 the row absent, and a common factor changes nothing (one batch per pass)."""
    X = blobs[0][:300]
    rng = np.random.default_rng(0)
    repeats = rng.integers(0, 3, len(X))
    labels = blobs[1][:300]
    options = {"stepwise": {"batch_size": 10**6, "passes": 4}, "gradient": {"batch_size": 10**6}}.get(solver)

    def fit(rows, start, weight=None):
        model = GaussianMixture(3, covariance_type=covariance_type, solver=solver, solver_options=options, tol=0,
                                max_iter=12, init_params=start, random_state=0)  # fmt: skip
        return quietly(model, rows, sample_weight=weight)

    expected = fit(np.repeat(X, repeats, axis=0), np.repeat(labels, repeats))
    for factor in (1.0, 1e-3):
        weighted = fit(X, labels, repeats * factor)
        for name in PARAMETERS:
            np.testing.assert_allclose(getattr(weighted, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_threads_do_not_change_a_bit(solver, blobs):
    fits = [quietly(GaussianMixture(3, solver=solver, random_state=0, n_jobs=n, max_iter=8), blobs[0]) for n in (1, 2)]
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(fits[0], name), getattr(fits[1], name))


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        ("em", {"kappa": 1}, r"solver='em' takes none; got 'kappa'"),
        ("hard", {"beta": 1}, r"solver='hard' takes polish; got 'beta'"),
        ("stepwise", {"kappa": 0.4}, "'kappa'.*above 0.5"),
        ("gradient", {"schedule": "linear"}, "'schedule'.*one of"),
        ("gradient", {"learning_rate": 0}, "'learning_rate'.*above 0"),
        ("annealed", {"beta_start": 2}, "'beta_start'.*at most 1"),
    ],
)
def test_bad_options_are_named(solver, options, message, faithful):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, solver=solver, solver_options=options).fit(faithful)


# ---- the table ----


@pytest.mark.parametrize("name", SOLVERS)
def test_an_entry_says_what_its_solver_takes(name):
    """Every option has a test and words for it, and a default that passes."""
    solver = SOLVERS[name]
    assert solver.name == name
    assert is_dataclass(solver.options)
    defaults = solver.read_options(None)
    for field in fields(solver.options):
        constraint = field.metadata["constraint"]
        assert constraint.words
        assert constraint.accepts(getattr(defaults, field.name)), field.name
    given = {field.name: getattr(defaults, field.name) for field in fields(solver.options)}
    assert solver.read_options(given) == defaults


def test_the_parameters_offer_what_the_table_has():
    for parameter, values in (("solver", SOLVERS), ("acceleration", ACCELERATIONS)):
        with pytest.raises(ValueError, match=f"'{parameter}' parameter") as error:
            GaussianMixture(**{parameter: "none of them"}).fit(np.zeros((5, 2)))
        assert all(repr(value) in str(error.value) for value in values)


def compared_strings(node):
    """Strings that a node compares with, matches or looks up; no others."""
    if isinstance(node, ast.Compare | ast.MatchValue):
        return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    if isinstance(node, ast.Dict):
        return {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return set()


def test_solvers_are_told_apart_in_one_table_only():
    """'em' is a value of `missing` as well, so that it counts only beside the word solver."""
    found = []
    for path in sorted((ROOT / "fastgmm").rglob("*.py")):
        if path.name == "solvers.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            words = compared_strings(node) & set(SOLVERS)
            if words - {"em"} or (words and "solver" in ast.unparse(node)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
