"""Many small fits: each group's are those of its rows alone, whatever its neighbours, order and threads."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from fastgmm import GaussianMixture, fit_many
from fastgmm.estimators.many_mixtures import STATUS
from fastgmm.optimization import many as many_fits
from tests import reference
from tests.conftest import read_only

TYPES = ("full", "tied", "diag", "spherical")
ARRAYS = ("weights_", "means_", "covariances_", "precisions_cholesky_")
FIGURES = (*ARRAYS, "log_likelihood_", "lower_bound_", "n_iter_", "status_")


def make_groups(n_groups=12, n_features=3, dtype=np.float64, seed=0):
    """Rows of groups of 40 to 400 rows, and the group of each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(40, 400, n_groups)
    groups = np.repeat(np.arange(n_groups), sizes)
    centres = rng.normal(0, 3, (n_groups, 3, n_features))
    X = centres[groups, rng.integers(3, size=len(groups))] + rng.normal(size=(len(groups), n_features))
    return read_only(X.astype(dtype)), read_only(groups)


@pytest.fixture(scope="module")
def rows():
    return make_groups()


def assert_same_bits(one, other, places=slice(None)):
    for name in FIGURES:
        np.testing.assert_array_equal(getattr(one, name)[places], getattr(other, name), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_group_is_at_a_fixed_point_of_em_with_the_likelihood_of_its_parameters(covariance_type, dtype):
    X, groups = make_groups(6, dtype=dtype)
    many = fit_many(X, groups, 3, covariance_type=covariance_type, tol=1e-9, max_iter=3000, random_state=0)
    tolerance = 1e-3 if dtype == np.float64 else 2e-2  # plateaus: a bound that gains 1e-9 leaves means 1e-4 to go
    assert many.weights_.dtype == dtype
    for g in range(6):
        part = X[groups == g].astype(np.float64)
        values = (np.asarray(getattr(many, name)[g], float) for name in ARRAYS[:3])
        mixture = reference.Mixture(*values, covariance_type)
        np.testing.assert_allclose(
            many.log_likelihood_[g],
            reference.log_likelihood(part, mixture),
            rtol=1e-12 if dtype == np.float64 else 1e-5,
        )
        after = reference.em_step(part, mixture, 1e-6)
        for name in ("weights", "means", "covariances"):
            np.testing.assert_allclose(getattr(after, name), getattr(mixture, name), atol=tolerance, err_msg=name)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_group_is_fitted_as_its_rows_alone_by_the_estimator(covariance_type, rows):
    """From where the group's fit ended, the estimator's EM goes nowhere else."""
    X, groups = rows
    many = fit_many(X, groups, 3, covariance_type=covariance_type, tol=1e-7, max_iter=2000, random_state=0)
    assert (many.status_ == 0).all()
    for g in (0, 5, 11):
        model = many.mixture(g)
        part = X[groups == g]
        again = GaussianMixture(
            3,
            covariance_type=covariance_type,
            tol=1e-7,
            weights_init=model.weights_,
            means_init=model.means_,
            precisions_init=model.precisions_,
        ).fit(part)
        assert again.n_iter_ <= 3
        assert again.lower_bound_ == pytest.approx(many.lower_bound_[g], abs=1e-6)
        assert model.score(part) * len(part) == pytest.approx(many.log_likelihood_[g], rel=1e-12)
        np.testing.assert_allclose(again.means_, model.means_, atol=0.02)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_group_has_the_same_bits_alone_among_others_in_any_order_and_for_any_threads(covariance_type, rows):
    X, groups = rows
    settings = {"n_components": 3, "covariance_type": covariance_type, "random_state": 3, "n_init": 2}
    many = fit_many(X, groups, **settings)
    assert_same_bits(many, fit_many(X, groups, n_jobs=1, **settings))
    for g in (0, 7):
        alone = fit_many(X[groups == g], groups[groups == g], **settings)
        assert_same_bits(many, alone, slice(g, g + 1))
    order = np.argsort(-groups, kind="stable")  # groups in another order, each group's rows as before
    assert_same_bits(many, fit_many(X[order], groups[order], **settings))


def test_groups_of_several_calls_have_the_same_bits(rows, monkeypatch):
    X, groups = rows
    whole = fit_many(X, groups, 3, random_state=0)
    labels = whole.predict_many(X, groups)
    monkeypatch.setattr(many_fits, "WORK_PER_CALL", 1e4)
    assert_same_bits(whole, fit_many(X, groups, 3, random_state=0))
    np.testing.assert_array_equal(whole.predict_many(X, groups), labels)


def test_groups_by_offsets_and_by_labels_are_the_same_fits(rows):
    X, groups = rows
    offsets = np.searchsorted(groups, np.arange(13))
    assert_same_bits(fit_many(X, groups, 2, random_state=0), fit_many(X, None, 2, offsets=offsets, random_state=0))


def test_rows_of_a_group_may_stand_apart(rows):
    X, groups = rows
    many = fit_many(X, groups, 3, random_state=0)
    order = np.random.default_rng(1).permutation(len(X))
    apart = fit_many(X[order], groups[order], 3, random_state=0, tol=1e-8, max_iter=2000)
    labels = apart.predict_many(X[order], groups[order])
    for g in (0, 4):
        part = order[groups[order] == g]
        np.testing.assert_array_equal(labels[groups[order] == g], apart.mixture(g).predict(X[part]))
    assert len(many) == len(apart) == 12


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_are_scored_as_by_each_group_s_mixture(covariance_type, dtype):
    X, groups = make_groups(8, dtype=dtype)
    counts = 1 + np.arange(8) % 4
    many = fit_many(X, groups, counts, covariance_type=covariance_type, random_state=0)
    labels, log_prob = many.predict_many(X, groups), many.score_samples_many(X, groups)
    assert log_prob.dtype == dtype
    for g in range(8):
        model, part = many.mixture(g), groups == g
        assert model.n_components == counts[g]
        np.testing.assert_array_equal(labels[part], model.predict(X[part]))
        rtol = 1e-12 if dtype == np.float64 else 2e-5
        np.testing.assert_allclose(log_prob[part], model.score_samples(X[part]), rtol=rtol)
    means = [many.mixture(g).score(X[groups == g]) for g in range(8)]
    np.testing.assert_allclose(many.score_many(X, groups), means, rtol=1e-6)


def test_components_that_a_group_does_not_have_weigh_nothing():
    X, groups = make_groups(3)
    many = fit_many(X, groups, {0: 1, 1: 3, 2: 2}, random_state=0)
    assert many.weights_.shape == (3, 3)
    assert many.means_.shape == (3, 3, 3)
    np.testing.assert_allclose(many.weights_.sum(axis=1), 1)
    np.testing.assert_array_equal(np.isnan(many.means_).all(axis=2), [[0, 1, 1], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(many.weights_ == 0, [[0, 1, 1], [0, 0, 0], [0, 0, 1]])


def test_one_bad_group_never_stops_the_others():
    X, groups = make_groups(8)
    X = X.copy()
    X[np.flatnonzero(groups == 2)[3], 1] = np.nan
    X[np.flatnonzero(groups == 5)[0], 0] = np.inf
    X[groups == 6] = X[groups == 6][:1]
    few = np.flatnonzero(groups == 7)[:2]
    keep = (groups != 7) | np.isin(np.arange(len(X)), few)
    X, groups = X[keep], groups[keep]
    X[groups == 4] = 1e200 * X[groups == 4]
    many = fit_many(X, groups, 3, reg_covar=0, random_state=0)
    np.testing.assert_array_equal(many.status_, [0, 0, 3, 0, 3, 3, 4, 2])
    bad = many.status_ > 1
    assert np.isnan(many.means_[bad]).all()
    assert (many.weights_[bad] == 0).all()
    assert np.isnan(many.log_likelihood_[bad]).all()
    good = np.isin(groups, np.flatnonzero(~bad))
    assert_same_bits(many, fit_many(X[good], groups[good], 3, reg_covar=0, random_state=0), ~bad)
    asked = np.isin(groups, [0, 7])
    labels = many.predict_many(X[asked], groups[asked])
    np.testing.assert_array_equal(labels[groups[asked] == 7], -1)
    assert (labels[groups[asked] == 0] >= 0).all()
    assert np.isnan(many.score_samples_many(X[asked], groups[asked])[groups[asked] == 7]).all()
    with pytest.raises(ValueError, match=r"Group 7 has fewer rows"):
        many.mixture(7)
    drawn, of, _ = many.sample_many(5, random_state=0)
    assert set(of) == set(np.flatnonzero(~bad))
    assert np.isfinite(drawn).all()
    assert set(STATUS) == set(range(6))


def test_a_step_that_compiled_code_leaves_alone_is_the_estimator_s():
    """A shared covariance that keeps no digits beside the distance of the means is summed pair by pair."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(100, 2)), 1e7 + rng.normal(size=(100, 2)), rng.normal(size=(150, 2))])
    groups = np.repeat([0, 1], [200, 150])
    many = fit_many(X, groups, 2, covariance_type="tied", random_state=0)
    assert (many.status_ == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = GaussianMixture(2, covariance_type="tied", random_state=0).fit(X[:200])
    assert many.log_likelihood_[0] == pytest.approx(alone.log_likelihood_, rel=1e-9)
    np.testing.assert_allclose(many.covariances_[0], alone.covariances_, rtol=1e-6)


def test_weights_are_rows_many_times(rows):
    X, groups = make_groups(4)
    weight = np.random.default_rng(0).integers(1, 4, len(X))
    settings = {"n_components": 2, "tol": 1e-10, "max_iter": 5000, "random_state": 0, "n_init": 4}
    weighted = fit_many(X, groups, sample_weight=weight, **settings)
    repeated = fit_many(np.repeat(X, weight, axis=0), np.repeat(groups, weight), **settings)
    np.testing.assert_allclose(weighted.log_likelihood_, repeated.log_likelihood_, rtol=1e-6)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_column_of_a_frame_says_the_group(make):
    X, groups = make_groups(4)
    names = np.array(["berlin", "amsterdam", "córdoba", "delhi"])[groups]
    frame = make({"a": X[:, 0], "city": names, "b": X[:, 1], "c": X[:, 2]})
    many = fit_many(frame, "city", 2, random_state=0)
    assert list(many.groups_) == ["amsterdam", "berlin", "córdoba", "delhi"]
    assert list(many.feature_names_in_) == ["a", "b", "c"]
    assert_same_bits(many, fit_many(X, names, 2, random_state=0))
    np.testing.assert_array_equal(many.predict_many(frame, "city"), many.predict_many(X, names))
    assert list(many.mixture("delhi").feature_names_in_) == ["a", "b", "c"]


def test_drawn_rows_have_the_means_of_their_groups(rows):
    X, groups = rows
    for covariance_type in TYPES:
        many = fit_many(X, groups, np.array([1, 2, 3] * 4), covariance_type=covariance_type, random_state=0)
        drawn, of, labels = many.sample_many(np.arange(12) * 1000, random_state=0)
        np.testing.assert_array_equal(np.bincount(of, minlength=12), np.arange(12) * 1000)
        for g in (3, 11):
            part = of == g
            model = many.mixture(g)
            spread = X[groups == g].std(axis=0).max()
            np.testing.assert_allclose(drawn[part].mean(axis=0), model.weights_ @ model.means_, atol=0.1 * spread)
            np.testing.assert_allclose(np.bincount(labels[part]) / part.sum(), model.weights_, atol=0.05)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda X, g: fit_many(X), ValueError, "either groups"),
        (lambda X, g: fit_many(X, g[:-1], 2), ValueError, "each of which needs a group"),
        (lambda X, g: fit_many(X, np.where(np.arange(len(g)) == 5, np.nan, g), 2), ValueError, "missing in row 5"),
        (lambda X, g: fit_many(X, g, {0: 1}), ValueError, "says nothing of 2 groups"),
        (lambda X, g: fit_many(X, g, [1, 2]), ValueError, "one for each of the 3 groups"),
        (lambda X, g: fit_many(X, g, 0), ValueError, "at least 1"),
        (lambda X, g: fit_many(X, g, 2, covariance_type="round"), ValueError, "covariance_type"),
        (lambda X, g: fit_many(X, "city", 2), TypeError, "pass the values of 'city'"),
        (lambda X, g: fit_many(pd.DataFrame(X), "city", 2), ValueError, "0 of them 'city'"),
        (lambda X, g: fit_many(X, None, 2, offsets=[0, 5]), ValueError, "to the number of rows"),
        (lambda X, g: fit_many(X, g, 1, random_state=0).predict_many(X, g + 1), KeyError, "1 groups were not fitted"),
        (lambda X, g: fit_many(X, g, 1, random_state=0).predict_many(X[:, :2], g), ValueError, "2 features"),
        (lambda X, g: fit_many(X, g, 1, random_state=0).predict_many(X * np.nan, g), ValueError, "row 0, column 0"),
        (lambda X, g: fit_many(X, g, 1, random_state=0).sample_many(-1), ValueError, "at least 0"),
    ],
)
def test_what_cannot_be_meant_is_named(call, error, words):
    X, groups = make_groups(3)
    with pytest.raises(error, match=words):
        call(X, groups)
