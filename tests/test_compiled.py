"""Small problems, whose starts and iterations are compiled, against the same arithmetic step by step."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastgmm
from fastgmm import GaussianMixture, open_source
from fastgmm.kernels import begin, m_step, many
from fastgmm.model.covariance import EPS, STRUCTURES, TIED_CANCELLATION
from fastgmm.model.expectation import MOMENT_CANCELLATION
from fastgmm.model.log_density import HALF_LOG_2PI
from fastgmm.model.maximisation import PIVOT_ROUNDINGS, VARIANCE_ROUNDINGS, Maximiser
from fastgmm.model.parameters import TINY
from fastgmm.optimization import compiled, problem
from fastgmm.optimization.problem import MixtureProblem
from fastgmm.rows.source import ArraySource
from fastgmm.rows.summary import ColumnSummary
from tests import reference
from tests.conftest import read_only
from tests.reference import COVARIANCE_TYPES

NAMES = ("weights_", "means_", "covariances_", "precisions_cholesky_")
SHAPES = [(7, 1, 1), (50, 1, 2), (60, 2, 3), (61, 3, 5), (300, 5, 2), (700, 9, 4), (2500, 3, 3), (9000, 2, 7)]


def make_rows(n, d, k, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 3, (k, d))[rng.integers(k, size=n)] + rng.normal(size=(n, d)) + 100.0
    return read_only(X.astype(dtype))


def quietly(make, *arguments, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **settings)


def start_of(X, k, covariance_type):
    """Weights, means and precisions to begin from: rows as means, all of the columns' variances."""
    d = X.shape[1]
    variance = X.astype(np.float64).var(axis=0).mean()
    structure = STRUCTURES[covariance_type]
    precisions = structure.identity(k, d) / variance
    return {"weights_init": np.full(k, 1 / k), "means_init": X[:k].astype(float), "precisions_init": precisions}


@pytest.fixture
def step_by_step(monkeypatch):
    """Called, it makes all problems large."""
    return lambda: monkeypatch.setattr(problem, "is_small", lambda *shape: False)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("n", "d", "k"), SHAPES)
def test_compiled_iterations_are_those_of_the_reference(n, d, k, covariance_type, dtype, weighted):
    X = make_rows(n, d, k, dtype)
    weight = np.random.default_rng(1).integers(0, 4, n).astype(float) if weighted else None
    start = start_of(X, k, covariance_type)
    settings = {"covariance_type": covariance_type, "tol": 0.0, "max_iter": 4, "reg_covar": 1e-3}
    model = quietly(GaussianMixture(k, **start, **settings).fit, X, sample_weight=weight)
    covariances = STRUCTURES[covariance_type].identity(k, d) / np.max(start["precisions_init"])
    begin = reference.Mixture(start["weights_init"], start["means_init"], covariances, covariance_type)
    expected, bounds = reference.em(X.astype(float), begin, max_iter=4, reg_covar=1e-3, sample_weight=weight)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == np.float64 else {"rtol": 2e-3, "atol": 2e-3}
    np.testing.assert_allclose(model.lower_bounds_, bounds, **tolerance)
    for name in NAMES[:3]:
        np.testing.assert_allclose(getattr(model, name), getattr(expected, name[:-1]), **tolerance, err_msg=name)
    total = reference.log_likelihood(X.astype(float), expected, weight)
    assert model.log_likelihood_ == pytest.approx(total, rel=tolerance["rtol"])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_step_by_step_comes_to_the_same(covariance_type, step_by_step):
    X = make_rows(600, 4, 3)
    start = start_of(X, 3, covariance_type)
    fitted = quietly(GaussianMixture(3, covariance_type=covariance_type, **start).fit, X)
    step_by_step()
    stepped = quietly(GaussianMixture(3, covariance_type=covariance_type, **start).fit, X)
    assert fitted.n_iter_ == stepped.n_iter_
    np.testing.assert_allclose(fitted.lower_bounds_, stepped.lower_bounds_, rtol=1e-12)
    for name in NAMES:
        np.testing.assert_allclose(getattr(fitted, name), getattr(stepped, name), rtol=1e-9, atol=1e-11)


def assert_same_bits(one, other):
    assert one.lower_bounds_ == other.lower_bounds_
    assert one.log_likelihood_ == other.log_likelihood_
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_who_watches_changes_no_bit(covariance_type, tmp_path):
    X = make_rows(800, 3, 4)
    settings = {"covariance_type": covariance_type, "tol": 1e-6, "random_state": 0, "max_iter": 2000}
    alone = GaussianMixture(4, **settings).fit(X)
    assert alone.n_iter_ > 3
    seen = []
    watched = GaussianMixture(4, callback=lambda info: seen.append(info.lower_bound), **settings).fit(X)
    assert seen == alone.lower_bounds_
    assert_same_bits(alone, watched)
    assert_same_bits(alone, GaussianMixture(4, checkpoint=tmp_path / "c", checkpoint_every=2, **settings).fit(X))
    assert_same_bits(alone, GaussianMixture(4, max_seconds=1e3, **settings).fit(X))
    labels = GaussianMixture(4, **settings).fit_predict(X)
    np.testing.assert_array_equal(labels, alone.predict(X))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_where_the_rows_lie_and_how_many_threads_there_are_changes_no_bit(dtype, tmp_path):
    X = make_rows(9000, 6, 8, dtype)
    model = quietly(GaussianMixture(8, random_state=0, max_iter=20).fit, X)
    np.save(tmp_path / "rows.npy", X)
    for source in (open_source(tmp_path / "rows.npy"), np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2]):
        assert_same_bits(model, quietly(GaussianMixture(8, random_state=0, max_iter=20).fit, source))
    with ThreadPoolExecutor(2) as pool:  # few rows are brought to the driver
        assert_same_bits(model, quietly(GaussianMixture(8, random_state=0, max_iter=20).fit, X, executor=pool))
    for n_jobs in (1, 2):
        assert_same_bits(model, quietly(GaussianMixture(8, random_state=0, max_iter=20, n_jobs=n_jobs).fit, X))


def test_a_fit_that_was_interrupted_goes_on_with_the_same_bits(tmp_path):
    X = make_rows(900, 3, 4)
    settings = {"tol": 0.0, "max_iter": 30, "random_state": 0}
    whole = quietly(GaussianMixture(4, **settings).fit, X)
    kept = {"checkpoint": tmp_path / "c", "checkpoint_every": 1}
    stopped = quietly(GaussianMixture(4, callback=lambda info: info.n_iter == 11, **kept, **settings).fit, X)
    assert stopped.n_iter_ == 11
    assert_same_bits(whole, quietly(GaussianMixture(4, resume=True, **kept, **settings).fit, X))


def test_control_returns_now_and_then(monkeypatch):
    monkeypatch.setattr(compiled, "WORK_PER_CALL", 1.0)  # one iteration per call
    X = make_rows(400, 2, 3)
    one_by_one = GaussianMixture(3, tol=1e-7, random_state=0).fit(X)
    monkeypatch.undo()
    assert_same_bits(one_by_one, GaussianMixture(3, tol=1e-7, random_state=0).fit(X))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_what_becomes_singular_is_named_as_ever(covariance_type, step_by_step):
    X = make_rows(40, 2, 1).copy()
    X[:15] = X[0]
    pooled = covariance_type == "tied"
    if pooled:
        X[:, 1] = 3.0
    settings = {"covariance_type": covariance_type, "reg_covar": 0.0, "init_params": np.repeat([0, 1], [15, 25])}
    with pytest.raises(fastgmm.exceptions.SingularCovarianceError, match="no variance left") as small:
        quietly(GaussianMixture(2, **settings).fit, X)
    step_by_step()
    with pytest.raises(fastgmm.exceptions.SingularCovarianceError) as large:
        quietly(GaussianMixture(2, **settings).fit, X)
    assert str(small.value) == str(large.value)
    assert small.value.component == (-1 if pooled else 0)


def test_components_that_collapse_are_mended_as_ever():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(200, 2)), np.full((20, 2), 5.0)])
    for way in ("regularize", "restart"):
        model = quietly(GaussianMixture(3, reg_covar=0.0, on_singular=way, random_state=0).fit, X)
        assert np.isfinite(model.lower_bound_)


def test_a_start_that_loses_digits_is_summed_pair_by_pair(step_by_step):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 2)), 1e7 + rng.normal(size=(100, 2))])
    fitted = GaussianMixture(2, covariance_type="tied", random_state=0).fit(X)
    np.testing.assert_allclose(fitted.covariances_, np.eye(2), atol=0.3)
    step_by_step()
    stepped = GaussianMixture(2, covariance_type="tied", random_state=0).fit(X)
    np.testing.assert_allclose(fitted.covariances_, stepped.covariances_, rtol=1e-6)


def test_starts_find_separated_clusters_whatever_the_units():
    """Of three starts one does: columns in units a million apart, or of one cluster with few rows."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=800)
    X = np.array([[0.0, 0], [9, 0], [0, 9], [9, 9]])[truth] + rng.normal(size=(800, 2))
    for scale in (1.0, [1.0, 1e6], [1e-6, 1e3]):
        for seed in range(5):
            labels = GaussianMixture(4, random_state=seed, reg_covar="auto").fit_predict(X * scale)
            counts = np.array([[np.sum((labels == a) & (truth == b)) for b in range(4)] for a in range(4)])
            assert counts.max(axis=1).sum() >= 795


def test_equal_rows_and_fewer_than_components_do_not_stop_a_start():
    X = np.repeat(make_rows(3, 2, 1), 20, axis=0)
    model = quietly(GaussianMixture(5, random_state=0).fit, X)
    assert np.isfinite(model.lower_bound_)
    weight = np.zeros(60)
    weight[[0, 20, 40]] = 1.0
    assert np.isfinite(quietly(GaussianMixture(2, random_state=0).fit, X, sample_weight=weight).lower_bound_)


@pytest.mark.parametrize(
    ("n", "d", "k", "covariance_type", "small"),
    [
        (10_000, 2, 3, "full", True),
        (10_001, 2, 3, "full", False),
        (20_000, 2, 40, "diag", True),
        (2000, 100, 2, "full", True),
        (10_000, 50, 8, "full", False),
        (10_000, 50, 8, "diag", True),
    ],
)
def test_a_small_problem_is_one_of_few_rows_and_little_work(n, d, k, covariance_type, small):
    source = ArraySource(np.broadcast_to(np.float64(0), (n, d)))
    maximise = Maximiser(covariance_type, 1e-6, np.ones(d))
    columns = ColumnSummary(np.zeros(d), np.ones(d), np.zeros(d), np.ones(d))
    assert (MixtureProblem(source, columns, None, k, maximise).compiled is not None) == small


def test_what_compiled_code_says_again_is_what_the_layers_above_say():
    """Kernels cannot import from the model; what they repeat of it is compared here."""
    assert (many.VARIANCE_ROUNDINGS, many.PIVOT_ROUNDINGS) == (VARIANCE_ROUNDINGS, PIVOT_ROUNDINGS)
    assert many.EPS == m_step.EPS == EPS
    assert (TINY, pytest.approx(HALF_LOG_2PI, rel=1e-15)) == (m_step.TINY, m_step.HALF_LOG_2PI)
    assert (m_step.TIED_CANCELLATION, m_step.MOMENT_CANCELLATION) == (TIED_CANCELLATION, MOMENT_CANCELLATION)
    assert compiled.n_exchanges(10_000) == begin.MOST_EXCHANGES
    assert tuple(m_step.KINDS) == tuple(STRUCTURES)
