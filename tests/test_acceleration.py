"""Accelerated EM: fewer passes, a likelihood that never falls, and plain EM untouched without it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning, EmptyComponentWarning, InvalidParameterError, RegularizationWarning
from fastgmm.model.covariance import STRUCTURES
from fastgmm.model.expectation import StatisticsPass
from fastgmm.model.maximisation import Maximiser
from fastgmm.model.parameters import MixtureParameters
from fastgmm.optimization import acceleration, problem
from fastgmm.optimization.acceleration import AcceleratedIteration
from fastgmm.rows.source import ArraySource
from fastgmm.rows.summary import summarise_columns
from tests.reference import COVARIANCE_TYPES
from tests.reference_acceleration import LocalCoordinates, quasi_newton_point, quasi_newton_step

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")
GAP = 1e-6  # nats per row


def rows(separation, covariance_type, seed, shape=(3000, 4, 5)):
    return make_mixture(*shape, separation=separation, covariance_type=covariance_type, random_state=seed).X


def fit(X, n_components, how, sample_weight=None, **settings):
    """Fit with or without acceleration; that a fit of few iterations does not converge is no matter here."""
    settings = {"random_state": 0, "max_iter": 3000, "n_jobs": 1, "init_params": "kmeans"} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(n_components, acceleration=how, **settings).fit(X, sample_weight=sample_weight)


def accepted(bounds):
    """The history without the passes that repeat a bound because their parameters were rejected."""
    bounds = np.asarray(bounds)
    return bounds[np.append(True, np.diff(bounds) != 0)]


# ---- what it is for ----


def test_at_most_half_the_passes_where_components_overlap(covariance_type):
    passes = {None: 0, "lbfgs": 0}
    for seed in range(4):
        X = rows(1.0, covariance_type, seed)
        plain = fit(X, 5, None, covariance_type=covariance_type, tol=1e-10)
        fast = fit(X, 5, "lbfgs", covariance_type=covariance_type, tol=1e-10)
        target = plain.lower_bound_ - GAP
        assert fast.lower_bound_ >= target
        for model in (plain, fast):
            passes[model.acceleration] += 1 + int(np.argmax(np.array(model.lower_bounds_) >= target))
    assert passes["lbfgs"] <= passes[None] / 2, passes


@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
def test_it_never_ends_below_plain_em_with_the_same_tol(covariance_type, tol, reg_covar):
    for separation in (0.7, 1.0, 1.5, 2.5, 4.0):
        for seed, shape in enumerate([(1500, 2, 3), (1500, 4, 6), (1500, 9, 4)]):
            X = rows(separation, covariance_type, seed, shape)
            settings = {"covariance_type": covariance_type, "tol": tol, "reg_covar": reg_covar}
            plain, fast = (fit(X, shape[2], how, **settings) for how in (None, "lbfgs"))
            assert fast.converged_
            assert fast.lower_bound_ >= plain.lower_bound_ - 1e-12
            assert fast.log_likelihood_ >= plain.log_likelihood_ - 1e-12 * len(X)


# The first iterations are plain EM's, so that the fall a ridge may cause there is left out (reg_covar=0).
@given(
    covariance_type=st.sampled_from(COVARIANCE_TYPES),
    separation=st.floats(0.5, 4.0),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.just(600), st.integers(1, 6), st.integers(2, 6)),
)
def test_the_likelihood_never_falls(covariance_type, separation, seed, shape):
    X = rows(separation, covariance_type, seed, shape)
    model = fit(X, shape[2], "lbfgs", covariance_type=covariance_type, tol=1e-7, reg_covar=0.0, max_iter=200)
    assert np.diff(model.lower_bounds_).min(initial=0.0) >= -1e-12 * max(1.0, abs(model.lower_bound_))
    assert model.log_likelihood_ / len(X) >= model.lower_bound_ - 1e-11 * max(1.0, abs(model.lower_bound_))
    assert model.n_iter_ == len(model.lower_bounds_) <= 200


# ---- safeguards ----


def spoil_means(mixture):
    return mixture.means + 100.0, mixture.precisions_cholesky


def spoil_factors(mixture):
    return mixture.means, np.full_like(mixture.precisions_cholesky, np.nan)


def collapse(mixture):
    return mixture.means, mixture.precisions_cholesky * 1e200


def flatten(mixture):
    return mixture.means, mixture.precisions_cholesky * 0.0


@pytest.mark.parametrize("spoil", [spoil_means, spoil_factors, collapse, flatten])
def test_bad_points_are_rejected_and_leave_plain_em(covariance_type, spoil, monkeypatch):
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)  # whose plain EM rounds differently

    def propose(self):
        mixture = self._history[-1][1]
        return MixtureParameters(mixture.weights, *spoil(mixture), mixture.covariance_type)

    X = rows(1.5, covariance_type, 0)
    settings = {"covariance_type": covariance_type, "tol": 0.0, "max_iter": 30}
    plain = fit(X, 5, None, **settings)
    monkeypatch.setattr(AcceleratedIteration, "_propose", propose)
    spoiled = fit(X, 5, "lbfgs", **settings)
    kept = accepted(spoiled.lower_bounds_)
    assert 5 < len(kept) < 29  # passes were spent on bad points, and all others were plain EM's
    np.testing.assert_array_equal(kept, plain.lower_bounds_[: len(kept)])
    plain = fit(X, 5, None, **settings | {"max_iter": len(kept)})
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(spoiled, name), getattr(plain, name), err_msg=name)


def test_a_fit_whose_points_are_all_rejected_converges_where_plain_em_does(monkeypatch):
    X = rows(1.5, "full", 0)
    plain = fit(X, 5, None, tol=1e-5)
    monkeypatch.setattr(AcceleratedIteration, "_propose", lambda self: None)
    assert fit(X, 5, "lbfgs", tol=1e-5).n_iter_ - plain.n_iter_ == acceleration.QUIET_PASSES - 1


def test_where_a_ridge_makes_em_fall_plain_em_goes_on_alone(covariance_type, monkeypatch):
    propose, proposals, changes = AcceleratedIteration._propose, [], []

    def count(self):
        proposals.append(len(changes))
        return propose(self)

    monkeypatch.setattr(AcceleratedIteration, "_propose", count)
    falls = 0
    for seed in range(6):
        proposals.clear()
        changes.clear()
        X = rows(1.5, covariance_type, seed)
        settings = {"covariance_type": covariance_type, "reg_covar": 0.05, "tol": 1e-7}
        with pytest.warns(RegularizationWarning):
            fit(X, 5, "lbfgs", callback=lambda info: changes.append(info.change), **settings)
        if not proposals:  # EM fell from the first step on
            continue
        fallen = [i for i, change in enumerate(changes) if change < -1e-11 and i > proposals[0]]
        falls += len(fallen)
        assert not fallen or proposals[-1] < fallen[0]
    assert falls


# ---- the arithmetic ----


def random_mixture(covariance_type, rng, n_components=3, n_features=4):
    structure = STRUCTURES[covariance_type]
    shape = structure.shape(n_components, n_features)
    factors = rng.uniform(0.5, 2.0, shape)
    if structure.is_matrix:
        factors = np.triu(rng.standard_normal(shape), 1) + np.eye(n_features) * factors
    weights = rng.dirichlet(np.full(n_components, 3.0))
    return MixtureParameters(weights, rng.standard_normal((n_components, n_features)), factors, covariance_type)


def of_reference(mixture):
    return mixture.weights, mixture.means, mixture.precisions_cholesky


def around(origin, rng, size):
    """A mixture a small step from `origin`, in coordinates drawn at random."""
    coordinates = LocalCoordinates(of_reference(origin), STRUCTURES[origin.covariance_type].is_matrix)
    n = len(coordinates.of(of_reference(origin)))
    weights, means, factors = coordinates.mixture(size / np.sqrt(n) * rng.standard_normal(n))
    return MixtureParameters(weights, means, factors, origin.covariance_type)


def test_the_reference_s_coordinates_name_every_mixture_and_lead_back(covariance_type):
    rng = np.random.default_rng(0)
    origin, mixture = (of_reference(random_mixture(covariance_type, rng)) for _ in range(2))
    coordinates = LocalCoordinates(origin, STRUCTURES[covariance_type].is_matrix)
    np.testing.assert_allclose(coordinates.of(origin), 0.0, atol=1e-14)
    for found, expected in zip(coordinates.mixture(coordinates.of(mixture)), mixture, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_half_the_squared_distance_is_the_divergence_of_the_complete_data(covariance_type):
    rng = np.random.default_rng(1)
    origin = random_mixture(covariance_type, rng)
    near = around(origin, rng, 1e-3)
    structure = STRUCTURES[covariance_type]
    step = LocalCoordinates(of_reference(origin), structure.is_matrix).of(of_reference(near))
    precisions = [
        np.broadcast_to(as_matrices(structure.precisions(m.precisions_cholesky), *m.means.shape), (3, 4, 4))
        for m in (origin, near)
    ]
    divergence = 0.0
    for k, weight in enumerate(origin.weights):
        offset = near.means[k] - origin.means[k]
        ratio = precisions[1][k] @ np.linalg.inv(precisions[0][k])
        gaussian = np.trace(ratio) - 4 - np.linalg.slogdet(ratio)[1] + offset @ precisions[1][k] @ offset
        divergence += weight * (np.log(weight / near.weights[k]) + gaussian / 2)
    assert step @ step / 2 == pytest.approx(divergence, rel=1e-2)


def as_matrices(values, n_components, n_features):
    if values.shape[-2:] == (n_features, n_features):
        return values
    return np.eye(n_features) * values.reshape(n_components, -1, 1)


def test_the_reference_s_step_solves_a_quadratic_problem():
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((6, 6))).Q
    information = (basis * np.geomspace(1e-2, 1.0, 6)) @ basis.T  # observed over complete: EM's rate is one minus it
    optimum, points = rng.standard_normal(6), [np.zeros(6)]
    for _ in range(40):
        steps = [information @ (optimum - point) for point in points]
        step = quasi_newton_step(np.array(points), np.array(steps))
        points.append(points[-1] + (steps[-1] if step is None else step))
    np.testing.assert_allclose(points[-1], optimum, atol=1e-9)
    error_of_em = np.linalg.matrix_power(np.eye(6) - information, 40) @ optimum
    assert np.linalg.norm(error_of_em) > 1e-2


def history_of(covariance_type, rng, length, n_components, n_features):
    """Points and their updates, near each other, as a fit has them; steps shrink where points move towards the end."""
    end = random_mixture(covariance_type, rng, n_components, n_features)
    points = [around(end, rng, 0.3 * 0.7**i) for i in range(length)]
    return [(point, around(point, rng, 0.05 * 0.7**i)) for i, point in enumerate(points)]


@pytest.mark.parametrize("length", [2, 3, 11])
@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (3, 4), (5, 2)])
def test_the_compiled_point_is_the_reference_s(covariance_type, length, n_components, n_features):
    is_matrix, found_some = STRUCTURES[covariance_type].is_matrix, 0
    for seed in range(6):
        history = history_of(covariance_type, np.random.default_rng(seed), length, n_components, n_features)
        weights = np.array([[mixture.weights for mixture in pair] for pair in history])
        alive = np.ones(n_components, bool)
        found, expected_gain = acceleration.quasi_newton_point(history, 7 * weights, alive)
        point, gain = quasi_newton_point(
            [tuple(map(of_reference, pair)) for pair in history], is_matrix, acceleration.RADIUS
        )
        assert (found is None) == (point is None)
        assert expected_gain == pytest.approx(gain, rel=1e-6)
        if found is not None:
            found_some += 1
            for value, expected in zip(of_reference(found), point, strict=True):
                np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-8)
    assert found_some


def test_components_without_rows_stay_and_the_others_do_not_notice(covariance_type):
    structure = STRUCTURES[covariance_type]
    if structure.pools_components:
        pytest.skip("the shared factor moves")
    moved = 0
    for seed in range(4):
        history = history_of(covariance_type, np.random.default_rng(seed), 5, 4, 3)
        weights = np.array([[mixture.weights for mixture in pair] for pair in history])
        alive = np.array([True, False, True, True])
        found, gain = acceleration.quasi_newton_point(history, weights * alive, alive)
        few = [
            tuple(
                MixtureParameters(
                    m.weights[alive] / m.weights[alive].sum(),
                    m.means[alive],
                    m.precisions_cholesky[alive],
                    covariance_type,
                )
                for m in pair
            )
            for pair in history
        ]
        weights = np.array([[mixture.weights for mixture in pair] for pair in few])
        alone, gain_alone = acceleration.quasi_newton_point(few, weights, np.ones(3, bool))
        assert gain == pytest.approx(gain_alone, rel=1e-12)
        assert (found is None) == (alone is None)
        if found is not None:
            moved += 1
            for value, expected in zip(of_reference(found), of_reference(alone), strict=True):
                np.testing.assert_allclose(value[alive], expected, rtol=1e-12, atol=1e-14)
            np.testing.assert_array_equal(found.means[1], history[-1][0].means[1])
            np.testing.assert_array_equal(found.precisions_cholesky[1], history[-1][0].precisions_cholesky[1])
    assert moved


def test_without_positive_curvature_there_is_no_point(covariance_type):
    rng = np.random.default_rng(4)
    here = random_mixture(covariance_type, rng)
    there = around(here, rng, 0.1)
    for history in ([(here, there)] * 2, [(here, here), (there, around(there, rng, 0.0))]):
        weights = np.array([[mixture.weights for mixture in pair] for pair in history])
        assert acceleration.quasi_newton_point(history, weights, np.ones(3, bool))[0] is None


def test_scaling_columns_by_powers_of_two_changes_no_step(covariance_type):
    if covariance_type == "spherical":
        pytest.skip("a spherical mixture has one scale for all columns")
    X = rows(1.5, covariance_type, 3)
    labels = np.random.default_rng(0).integers(0, 5, len(X))
    scale = 2.0 ** np.array([20, -20, 3, 0])
    settings = {"covariance_type": covariance_type, "reg_covar": 0.0, "tol": 0.0, "max_iter": 40}
    model, scaled = (fit(data, 5, "lbfgs", init_params=labels, **settings) for data in (X, X * scale))
    np.testing.assert_allclose(scaled.means_ / scale, model.means_, rtol=1e-6, atol=1e-6)
    shift = np.log(scale).sum()
    np.testing.assert_allclose(np.array(scaled.lower_bounds_) + shift, model.lower_bounds_, rtol=1e-8)


# ---- the estimator ----


def test_the_default_is_plain_em(covariance_type):
    X = rows(1.5, covariance_type, 1)
    model = fit(X, 5, None, covariance_type=covariance_type, tol=0.0, max_iter=6)
    start = fit(X, 5, None, covariance_type=covariance_type, max_iter=0)
    source = ArraySource(X)
    columns = summarise_columns(source, None)
    estimate = StatisticsPass(source, columns.mean)
    parameters = MixtureParameters(start.weights_, start.means_, start.precisions_cholesky_, covariance_type)
    for lower_bound in model.lower_bounds_:
        statistics = estimate(parameters)
        assert statistics.log_likelihood / statistics.sum_resp.sum() == pytest.approx(lower_bound, rel=1e-13)
        parameters = Maximiser(covariance_type, 1e-6, columns.variance)(statistics)
    np.testing.assert_allclose(model.means_, parameters.means, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(model.precisions_cholesky_, parameters.precisions_cholesky, rtol=1e-12, atol=1e-12)


def test_the_same_bits_again_and_for_any_number_of_threads(covariance_type):
    X = rows(1.0, covariance_type, 2)
    settings = {"covariance_type": covariance_type, "tol": 1e-8}
    first, *others = (fit(X, 5, "lbfgs", n_jobs=n_jobs, **settings) for n_jobs in (1, 1, 2))
    for other in others:
        assert other.lower_bounds_ == first.lower_bounds_
        for name in PARAMETERS:
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name), err_msg=name)


def test_a_weight_of_two_is_the_row_twice(covariance_type):
    X = rows(1.5, covariance_type, 4)
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    labels = np.random.default_rng(1).integers(0, 5, len(X))
    settings = {"covariance_type": covariance_type, "tol": 1e-11}
    weighted = fit(X, 5, "lbfgs", sample_weight=weight, init_params=labels, **settings)
    repeated = fit(np.repeat(X, weight, axis=0), 5, "lbfgs", init_params=np.repeat(labels, weight), **settings)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, abs=1e-7)
    assert 10 < weighted.n_iter_ < 1000


def test_float32_rows_reach_the_same_likelihood(covariance_type):
    # From the true labels: from random ones, near a saddle, rounding decides which maximum is reached.
    data = make_mixture(3000, 4, 5, separation=1.5, covariance_type=covariance_type, random_state=5)
    settings = {"covariance_type": covariance_type, "init_params": data.labels, "tol": 1e-6}
    double, single = (fit(data.X.astype(dtype), 5, "lbfgs", **settings) for dtype in (np.float64, np.float32))
    assert single.means_.dtype == np.float32
    assert single.lower_bound_ == pytest.approx(double.lower_bound_, abs=1e-5)


def test_warm_start_restarts_and_callback_work():
    X = rows(1.0, "full", 6)
    seen = []

    def record(info):
        seen.append(info)

    settings = {"tol": 1e-8, "init_params": "random_from_data"}
    model = fit(X, 5, "lbfgs", n_init=3, callback=record, **settings)
    runs = [[info for info in seen if info.init == init] for init in range(3)]
    assert all([info.n_iter for info in run] == [*range(1, len(run) + 1)] for run in runs)
    assert model.lower_bound_ == max(run[-1].lower_bound for run in runs)
    assert min(info.change for info in seen) >= -1e-11
    stopped = fit(X, 5, "lbfgs", callback=lambda info: info.n_iter == 7, **settings)
    assert (stopped.n_iter_, stopped.stop_reason_, stopped.converged_) == (7, "callback", False)

    model = fit(X, 5, "lbfgs", warm_start=True, max_iter=20, **settings)
    before = model.lower_bound_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    assert model.lower_bounds_[0] >= before
    assert model.n_iter_ <= 20


def test_where_em_is_done_at_once_so_is_this(covariance_type):
    X = np.repeat([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], 8, axis=0)
    plain, fast = (fit(X, 1, how, covariance_type=covariance_type, tol=1e-12) for how in (None, "lbfgs"))
    assert fast.converged_
    assert fast.n_iter_ <= plain.n_iter_ + 2
    np.testing.assert_allclose(fast.covariances_, plain.covariances_, atol=1e-14)


def test_an_empty_component_stays_empty():
    X = rows(1.5, "full", 7)
    settings = {"weights_init": [0.5, 0.5, 0.0], "means_init": X[:3], "precisions_init": [np.eye(4)] * 3}
    with pytest.warns(EmptyComponentWarning):
        model = fit(X, 3, "lbfgs", tol=1e-7, **settings)
    assert model.converged_
    assert model.weights_[2] == 0


def test_an_unknown_acceleration_is_named():
    with pytest.raises(InvalidParameterError, match="'acceleration' parameter of GaussianMixture must be"):
        GaussianMixture(acceleration="squarem").fit(np.eye(3))
