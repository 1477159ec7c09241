"""`StandardisedMixture`: the same on arrays and files, in blocks, with weights, in the units of the rows."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from fastgmm import (
    BayesianGaussianMixture,
    GaussianMixture,
    MixtureOfFactorAnalyzers,
    StandardisedMixture,
    load,
    open_source,
)
from fastgmm.plot import ConvergenceDisplay, MixtureDisplay
from fastgmm.representation.scaling import Standardisation
from fastgmm.representation.transformed import TransformedSource
from fastgmm.rows.source import ArraySource

SCALE = np.array([1e5, 1.0, 1e-4])


@pytest.fixture
def rows(blobs):
    return blobs[0] * SCALE + [1e6, 0, 1]


def standardised(**settings):
    return StandardisedMixture(GaussianMixture(3, random_state=0, **settings))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_files_and_arrays_give_the_model_of_rows_standardised_by_hand(rows, dtype, tmp_path):
    X = rows.astype(dtype)
    np.save(tmp_path / "rows.npy", X)
    Z = Standardisation().fit(X).transform(X)
    by_hand = GaussianMixture(3, random_state=0).fit(Z)
    shift = -np.log(X.astype(np.float64).std(axis=0)).sum()
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    for data in (X, tmp_path / "rows.npy", open_source(tmp_path / "rows.npy", batch_rows=100)):
        model = standardised().fit(data)
        np.testing.assert_allclose(model.mixture.means_, by_hand.means_, atol=tolerance)
        np.testing.assert_array_equal(model.predict(data), by_hand.predict(Z))
        np.testing.assert_allclose(model.predict_proba(data), by_hand.predict_proba(Z), atol=tolerance)
        scores = model.score_samples(data)
        assert scores.dtype == model.means_.dtype == model.predict_proba(data).dtype == dtype
        np.testing.assert_allclose(scores, by_hand.score_samples(Z) + shift, atol=50 * tolerance)
        assert model.score(data) == pytest.approx(by_hand.score(Z) + shift, abs=50 * tolerance)
        assert model.log_likelihood_ == pytest.approx(model.score(data) * len(X), rel=1e-6)
        assert model.bic(data) == pytest.approx(by_hand.bic(Z) - 2 * len(X) * shift, rel=1e-6)
        assert model.aic(data) == pytest.approx(by_hand.aic(Z) - 2 * len(X) * shift, rel=1e-6)
        np.testing.assert_array_equal(standardised().fit_predict(data), model.predict(data))


def test_a_weight_of_two_is_the_row_twice_in_the_standardisation_too(rows):
    weight = np.arange(len(rows)) % 3
    settings = {"means_init": [[-1.0] * 3, [0.0] * 3, [1.0] * 3]}
    weighted = standardised(**settings).fit(rows, sample_weight=weight)
    repeated = standardised(**settings).fit(np.repeat(rows, weight, axis=0))
    np.testing.assert_allclose(weighted.standardisation.mean_, repeated.standardisation.mean_, rtol=1e-12)
    np.testing.assert_allclose(weighted.standardisation.scale_, repeated.standardisation.scale_, rtol=1e-12)
    assert weighted.score(rows, sample_weight=weight) == pytest.approx(
        repeated.score(np.repeat(rows, weight, axis=0)), abs=0.05
    )
    assert weighted.log_likelihood_ == pytest.approx(
        weighted.score(rows, sample_weight=weight) * weight.sum(), rel=1e-9
    )


@pytest.mark.parametrize(
    "read", [lambda path, X: X, lambda path, X: open_source(path, batch_rows=2**15)], ids=["array", "file"]
)
def test_a_fit_copies_blocks_not_all_rows(read, tmp_path):
    X = np.random.default_rng(0).normal(size=(2_000_000, 8))  # samples are bounded, all rows are not
    np.save(tmp_path / "rows.npy", X)
    data = X if read == "array" else open_source(tmp_path / "rows.npy", batch_rows=2**15)
    model = StandardisedMixture(GaussianMixture(2, random_state=0, max_iter=2, tol=1e9))
    model.fit(X[:5000])  # whatever is loaded at first use
    tracemalloc.start()
    model.fit(data).score(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.8 * X.nbytes


def test_names_width_and_bad_values_are_those_of_the_rows(rows):
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    model = standardised().fit(frame)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.n_features_in_ == 3
    np.testing.assert_array_equal(model.predict(frame), standardised().fit(rows).predict(rows))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match="expecting 3 features"):
        standardised().fit(rows).predict(rows[:, :2])
    bad = rows.copy()
    bad[7, 1] = np.nan
    for use in (standardised().fit, standardised().fit(rows).score_samples):
        with pytest.raises(ValueError, match="row 7, column 1"):
            use(bad)


def test_missing_values_are_imputed_in_the_units_of_the_rows(rows):
    gaps = rows.copy()
    gaps[::5, 2] = np.nan
    model = standardised(missing="em").fit(gaps)
    filled = model.impute(gaps)
    present = ~np.isnan(gaps)
    np.testing.assert_array_equal(filled[present], gaps[present])
    assert np.abs(filled[~present] - rows[~present]).mean() < 0.5 * rows[:, 2].std()


def test_parameters_are_read_and_set(rows):
    model = standardised().fit(rows)
    assert model.get_params()["mixture__n_components"] == 3
    assert set(model.get_params(deep=False)) == {"mixture", "standardisation"}
    assert model.set_params(mixture__n_components=2, mixture__tol=1e-4).mixture.n_components == 2
    assert model.fit(rows).weights_.shape == (2,)
    assert "n_components=2" in repr(model)
    for name in ("bogus", "mixture__bogus"):
        with pytest.raises(ValueError, match="Invalid parameter 'bogus'"):
            model.set_params(**{name: 1})


def test_clones_are_not_fitted(rows):
    from sklearn.base import clone

    model = standardised().fit(rows)
    copy = clone(model)
    assert copy.mixture is not model.mixture
    with pytest.raises(ValueError, match="not fitted"):
        copy.predict(rows)
    np.testing.assert_array_equal(copy.fit(rows).means_, model.means_)


def test_a_failed_fit_leaves_the_model_as_it_was(rows):
    model = standardised().fit(rows)
    before = model.score_samples(rows)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.where(rows == rows[3], np.inf, rows))
    with pytest.raises(ValueError, match="n_components"):
        model.fit(rows[:2, :2])
    np.testing.assert_array_equal(model.score_samples(rows), before)
    with pytest.raises(TypeError, match="mixture must be one of"):
        StandardisedMixture(object()).fit(rows)


def test_a_warm_start_goes_on_in_the_same_units(rows):
    model = standardised(warm_start=True, tol=1e-9).fit(rows)
    scale, n_iter = model.standardisation.scale_, model.n_iter_
    assert model.fit(rows).n_iter_ < n_iter
    np.testing.assert_array_equal(model.fit(rows[:400]).standardisation.scale_, scale)


@pytest.mark.parametrize(
    "mixture",
    [
        BayesianGaussianMixture(n_components=3, random_state=0),
        MixtureOfFactorAnalyzers(3, 1, random_state=0),
        GaussianMixture(3, noise=0.1, random_state=0),
    ],
    ids=["bayesian", "factors", "noise"],
)
def test_every_mixture_is_kept_and_drawn_in_the_units_of_the_rows(rows, mixture, tmp_path):
    model = StandardisedMixture(mixture).fit(rows)
    model.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.score_samples(rows), model.score_samples(rows))
    assert loaded.log_likelihood_ == model.log_likelihood_
    assert loaded.n_features_in_ == 3
    display = MixtureDisplay.from_estimator(loaded, rows, features=(0, 2))
    np.testing.assert_allclose(display.mixture.means, model.means_[:, [0, 2]], rtol=1e-12)
    drawn = model.sample(20_000)[0][:, [0, 2]]
    weights = display.mixture.weights / display.mixture.weights.sum()
    between = np.einsum("k,ki,kj->ij", weights, *[display.mixture.means - weights @ display.mixture.means] * 2)
    expected = between + np.einsum("k,kij->ij", weights, display.mixture.covariances)
    if display.mixture.noise is None:
        np.testing.assert_allclose(np.cov(drawn.T) / np.outer(SCALE[[0, 2]], SCALE[[0, 2]]),
                                   expected / np.outer(SCALE[[0, 2]], SCALE[[0, 2]]), atol=0.5)  # fmt: skip
    else:
        low, high = display.mixture.noise.bounds
        assert (low <= rows[:, [0, 2]].min(axis=0) + SCALE[[0, 2]]).all()
        assert (high >= rows[:, [0, 2]].max(axis=0) - SCALE[[0, 2]]).all()
    assert len(ConvergenceDisplay.from_estimator(loaded).lower_bounds) == model.n_iter_
    has_criteria = not isinstance(mixture, BayesianGaussianMixture)
    assert hasattr(mixture, "bic") == has_criteria
    if not has_criteria:
        with pytest.raises(AttributeError, match="no information criteria"):
            model.bic(rows)


def test_a_transformed_source_reads_as_the_transform_of_the_whole(rows):
    transform = Standardisation().fit(rows)
    source = TransformedSource(ArraySource(rows), transform, ["a", "b", "c"])
    expected = transform.transform(rows)
    np.testing.assert_array_equal(np.concatenate([block for _, block in source.chunks()]), expected)
    index = np.array([5, 2, 599, 5])
    np.testing.assert_array_equal(source.take(index), expected[index])
    single = source.read_as(np.float32)
    assert (single.dtype, single.names, single.n_samples) == (np.float32, ["a", "b", "c"], len(rows))
    assert next(iter(single.chunks()))[1].dtype == np.float32


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [GaussianMixture, lambda k, **settings: MixtureOfFactorAnalyzers(k, 1, **settings)])
def test_scores_of_rows_with_gaps_are_densities_of_their_values(make, weighted):
    """Integrated over a column's values they give the density of the others: the scale of a gap is in no density."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2)) @ [[1, 50], [0, 80]] + [3, 1000]
    X[rng.random(X.shape) < 0.2] = np.nan
    weight = rng.uniform(0.5, 2, len(X)) if weighted else None
    model = StandardisedMixture(make(1, missing="em")).fit(X, sample_weight=weight)
    values = np.linspace(-1500, 3500, 4001)
    pairs = np.stack([np.full_like(values, 2.5), values], axis=1)
    total = np.trapezoid(np.exp(model.score_samples(pairs)), values)
    some, none = model.score_samples([[2.5, np.nan], [np.nan, np.nan]])
    assert some == pytest.approx(np.log(total), abs=1e-9)
    assert none == pytest.approx(0.0, abs=1e-12)
    scores = model.score_samples(X)
    assert model.log_likelihood_ == pytest.approx(np.sum(scores if weight is None else weight * scores), rel=1e-12)
    again = StandardisedMixture(model.mixture.set_params(warm_start=True))
    again.standardisation = model.standardisation
    again.fit(X, sample_weight=weight)
    scores = again.score_samples(X)
    assert again.log_likelihood_ == pytest.approx(np.sum(scores if weight is None else weight * scores), rel=1e-12)
