"""What a fit knows of its columns beforehand: weights and gaps of every kind, and values far from 0."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.distributed import distribute
from fastgmm.rows.source import ArraySource
from fastgmm.rows.summary import SHIFT_ROWS, summarise_columns

RNG = np.random.default_rng(5)
N = 4000


@pytest.fixture(params=["array", "parts"])
def as_source(request):
    if request.param == "array":
        yield ArraySource
        return
    with ThreadPoolExecutor(2) as pool:
        yield lambda X: distribute(X, pool, rows=700)


def check(as_source, X, weight=None):
    """Mean and variance of every column, by its present values in rows of positive weight."""
    found = summarise_columns(as_source(X), weight)
    for column, values in enumerate(X.T):
        present = ~np.isnan(values) & (True if weight is None else weight > 0)
        share = np.ones(N)[present] if weight is None else weight[present]
        mean = np.average(values[present], weights=share)
        variance = np.average((values[present] - mean) ** 2, weights=share)
        np.testing.assert_allclose(found.mean[column], mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.variance[column], variance, rtol=1e-6)
        assert (found.minimum[column], found.maximum[column]) == (values[present].min(), values[present].max())


def test_light_rows_count_where_the_heavy_ones_have_no_value(as_source):
    X = RNG.normal(size=(N, 2)) * [1, 5] + [0, 100]
    X[: N - 500, 1] = np.nan
    check(as_source, X, np.where(np.arange(N) < N - 500, RNG.random(N), 1e-18))


@pytest.mark.parametrize("value", [1e10, 1e300, np.nan])
def test_rows_without_weight_do_not_decide_about_digits(as_source, value):
    X = RNG.normal(size=(N, 2))
    X[:3] = value
    X[7, 1] = np.nan
    check(as_source, X, np.where(np.arange(N) < 3, 0.0, RNG.random(N)))


@pytest.mark.parametrize("weighted", [False, True])
def test_time_stamps_that_begin_late_keep_their_digits(as_source, weighted):
    X = RNG.normal([0, 1.7e9, 1.7e9], size=(N, 3))
    X[: SHIFT_ROWS + 500, 1] = np.nan
    X[N // 2 :, 2] = np.nan
    check(as_source, X, RNG.integers(0, 3, N).astype(float) if weighted else None)


def test_columns_and_rows_without_anything_have_no_mean_of_their_own(as_source):
    X = RNG.normal(size=(N, 2))
    X[:, 1] = np.nan
    found = summarise_columns(as_source(X))
    assert found.minimum[1] == np.inf
    np.testing.assert_allclose(found.mean, [X[:, 0].mean(), 0.0], atol=1e-12)


def test_a_prior_knows_the_column_of_light_rows():
    X = RNG.normal(size=(5000, 2)) * [1, 5] + [0, 100]
    X[:4000, 1] = np.nan
    weight = np.where(np.arange(5000) < 4000, 1.0, 1e-18)
    model = GaussianMixture(2, missing="em", random_state=0, prior="conjugate").fit(X, sample_weight=weight)
    np.testing.assert_allclose(model.means_[:, 1], X[4000:, 1].mean(), rtol=1e-3)


@pytest.mark.parametrize("weightless", [False, True])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinity_is_seen_in_every_row_and_the_largest_number_is_none(as_source, value, weightless):
    X = RNG.normal(size=(N, 2))
    X[5, 0] = np.nan
    weight = np.ones(N)
    weight[[0, 3000, N - 1]] = 0.0 if weightless else 2.0
    for row in (0, 3000, N - 1):
        for bad in (value, np.copysign(np.finfo(float).max, value)):
            Y = X.copy()
            Y[row, 1] = bad
            found = summarise_columns(as_source(Y), weight)
            assert (found.has_infinity, found.has_missing) == (bool(np.isinf(bad)), True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_rows_that_say_nothing_are_weighed(as_source, weighted, labelled):
    X = RNG.normal(size=(N, 3))
    X[RNG.random((N, 3)) < 0.5] = np.nan
    weight = RNG.integers(0, 3, N).astype(float) if weighted else None
    labels = RNG.integers(-1, 2, N) if labelled else None
    silent = np.isnan(X).all(axis=1) & (labels < 0 if labelled else True)
    assert summarise_columns(as_source(X), weight, labels).silent == (
        weight[silent].sum() if weighted else silent.sum()
    )
