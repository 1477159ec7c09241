"""Bad input gives an error that names cause and place, or a warning that names the column; never NaN."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array

from fastgmm import GaussianMixture
from fastgmm.exceptions import (
    ConstantColumnWarning,
    ConvergenceWarning,
    EmptyComponentWarning,
    RegularizationWarning,
)
from tests.reference import COVARIANCE_TYPES

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
READERS = ("predict", "predict_proba", "score_samples", "score", "aic", "bic")
ILL_DEFINED = "^Fitting the mixture model failed because some components have ill-defined empirical covariance"


@pytest.fixture(scope="module")
def model(blobs):
    return GaussianMixture(3, init_params=blobs[1]).fit(blobs[0])


# ---- values ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
@pytest.mark.parametrize(("row", "column"), [(0, 2), (299, 0), (599, 1)])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(dtype, value, word, row, column, blobs, model):
    X = blobs[0].astype(dtype)
    X[row, column] = value
    before = X.tobytes()
    place = re.compile(rf"{word}.*row {row}\b.*column {column}\b", re.DOTALL)
    with pytest.raises(ValueError, match=place):
        GaussianMixture(3).fit(X)
    for reader in READERS:
        with pytest.raises(ValueError, match=place):
            getattr(model, reader)(X)
    assert X.tobytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_no_kernel_hides_a_value_that_is_not_finite(covariance_type, dtype, value, blobs):
    X = blobs[0].astype(dtype)
    fitted = GaussianMixture(3, covariance_type=covariance_type, init_params=blobs[1]).fit(X)
    X[599, 1] = value
    for reader in READERS:
        with pytest.raises(ValueError, match=r"(?s)row 599\b.*column 1\b"):
            getattr(fitted, reader)(X)


def test_the_first_bad_value_is_named_in_any_memory_layout(blobs):
    X = blobs[0].copy()
    X[400, 0] = X[70, 2] = X[71, 1] = np.nan
    strided = np.repeat(X, 2, axis=0)[::2]
    for data in (np.asfortranarray(X), strided, X.astype(np.float16), X.astype(">f8"), X.tolist()):
        with pytest.raises(ValueError, match=r"(?s)row 70\b.*column 2\b"):
            GaussianMixture(3).fit(data)


def test_a_row_of_weight_zero_must_be_finite_too(blobs):
    X = blobs[0].copy()
    X[10, 1] = np.nan
    sample_weight = np.ones(len(X))
    sample_weight[10] = 0
    with pytest.raises(ValueError, match=r"(?s)row 10\b.*column 1\b"):
        GaussianMixture(3).fit(X, sample_weight=sample_weight)


MALFORMED = {
    "no rows": np.zeros((0, 3)),
    "no columns": np.zeros((5, 0)),
    "1-D": np.ones(3),
    "0-D": np.float64(3.0),
    "3-D": np.ones((2, 3, 4)),
    "complex": np.ones((4, 3)) + 1j,
    "objects": np.array([["a", "b", "c"], ["d", "e", "f"]], dtype=object),
    "sparse": csr_array(np.eye(3)),
    "one row": np.ones((1, 3)),
    "strings": np.array([["a", "b", "c"], ["d", "e", "f"]]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_data_raise_in_fit_what_scikit_learn_raises(name, same_error):
    same_error(lambda estimator: estimator().fit(MALFORMED[name]))


# One row is enough to predict; and for strings scikit-learn has two sentences, ours is that of `fit`.
@pytest.mark.parametrize("name", sorted(MALFORMED.keys() - {"one row", "strings"}))
def test_malformed_data_raise_in_predict_what_scikit_learn_raises(name, blobs, same_error):
    same_error(lambda estimator: estimator(random_state=0).fit(blobs[0]).predict(MALFORMED[name]))


def test_fewer_rows_than_components_raise_what_scikit_learn_raises(blobs, same_error):
    same_error(lambda estimator: estimator(7).fit(blobs[0][:6]))


@pytest.mark.parametrize("reader", READERS)
def test_a_wrong_number_of_columns_raises_what_scikit_learn_raises(reader, blobs, same_error):
    same_error(lambda estimator: getattr(estimator().fit(blobs[0]), reader)(blobs[0][:, :2]))


@pytest.mark.parametrize(
    ("sample_weight", "cause"),
    [
        (np.zeros(600), "sample_weight.*zero"),
        (np.where(np.arange(600) == 5, -1.0, 1.0), r"sample_weight.*5\b"),
        (np.where(np.arange(600) == 5, np.nan, 1.0), r"sample_weight.*5\b"),
        (np.where(np.arange(600) == 5, np.inf, 1.0), r"sample_weight.*5\b"),
        (np.ones(599), "sample_weight.*599"),
        (np.ones((600, 1)), "sample_weight"),
    ],
    ids=["zero", "negative", "NaN", "infinite", "wrong length", "2-D"],
)
def test_bad_weights_are_named(sample_weight, cause, blobs, model):
    X, _ = blobs
    for action in (GaussianMixture(3).fit, GaussianMixture(3).fit_predict, model.score, model.aic, model.bic):
        with pytest.raises(ValueError, match=f"(?s){cause}"):
            action(X, sample_weight=sample_weight)


# ---- degenerate data ----

DEGENERATE = {
    "four distinct rows, eight components": (
        np.repeat([[-1.0, -1], [-1, 1], [1, -1], [1, 1]], 100, axis=0),
        8,
    ),
    "all rows equal": (np.full((10, 2), 3.0), 2),
    "as many components as rows": (np.array([[0.0, 0], [1, 5], [7, 2], [-4, 3]]), 4),
    "fewer rows than columns": (np.array([[0.0, 1, 2], [3, 7, 1]]), 1),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data_with_a_ridge_give_finite_parameters(covariance_type, name):
    X, n_components = DEGENERATE[name]
    documented = (ConstantColumnWarning, ConvergenceWarning, EmptyComponentWarning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GaussianMixture(n_components, covariance_type=covariance_type, random_state=0).fit(X)
    assert all(issubclass(warning.category, documented) for warning in caught)
    for parameter in PARAMETERS:
        assert np.isfinite(getattr(model, parameter)).all(), parameter
    assert np.all(model.weights_ >= 0)
    assert model.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(model.log_likelihood_)


# Two rows determine the variances of three columns, but not their covariances.
SINGULAR = [
    (name, covariance_type)
    for name in DEGENERATE
    for covariance_type in COVARIANCE_TYPES
    if name != "fewer rows than columns" or covariance_type in ("full", "tied")
]


@pytest.mark.parametrize(("name", "covariance_type"), SINGULAR)
def test_degenerate_data_without_a_ridge_are_refused(name, covariance_type):
    X, n_components = DEGENERATE[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantColumnWarning)
        with pytest.raises(ValueError, match=ILL_DEFINED):
            GaussianMixture(n_components, covariance_type=covariance_type, reg_covar=0.0, random_state=0).fit(X)


def test_empty_components_are_reported():
    X, n_components = DEGENERATE["four distinct rows, eight components"]
    with pytest.warns(EmptyComponentWarning, match=r"component"):
        model = GaussianMixture(n_components, random_state=0).fit(X)
    assert np.sum(model.weights_ > 0.01) == 4


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_a_constant_column_is_named_and_gets_the_ridge_as_variance(covariance_type, blobs):
    X, labels = blobs
    settings = {"covariance_type": covariance_type, "init_params": labels}
    with pytest.warns(ConstantColumnWarning, match=r"column 1\b") as seen:
        model = GaussianMixture(3, **settings).fit(np.insert(X, 1, 2.5, axis=1))
    assert [warning.filename for warning in seen] == [__file__]  # the line that calls fit
    others = GaussianMixture(3, **settings).fit(X)
    np.testing.assert_allclose(np.delete(model.means_, 1, axis=1), others.means_, rtol=1e-9)
    np.testing.assert_array_equal(model.means_[:, 1], 2.5)
    variances = model.covariances_[:, 1] if covariance_type == "diag" else model.covariances_[..., 1, 1]
    np.testing.assert_allclose(variances, 1e-6, rtol=1e-9)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_a_constant_column_without_a_ridge_is_named_in_the_error(covariance_type, blobs):
    X = np.insert(blobs[0], 1, 2.5, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantColumnWarning)
        with pytest.raises(ValueError, match=rf"(?s){ILL_DEFINED}.*column 1\b"):
            GaussianMixture(3, covariance_type=covariance_type, reg_covar=0.0, random_state=0).fit(X)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_collapsed_component_is_named_with_its_weight_and_column(covariance_type, blobs):
    X = np.vstack([blobs[0][:594], np.full((6, 3), 8.0)])
    labels = np.repeat([0, 1], [594, 6])
    model = GaussianMixture(2, covariance_type=covariance_type, reg_covar=0.0, init_params=labels)
    with pytest.raises(ValueError, match=rf"(?s){ILL_DEFINED}.*[Cc]omponent 1\b") as caught:
        model.fit(X)
    assert re.search(r"weight\D*0\.01", str(caught.value))
    assert re.search(r"column \d", str(caught.value))


# ---- scale ----


@pytest.mark.parametrize("scale", [1e160, 1e-160, 1e-310])
def test_data_of_extreme_scale_give_the_scaled_fit_or_are_refused(covariance_type, scale, blobs):
    X, labels = blobs
    settings = {"covariance_type": covariance_type, "init_params": labels, "reg_covar": 0.0}
    try:
        model, refusal = GaussianMixture(3, **settings).fit(X * scale), None
    except ValueError as error:
        model, refusal = None, str(error)
    if model is None:
        assert re.search("(?i)scale", refusal)
        return
    plain = GaussianMixture(3, **settings).fit(X)
    np.testing.assert_allclose(model.means_ / scale, plain.means_, rtol=1e-8)
    shifted = model.log_likelihood_ + X.size * math.log(scale)
    assert shifted == pytest.approx(plain.log_likelihood_, rel=1e-8)
    for parameter in PARAMETERS:
        assert np.isfinite(getattr(model, parameter)).all(), parameter


@pytest.mark.parametrize("scale", [1e-160, 1e-310])
def test_a_ridge_that_buries_tiny_data_is_never_silent(covariance_type, scale, blobs):
    # Warnings are errors in this suite.
    with pytest.raises((ValueError, RegularizationWarning)):
        GaussianMixture(3, covariance_type=covariance_type, init_params=blobs[1]).fit(blobs[0] * scale)


def test_a_ridge_that_is_not_small_against_a_column_names_that_column(covariance_type, blobs):
    X, labels = blobs
    settings = {"covariance_type": covariance_type, "init_params": labels}
    with pytest.warns(RegularizationWarning, match=r"(?s)reg_covar.*column 2\b") as caught:
        GaussianMixture(3, **settings).fit(X * [1.0, 1.0, 1e-4])
    assert not any(re.search(r"column [01]\b", str(warning.message)) for warning in caught)
    GaussianMixture(3, reg_covar=1e-14, **settings).fit(X * [1.0, 1.0, 1e-4])


# ---- parameters ----

BAD_PARAMETERS = [
    *[("n_components", value) for value in (0, -1, 2.0, "2", None)],
    *[("covariance_type", value) for value in ("Full", 1, None)],
    *[("tol", value) for value in (-1e-3, "small", None, np.nan)],
    *[("reg_covar", value) for value in (-1e-6, "none", None)],
    *[("max_iter", value) for value in (-1, 1.5, None)],
    *[("n_init", value) for value in (0, 1.5, "10")],
    *[(name, 0.5) for name in ("weights_init", "means_init", "precisions_init")],
    *[("random_state", value) for value in (-1, 1.5, "seed")],
    *[("warm_start", value) for value in ("yes", None)],
    *[("verbose", value) for value in (-1, "yes")],
    *[("verbose_interval", value) for value in (0, 1.5)],
]


@pytest.mark.parametrize(("name", "value"), BAD_PARAMETERS)
def test_a_bad_parameter_raises_what_scikit_learn_raises_but_only_in_fit(name, value, blobs, same_error):
    GaussianMixture(**{name: value})
    error = same_error(lambda estimator: estimator(**{name: value}).fit(blobs[0]))
    assert str(error).startswith(f"The '{name}' parameter of GaussianMixture must be")


@pytest.mark.parametrize(
    ("name", "value"),
    [("init_params", "kmean"), ("init_params", 3), ("n_jobs", 0), ("n_jobs", 1.5), ("callback", "print")],
)
def test_a_bad_parameter_of_our_own_raises_alike(name, value, blobs):
    with pytest.raises(ValueError, match=f"^The '{name}' parameter of GaussianMixture must be") as caught:
        GaussianMixture(**{name: value}).fit(blobs[0])
    assert isinstance(caught.value, TypeError)  # as scikit-learn's InvalidParameterError is


NOT_SYMMETRIC = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
BAD_STARTS = {
    "weights: shape": {"weights_init": [0.5, 0.5]},
    "weights: negative": {"weights_init": [-0.5, 0.5, 1.0]},
    "weights: sum": {"weights_init": [0.5, 0.5, 0.5]},
    "means: components": {"means_init": np.zeros((2, 3))},
    "means: features": {"means_init": np.zeros((3, 2))},
    "full: shape": {"precisions_init": np.eye(3)},
    "full: not symmetric": {"precisions_init": [NOT_SYMMETRIC] * 3},
    "full: not positive": {"precisions_init": [-np.eye(3)] * 3},
    "tied: shape": {"covariance_type": "tied", "precisions_init": np.eye(2)},
    "tied: not symmetric": {"covariance_type": "tied", "precisions_init": NOT_SYMMETRIC},
    "tied: not positive": {"covariance_type": "tied", "precisions_init": -np.eye(3)},
    "diag: shape": {"covariance_type": "diag", "precisions_init": np.ones(3)},
    "diag: not positive": {"covariance_type": "diag", "precisions_init": np.zeros((3, 3))},
    "spherical: shape": {"covariance_type": "spherical", "precisions_init": np.ones(2)},
    "spherical: not positive": {"covariance_type": "spherical", "precisions_init": -np.ones(3)},
}


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("weights_init", [np.nan, 0.5, 0.5], "weights contains NaN"),
        ("means_init", np.full((3, 3), np.nan), "means contains NaN"),
        ("precisions_init", np.full((3, 3, 3), np.inf), "precision contains infinity"),
    ],
)
def test_start_values_that_are_not_finite_are_named(name, value, cause, blobs):
    with pytest.raises(ValueError, match=cause):
        GaussianMixture(3, **{name: value}).fit(blobs[0])


@pytest.mark.parametrize(
    "init_params",
    [
        np.zeros(599, dtype=int),
        np.full(600, 3),
        np.full(600, -1),
        np.zeros(600),
        np.full((600, 2), 0.5),
        np.full((600, 3), np.nan),
        np.tile([1.5, -0.5, 0.0], (600, 1)),
        lambda X, n_components, random_state: np.zeros((n_components + 1, X.shape[1])),
        lambda X, n_components, random_state: None,
    ],
    ids=["few labels", "label k", "label -1", "float labels", "columns", "NaN", "negative", "means", "None"],
)
def test_a_bad_start_names_init_params(init_params, blobs):
    with pytest.raises(ValueError, match="init_params"):
        GaussianMixture(3, init_params=init_params).fit(blobs[0])


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"weights": [0.5, 0.6]}, "weights"),
        ({"weights": [-0.5, 1.5]}, "weights"),
        ({"weights": [0.5, np.nan]}, "weights"),
        ({"weights": [1.0]}, "weights"),
        ({"means": [[0.0, np.inf], [1.0, 1.0]]}, "means"),
        ({"means": [0.0, 1.0]}, "means"),
        ({"covariances": [np.eye(3)] * 2}, "covariances"),
        ({"covariances": [[[1.0, 0.5], [0.0, 1.0]]] * 2}, "covariances"),
        ({"covariances": [np.eye(2), -np.eye(2)]}, "covariances"),
        ({"covariance_type": "round"}, "covariance_type"),
    ],
)
def test_bad_parameters_of_a_given_mixture_are_named(changed, cause):
    good = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [1.0, 1.0]], "covariances": [np.eye(2)] * 2}
    GaussianMixture.from_parameters(**good)
    with pytest.raises(ValueError, match=cause):
        GaussianMixture.from_parameters(**(good | changed))
