"""What the arithmetic promises: invariances, reproducible bits, a rising likelihood, accuracy far away."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgmm import GaussianMixture, open_source
from fastgmm.exceptions import ConvergenceWarning, RegularizationWarning
from tests import reference
from tests.reference import COVARIANCE_TYPES

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")
EPS = np.finfo(np.float64).eps


def fit(X, labels, covariance_type, sample_weight=None, **settings):
    """Fit from hard labels without a ridge, until nothing moves."""
    settings = {"reg_covar": 0.0, "tol": 1e-12, "max_iter": 1000} | settings
    model = GaussianMixture(int(labels.max()) + 1, covariance_type=covariance_type, init_params=labels, **settings)
    return model.fit(X, sample_weight=sample_weight)


def fit_five_steps(X, labels, covariance_type, sample_weight=None, **settings):
    """Fit from hard labels by exactly five iterations, so that two fits do equal work."""
    with pytest.warns(ConvergenceWarning):
        return fit(X, labels, covariance_type, sample_weight, tol=0.0, max_iter=5, **settings)


def assert_same_bits(model, other):
    for name in (*PARAMETERS, "lower_bounds_", "log_likelihood_"):
        np.testing.assert_array_equal(getattr(model, name), getattr(other, name), err_msg=name, strict=True)


def assert_close_parameters(model, other, rtol):
    for name in PARAMETERS:
        value, expected = getattr(model, name), getattr(other, name)
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol * np.abs(expected).max(), err_msg=name)


@pytest.fixture(scope="module")
def many_rows():
    """20,000 rows: several blocks and slots, so that threads have something to share."""
    rng = np.random.default_rng(7)
    centers = rng.normal(size=(5, 4)) * 4
    labels = rng.integers(5, size=20_000)
    return centers[labels] + rng.normal(size=(20_000, 4)), labels


# ---- the oracle, step by step ----


@pytest.mark.parametrize("n_rows", [2, 63, 64, 65, 600])
def test_one_em_step_equals_the_oracle_at_every_block_remainder(covariance_type, n_rows, blobs):
    X, labels = blobs[0][:n_rows], np.arange(n_rows) % 2
    sample_weight = np.random.default_rng(1).uniform(0.5, 2.0, size=n_rows)
    start = reference.m_step(X, reference.one_hot(labels), covariance_type, 1e-3, sample_weight)
    expected, bounds = reference.em(X, start, max_iter=1, reg_covar=1e-3, sample_weight=sample_weight)
    with pytest.warns(ConvergenceWarning):
        model = fit(X, labels, covariance_type, sample_weight, reg_covar=1e-3, max_iter=1)
    for name, value in zip(PARAMETERS, expected[:3], strict=False):
        np.testing.assert_allclose(getattr(model, name), value, rtol=1e-10, atol=1e-10, err_msg=name)
    assert model.lower_bound_ == pytest.approx(bounds[0], rel=1e-12)
    log_likelihood = reference.log_likelihood(X, expected, sample_weight)
    assert model.log_likelihood_ == pytest.approx(log_likelihood, rel=1e-11)


# ---- invariances ----

# NIST StRD, univariate: NumAcc1 to NumAcc4.
NUMACC = {
    "NumAcc1": [10000001.0, 10000003.0, 10000002.0],
    "NumAcc2": [1.2] + [1.1, 1.3] * 500,
    "NumAcc3": [1000000.2] + [1000000.1, 1000000.3] * 500,
    "NumAcc4": [10000000.2] + [10000000.1, 10000000.3] * 500,
}


@pytest.mark.parametrize("name", NUMACC)
def test_variance_of_nearly_equal_numbers_is_exact_to_eight_digits(covariance_type, name):
    # In fractions of the stored doubles: 10000000.1 is not one of them, which alone changes 1.1e-8.
    values = [Fraction(value) for value in NUMACC[name]]
    mean = sum(values) / len(values)
    exact = float(sum((value - mean) ** 2 for value in values) / len(values))
    X = np.array(NUMACC[name])[:, np.newaxis]
    model = GaussianMixture(1, covariance_type=covariance_type, reg_covar=0.0).fit(X)
    assert model.covariances_.item() == pytest.approx(exact, rel=1e-8)


def test_scaling_columns_shifts_the_log_likelihood_and_keeps_the_labels(covariance_type, starts):
    X, labels = starts["iris", "species"]
    plain = fit(X, labels, covariance_type)
    # A spherical covariance admits one common scale only.
    scales = [[1e-6] * 4, [1e6] * 4] if covariance_type == "spherical" else [[1e-6, 1e-2, 1e2, 1e6]]
    for scale in scales:
        scaled = fit(X * scale, labels, covariance_type)
        shifted = scaled.log_likelihood_ + len(X) * math.fsum(np.log(scale))
        assert shifted == pytest.approx(plain.log_likelihood_, rel=1e-8)
        np.testing.assert_array_equal(scaled.predict(X * scale), plain.predict(X))


@pytest.mark.parametrize("exponent", [-20, 20])
def test_one_m_step_on_data_scaled_by_a_power_of_two_scales_every_bit(covariance_type, exponent, blobs):
    X, _ = blobs
    resp = np.random.default_rng(2).dirichlet([0.5, 0.5, 0.5], size=len(X))
    plain, scaled = (
        GaussianMixture(3, covariance_type=covariance_type, init_params=resp, max_iter=0, reg_covar=0.0).fit(data)
        for data in (X, np.ldexp(X, exponent))
    )
    np.testing.assert_array_equal(scaled.weights_, plain.weights_)
    np.testing.assert_array_equal(scaled.means_, np.ldexp(plain.means_, exponent))
    np.testing.assert_array_equal(scaled.covariances_, np.ldexp(plain.covariances_, 2 * exponent))


def test_a_whole_fit_of_data_scaled_by_a_power_of_two_scales_with_it(covariance_type, blobs):
    X, labels = blobs
    plain, scaled = (fit_five_steps(data, labels, covariance_type) for data in (X, np.ldexp(X, 20)))
    np.testing.assert_allclose(scaled.means_, np.ldexp(plain.means_, 20), rtol=1e-10)
    shifted = scaled.log_likelihood_ + X.size * 20 * math.log(2)
    assert shifted == pytest.approx(plain.log_likelihood_, rel=1e-10)


def test_the_order_of_rows_and_columns_does_not_matter(covariance_type, blobs):
    X, labels = blobs
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(len(X)), rng.permutation(X.shape[1])
    plain = fit_five_steps(X, labels, covariance_type)
    by_rows = fit_five_steps(X[rows], labels[rows], covariance_type)
    by_columns = fit_five_steps(X[:, columns], labels, covariance_type)
    assert by_rows.log_likelihood_ == pytest.approx(plain.log_likelihood_, rel=1e-12)
    assert by_columns.log_likelihood_ == pytest.approx(plain.log_likelihood_, rel=1e-12)
    assert_close_parameters(by_rows, plain, rtol=1e-11)
    np.testing.assert_allclose(by_columns.means_, plain.means_[:, columns], rtol=1e-11)


def test_scoring_in_pieces_of_any_size_equals_scoring_at_once(covariance_type, blobs):
    X, labels = blobs
    model = fit_five_steps(X, labels, covariance_type)
    for size in (1, 7, 4096):
        pieces = [X[i : i + size] for i in range(0, len(X), size)]
        for method in (model.score_samples, model.predict_proba):
            together = np.concatenate([method(piece) for piece in pieces])
            np.testing.assert_allclose(together, method(X), rtol=1e-12, atol=1e-15)


# ---- weights ----


@pytest.mark.parametrize("reg_covar", [0.0, 1e-3])
def test_weight_two_is_the_row_twice_and_weight_zero_the_row_absent(covariance_type, reg_covar, blobs):
    X, labels = blobs
    repeats = np.random.default_rng(4).integers(3, size=len(X))
    weighted = fit_five_steps(X, labels, covariance_type, repeats, reg_covar=reg_covar)
    X2 = np.repeat(X, repeats, axis=0)
    repeated = fit_five_steps(X2, np.repeat(labels, repeats), covariance_type, reg_covar=reg_covar)
    assert_close_parameters(weighted, repeated, rtol=1e-12)
    assert weighted.log_likelihood_ == pytest.approx(repeated.log_likelihood_, rel=1e-12)
    for method in ("score", "aic", "bic"):
        value = getattr(weighted, method)(X, sample_weight=repeats)
        assert value == pytest.approx(getattr(repeated, method)(X2), rel=1e-12)


def test_a_row_of_weight_zero_may_lie_anywhere(covariance_type, blobs):
    X, labels = blobs
    far = np.vstack([X, [[1e6, -1e6, 1e6]]])
    sample_weight = np.append(np.ones(len(X)), 0.0)
    weighted = fit_five_steps(far, np.append(labels, 2), covariance_type, sample_weight)
    assert_close_parameters(weighted, fit_five_steps(X, labels, covariance_type), rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-3, 1e5])
def test_a_common_factor_of_the_weights_changes_no_parameter(covariance_type, factor, blobs):
    X, labels = blobs
    plain = fit_five_steps(X, labels, covariance_type)
    scaled = fit_five_steps(X, labels, covariance_type, np.full(len(X), factor))
    assert_close_parameters(scaled, plain, rtol=1e-12)
    assert scaled.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert scaled.log_likelihood_ == pytest.approx(factor * plain.log_likelihood_, rel=1e-12)
    assert scaled.lower_bound_ == pytest.approx(plain.lower_bound_, rel=1e-12)


class Repeated:
    """A table of the same block again and again."""

    def __init__(self, block, count):
        self.block, self.count = block, count

    def chunks(self):
        for _ in range(self.count):
            yield self.block


@pytest.mark.slow
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_a_hundred_million_rows_are_a_thousand_of_weight_100_000(covariance_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2)) + 3 * (np.arange(1000) % 3)[:, None]
    start = {"weights_init": [0.2, 0.3, 0.5], "means_init": [[0, 0], [2, 2], [7, 7]]}
    start["precisions_init"] = np.ones((3, 2)) if covariance_type == "diag" else [np.eye(2)] * 3
    models = [GaussianMixture(3, covariance_type=covariance_type, tol=0, max_iter=3, **start) for _ in range(2)]
    with pytest.warns(ConvergenceWarning):
        models[0].fit(X, sample_weight=np.full(1000, 1e5))
    with pytest.warns(ConvergenceWarning):
        models[1].fit(open_source(Repeated(np.tile(X, (1000, 1)), 100)))
    assert_close_parameters(*models, rtol=1e-10)
    for model in models:
        assert model.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert models[1].log_likelihood_ == pytest.approx(models[0].log_likelihood_, rel=1e-10)


# ---- the same bits from any number of threads ----


@pytest.mark.parametrize("engine", ["prange", "pool"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_threads_and_repeats_do_not_change_a_bit(covariance_type, dtype, engine, many_rows, monkeypatch):
    monkeypatch.setenv("FASTGMM_ENGINE", engine)
    X, labels = many_rows[0].astype(dtype), many_rows[1]
    first, *others = (
        fit_five_steps(X, labels, covariance_type, n_jobs=n_jobs, reg_covar=1e-6) for n_jobs in (1, 2, 1, 2, None)
    )
    for other in others:
        assert_same_bits(other, first)
    for method in ("score_samples", "predict_proba", "predict"):
        alone = getattr(first.set_params(n_jobs=1), method)(X)
        np.testing.assert_array_equal(getattr(first.set_params(n_jobs=2), method)(X), alone)


def test_twenty_repeats_with_two_threads_do_not_change_a_bit(covariance_type, many_rows):
    first, *others = (fit_five_steps(*many_rows, covariance_type, n_jobs=2) for _ in range(20))
    for other in others:
        assert_same_bits(other, first)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_gives_the_same_bits_from_any_number_of_threads(init_params, many_rows):
    X, _ = many_rows
    alone, together = (
        GaussianMixture(5, init_params=init_params, max_iter=0, random_state=0, n_jobs=n_jobs).fit(X)
        for n_jobs in (1, 2)
    )
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_threading_paths_agree_to_a_rounding(covariance_type, dtype, many_rows, monkeypatch):
    X, labels = many_rows[0].astype(dtype), many_rows[1]
    fits = []
    for engine in ("prange", "pool"):
        monkeypatch.setenv("FASTGMM_ENGINE", engine)
        fits.append(fit_five_steps(X, labels, covariance_type, reg_covar=1e-6))
    assert_close_parameters(*fits, rtol=1e-12 if dtype is np.float64 else 1e-6)


# ---- the likelihood climbs ----


@st.composite
def problems(draw):
    """1 to 4 clusters in 1 to 4 dimensions, near or far apart, in any unit; and a rough partition of them."""
    k, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    n = k * draw(st.integers(8 * d, 24 * d))
    separation = draw(st.floats(0, 6))
    unit, offset = 10.0 ** draw(st.integers(-3, 3)), draw(st.sampled_from([0.0, 1.0, 1e3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.arange(n) % k
    X = rng.normal(size=(n, d)) + separation * rng.normal(size=(k, d))[labels] + offset
    wrong = rng.random(n) < draw(st.floats(0, 1))
    return unit * X, np.where(wrong, rng.permutation(labels), labels)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@settings(max_examples=200)
@given(problem=problems())
def test_the_log_likelihood_never_falls_without_a_ridge(covariance_type, problem):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = fit(*problem, covariance_type, tol=0.0, max_iter=10)
    lower_bounds = np.array(model.lower_bounds_)
    assert np.all(np.diff(lower_bounds) >= -1e-12 * np.abs(lower_bounds[1:]))


def test_a_fall_caused_by_the_ridge_is_reported_and_never_called_converged(covariance_type, blobs):
    X, labels = blobs
    best = fit(X, labels, covariance_type)
    # From the maximum, the first M-step with a ridge can only lose likelihood.
    model = GaussianMixture(
        3, covariance_type=covariance_type, reg_covar=0.5, weights_init=best.weights_, means_init=best.means_,
        precisions_init=best.precisions_,
    )  # fmt: skip
    with pytest.warns(RegularizationWarning), pytest.warns(ConvergenceWarning):
        model.fit(X)
    assert model.lower_bounds_[-1] < model.lower_bounds_[-2]
    assert not model.converged_
    assert model.stop_reason_ == "decreased"


# ---- far away, badly scaled, single precision ----


@pytest.mark.parametrize(
    ("dtype", "distances"), [(np.float64, [1e8, 1e155, 1.7e308]), (np.float32, [1e8, 1e25, 3.4e38])]
)
def test_probabilities_of_far_points_are_never_nan(covariance_type, dtype, distances, blobs):
    X, labels = blobs
    model = fit_five_steps(X.astype(dtype), labels, covariance_type)
    directions = [[1, 0, 0], [0, -1, 0], [1, 1, 1], [-1, 1, -1]]
    far = np.array([distance * np.array(direction) for distance in distances for direction in directions], dtype)
    resp = model.predict_proba(far)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, rtol=1e-6 if dtype is np.float32 else 1e-12)
    assert np.all(resp >= 0)
    np.testing.assert_array_equal(model.predict(far), resp.argmax(axis=1))
    assert not np.isnan(model.score_samples(far)).any()


@pytest.mark.parametrize("random_state", range(5))
def test_a_badly_scaled_column_does_not_hide_the_clusters(random_state):
    rng = np.random.default_rng(random_state)
    sign = np.where(np.arange(2000) % 2, 2.0, -2.0)[:, np.newaxis]
    X = np.column_stack([1e4 * rng.normal(size=2000), sign + 0.5 * rng.normal(size=(2000, 2))])
    model = GaussianMixture(2, random_state=random_state).fit(X)
    np.testing.assert_allclose(np.sort(model.means_[:, 1:], axis=0), [[-2, -2], [2, 2]], atol=0.1)


def test_identical_components_share_a_far_point_equally(covariance_type):
    twice = {"full": [np.eye(2)] * 2, "tied": np.eye(2), "diag": np.ones((2, 2)), "spherical": np.ones(2)}
    model = GaussianMixture.from_parameters([0.5, 0.5], np.zeros((2, 2)), twice[covariance_type], covariance_type)
    np.testing.assert_allclose(model.predict_proba([[1.0, 1.0], [1e9, 1e9]]), 0.5, rtol=1e-12)


def test_rounding_of_float32_is_not_a_falling_likelihood(covariance_type, faithful, faithful_labels):
    model = fit(faithful.astype(np.float32), faithful_labels, covariance_type, tol=1e-6)
    assert model.converged_
    assert model.stop_reason_ == "converged"


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_data_give_the_parameters_of_the_same_numbers_in_float64(
    covariance_type, offset, faithful, faithful_labels
):
    X = (faithful + offset).astype(np.float32)
    # No type's changes come near this tol (factor 2 at least), so that both stop after as many iterations.
    single, double = (fit(data, faithful_labels, covariance_type, tol=2e-5) for data in (X, X.astype(np.float64)))
    assert single.n_iter_ == double.n_iter_
    assert single.converged_
    assert double.converged_
    assert single.means_.dtype == np.float32
    np.testing.assert_allclose(single.means_, double.means_, rtol=1e-6)
    np.testing.assert_allclose(single.covariances_, double.covariances_, rtol=1e-4, atol=1e-4)
    fitted = reference.Mixture(single.weights_, single.means_, single.covariances_, covariance_type)
    assert np.all(np.linalg.eigvalsh(reference.dense_covariances(fitted)) > 0)


# ---- restarts ----


@pytest.mark.parametrize("init_params", ["k-means++", "random", "random_from_data"])
def test_restarts_differ_and_more_of_them_never_give_a_lower_bound(init_params, blobs):
    X, _ = blobs
    bounds, best = {}, []
    for n_init in (1, 3, 10):
        bounds[n_init] = [[] for _ in range(n_init)]

        def record(info, runs=bounds[n_init]):
            runs[info.init].append(info.lower_bound)

        model = GaussianMixture(4, n_init=n_init, init_params=init_params, random_state=5, callback=record, tol=1e-2)
        best.append(model.fit(X).lower_bound_)
    assert best == sorted(best)
    assert len({run[0] for run in bounds[10]}) == 10
    assert bounds[10][:3] == bounds[3]  # a start is the same whatever follows it
    assert bounds[3][:1] == bounds[1]


# ---- the density against 50 digits ----


def exact_log_density(x, mean, covariance):
    """Evaluate log N(x | mean, covariance) in 50-digit arithmetic, from the stored doubles."""
    with mpmath.workdps(50):
        difference = mpmath.matrix([mpmath.mpf(float(a)) - mpmath.mpf(float(b)) for a, b in zip(x, mean, strict=True)])
        matrix = mpmath.matrix(covariance.tolist())
        distance = (difference.T * mpmath.lu_solve(matrix, difference))[0]
        return -(len(x) * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(matrix)) + distance) / 2


@pytest.mark.parametrize("exponent", [0, 2, 4, 6, 8, 10, 12, 14])
def test_log_density_loses_no_more_digits_than_the_condition_number(exponent):
    rng = np.random.default_rng(exponent)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    roots = rotation * 10.0 ** np.linspace(0, -exponent / 2, 4)
    covariance = roots @ roots.T
    mean = rng.normal(size=4)
    X = mean + rng.normal(size=(5, 4)) @ roots.T
    model = GaussianMixture.from_parameters([1.0], [mean], [covariance])
    for x, log_density in zip(X, model.score_samples(X), strict=True):
        exact = exact_log_density(x, mean, covariance)
        assert abs(float(log_density - exact)) <= 50 * EPS * 10.0**exponent * max(1.0, abs(float(exact)))


def test_log_density_of_diagonal_covariances_is_exact_to_rounding():
    rng = np.random.default_rng(0)
    for covariance_type, variances in (
        ("diag", np.array([[1e-8, 1.0, 1e8]])),
        ("spherical", np.array([1e-8])),
    ):
        X = np.sqrt(variances) * rng.normal(size=(5, 3))
        model = GaussianMixture.from_parameters([1.0], np.zeros((1, 3)), variances, covariance_type)
        matrix = np.diag(np.broadcast_to(variances.ravel(), 3))
        for x, log_density in zip(X, model.score_samples(X), strict=True):
            exact = exact_log_density(x, np.zeros(3), matrix)
            assert abs(float(log_density - exact)) <= 50 * EPS * max(1.0, abs(float(exact)))
