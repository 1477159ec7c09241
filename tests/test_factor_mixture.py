"""MixtureOfFactorAnalyzers: what a fit promises, how it starts and stops, and an estimator among estimators."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastgmm
from fastgmm import GaussianMixture
from fastgmm import MixtureOfFactorAnalyzers as Mixture
from fastgmm.exceptions import (
    ConstantColumnWarning,
    ConvergenceWarning,
    EmptyComponentWarning,
    InvalidParameterError,
    NotFittedError,
)
from fastgmm.images import ImageGenerator
from fastgmm.optimization.clustering import BlockedSample, Nearest, kmeans_plusplus
from tests.conftest import read_only
from tests.reference_factor_mixture import covariance, log_likelihood, responsibilities
from tests.test_factor_reference import draw, random_parameters

STRUCTURES = [(noise_type, shared) for noise_type in ("diagonal", "isotropic") for shared in (False, True)]
ATTRIBUTES = ("weights_", "means_", "loadings_", "noise_variance_")
READERS = ("predict", "predict_proba", "score_samples", "score", "aic", "bic", "impute", "reconstruct")


@pytest.fixture(scope="module")
def truth():
    return random_parameters(3, 8, 2)


@pytest.fixture(scope="module")
def rows(truth):
    return read_only(draw(truth, 240))


@pytest.fixture(scope="module")
def labels(truth, rows):
    return read_only(responsibilities(rows, truth).argmax(axis=1))


@pytest.fixture
def model(truth):
    return Mixture.from_parameters(*truth, random_state=0)


def quietly(mixture, X, **data):
    """Fit; not converging is no matter here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Best performing initialization did not converge", ConvergenceWarning)
        return mixture.fit(X, **data)


def bits(mixture):
    return b"".join(getattr(mixture, name).tobytes() for name in ATTRIBUTES)


def covariances(mixture):
    return np.stack([mixture.get_covariance(k) for k in range(len(mixture.weights_))])


def assert_same_mixture(one, other, rtol):
    """Loadings are determined but for a rotation: their covariances are compared."""
    np.testing.assert_allclose(one.weights_, other.weights_, rtol=rtol)
    np.testing.assert_allclose(one.means_, other.means_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(one.noise_variance_, other.noise_variance_, rtol=rtol)
    np.testing.assert_allclose(covariances(one), covariances(other), rtol=rtol, atol=rtol)


# ---- what a fit promises ----


@pytest.mark.parametrize("noise_prior", [None, (2.0, 0.01)], ids=["ml", "map"])
@pytest.mark.parametrize(("noise_type", "shared_noise"), STRUCTURES)
def test_the_objective_never_falls(noise_type, shared_noise, noise_prior, rows):
    X = rows * np.geomspace(0.03, 1, 8)  # one noise for all of them is a poor fit
    for seed in range(5):
        model = Mixture(
            4, 3, noise_type=noise_type, shared_noise=shared_noise, noise_prior=noise_prior, noise_floor=1e-12,
            init_params="random" if seed % 2 else "kmeans", random_state=seed, tol=0, max_iter=50, n_jobs=1,
        )  # fmt: skip
        quietly(model, X)
        bounds = np.array(model.lower_bounds_)
        assert model.n_iter_ == 50
        assert model.noise_variance_.min() > 1e-12  # under an active floor the likelihood may fall
        assert np.diff(bounds).min() >= -1e-9 * np.abs(bounds).max(), (seed, np.diff(bounds).min())
        assert np.ptp(model.noise_variance_, axis=1).max() == 0 or noise_type == "diagonal"
        assert np.ptp(model.noise_variance_, axis=0).max() == 0 or not shared_noise
        assert model.score(X) == pytest.approx(model.log_likelihood_ / len(X), rel=1e-12)


def test_a_fit_finds_the_mixture_the_rows_come_from():
    truth = random_parameters(3, 12, 2)
    X, held_out = draw(truth, 6000), draw(truth, 4000, seed=7)
    model = Mixture(3, 2, random_state=0, tol=1e-5, n_init=3).fit(X)
    assert model.converged_
    order = [int(np.argmin(((model.means_ - mean) ** 2).sum(axis=1))) for mean in truth.means]
    assert sorted(order) == [0, 1, 2]
    count = len(X) * truth.weights
    np.testing.assert_allclose(model.weights_[order], truth.weights, atol=5 * np.sqrt(0.25 / len(X)))
    dense = np.stack([covariance(*pair) for pair in zip(truth.loadings, truth.noise, strict=True)])
    spread = np.sqrt(np.diagonal(dense, axis1=1, axis2=2))
    assert np.all(np.abs(model.means_[order] - truth.means) < 5 * spread / np.sqrt(count)[:, None])
    # The excess of a fit over the truth on new rows is about half a nat per parameter and row of the fit.
    loss = log_likelihood(held_out, truth).mean() - model.score(held_out)
    assert loss < model._n_parameters() / len(X)


@pytest.mark.parametrize("missing", ["raise", "em"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_results_are_the_same_bits_for_any_number_of_threads(dtype, missing, truth):
    X = draw(truth, 6000 if missing == "raise" else 1500).astype(dtype)
    if missing == "em":
        X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    settings = {"missing": missing, "random_state": 0, "tol": 0, "max_iter": 4}
    first, *others = (quietly(Mixture(3, 2, n_jobs=n_jobs, **settings), X) for n_jobs in (1, 2, 3, 1, None))
    assert all(getattr(first, name).dtype == dtype for name in ATTRIBUTES)
    for other in others:
        assert bits(other) == bits(first)
        assert other.lower_bounds_ == first.lower_bounds_
        np.testing.assert_array_equal(other.predict_proba(X), first.predict_proba(X))
        np.testing.assert_array_equal(other.score_samples(X), first.score_samples(X))


def test_float32_rows_give_the_float64_fit_to_rounding(rows, labels):
    fits = [
        quietly(Mixture(3, 2, init_params=labels, max_iter=5, random_state=0), rows.astype(t))
        for t in (np.float64, np.float32)
    ]
    # Loadings start with random noise of the same seed only where directions lack; five steps keep four digits.
    np.testing.assert_allclose(fits[1].score_samples(rows), fits[0].score_samples(rows), rtol=1e-3)
    assert fits[1].lower_bounds_[0].dtype == np.float32
    assert fits[1].score_samples(rows.astype(np.float32)).dtype == np.float32


def test_float32_rows_near_planes_are_fitted_like_float64(truth):
    """Components of fewer rows than factors have noise at the floor, 10^8 widths below loadings of the rows' size."""
    X = np.round(255 * draw(random_parameters(3, 12, 2), 60)).astype(np.float32)
    settings = {"noise_floor": 1e-6, "random_state": 0, "tol": 0, "max_iter": 12}
    fits = []
    for dtype in (np.float64, np.float32):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(Mixture(10, 6, **settings).fit(X.astype(dtype)))
    assert (fits[0].loadings_ ** 2 / fits[0].noise_variance_[:, :, None]).sum(axis=(1, 2)).max() > 1e8
    np.testing.assert_allclose(fits[1].lower_bounds_, fits[0].lower_bounds_, rtol=1e-4)
    single = Mixture.from_parameters(*(getattr(fits[0], name).astype(np.float32) for name in ATTRIBUTES))
    expected = single.score_samples(X.astype(np.float64))  # of the same rounded parameters
    np.testing.assert_allclose(single.score_samples(X), expected, rtol=1e-6)
    assert single.score_samples(X).dtype == single.predict_proba(X).dtype == np.float32
    np.testing.assert_allclose(single.predict_proba(X), single.predict_proba(X.astype(np.float64)), atol=1e-6)


def test_weights_of_rows_are_repetitions_and_zero_is_absence(rows, labels):
    repeats = np.random.default_rng(5).integers(0, 4, size=len(rows))
    repeated = [np.repeat(array, repeats, axis=0) for array in (rows, labels)]
    settings = {"max_iter": 8, "tol": 0, "random_state": 0, "noise_prior": (1.0, 0.1)}
    weighted = quietly(Mixture(3, 2, init_params=labels, **settings), rows, sample_weight=repeats)
    expected = quietly(Mixture(3, 2, init_params=repeated[1], **settings), repeated[0])
    # The same numbers in another order of summation.
    np.testing.assert_allclose(weighted.lower_bounds_, expected.lower_bounds_, rtol=1e-10)
    assert_same_mixture(weighted, expected, 1e-8)
    assert weighted.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    present = repeats > 0
    half = quietly(
        Mixture(3, 2, init_params=labels[present], **settings), rows[present], sample_weight=repeats[present]
    )
    assert_same_mixture(weighted, half, 1e-8)


def test_a_label_whose_rows_have_no_weight_starts_somewhere(rows, labels):
    weight = np.where(labels == 1, 0.0, 2.0)
    model = quietly(Mixture(3, 2, init_params=labels, random_state=0, max_iter=3), rows, sample_weight=weight)
    assert all(np.isfinite(getattr(model, name)).all() for name in ATTRIBUTES)
    assert model.score(rows, sample_weight=weight) == pytest.approx(model.log_likelihood_ / weight.sum(), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_unit_of_weights_does_not_matter(scale, rows, labels):
    settings = {"init_params": labels, "max_iter": 4, "tol": 0, "random_state": 0}
    expected = quietly(Mixture(3, 2, **settings), rows)
    model = quietly(Mixture(3, 2, **settings), rows, sample_weight=np.full(len(rows), scale))
    assert_same_mixture(model, expected, 1e-9)


# ---- starts, stopping ----


def test_labels_start_from_the_moments_of_their_rows(rows, labels):
    model = Mixture(3, 2, init_params=labels, max_iter=0, random_state=0).fit(rows)
    assert (model.n_iter_, model.lower_bound_, model.lower_bounds_) == (0, -np.inf, [])
    typical = rows.var(axis=0).mean()
    for k in range(3):
        of = rows[labels == k]
        assert model.weights_[k] == pytest.approx(len(of) / len(rows), rel=1e-12)
        np.testing.assert_allclose(model.means_[k], of.mean(axis=0), rtol=1e-10)
        # Loadings carry random noise of 1e-3 of the typical width, so that no column is zero.
        np.testing.assert_allclose(np.diag(model.get_covariance(k)), of.var(axis=0) + 0.01 * typical, rtol=0.02)


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_named_starts_differ_by_seed_only(init_params, rows):
    fits = [quietly(Mixture(3, 2, init_params=init_params, random_state=s, max_iter=2), rows) for s in (0, 0, 1)]
    assert bits(fits[0]) == bits(fits[1]) != bits(fits[2])


def test_kmeans_finds_clusters_that_lie_apart(truth):
    X = draw(truth._replace(means=10 * truth.means), 300)
    expected = responsibilities(X, truth._replace(means=10 * truth.means)).argmax(axis=1)
    start = Mixture(3, 2, max_iter=0, random_state=0).fit(X)
    found = start.predict(X)
    assert len(set(zip(found, expected, strict=True))) == 3


def test_of_several_starts_the_best_is_kept(rows):
    last = {}

    def record(info):
        last[info.init] = info.lower_bound

    model = quietly(Mixture(4, 2, n_init=4, init_params="random", random_state=0, callback=record, max_iter=20), rows)
    assert sorted(last) == [0, 1, 2, 3]
    assert len(set(last.values())) > 1
    assert model.lower_bound_ == max(last.values())


@pytest.mark.parametrize(("noise_type", "shared_noise"), STRUCTURES)
def test_a_warm_start_continues_where_the_last_fit_ended(noise_type, shared_noise, rows, labels):
    settings = {"noise_type": noise_type, "shared_noise": shared_noise, "init_params": labels, "tol": 1e-9}
    whole = quietly(Mixture(3, 2, max_iter=4, random_state=0, **settings), rows)
    model = quietly(Mixture(3, 2, max_iter=2, random_state=0, warm_start=True, **settings), rows)
    quietly(model, rows)
    assert_same_mixture(model, whole, 1e-9)
    np.testing.assert_allclose(model.lower_bounds_, whole.lower_bounds_[2:], rtol=1e-12)
    with pytest.raises(ValueError, match=r"warm_start=True continues .*\(3, 8, 2\).*ask for \(3, 8, 3\)"):
        model.set_params(n_factors=3).fit(rows)
    model.set_params(n_factors=2, noise_type="isotropic", noise_floor=2.0, max_iter=0).fit(rows)
    assert np.all(model.noise_variance_ >= 2.0)  # the old parameters, as the new settings allow them
    assert np.ptp(model.noise_variance_, axis=1).max() == 0


def test_a_callback_stops_the_fit(rows):
    model = Mixture(3, 2, random_state=0, tol=0, callback=lambda info: info.n_iter == 3).fit(rows)
    assert (model.n_iter_, model.stop_reason_, model.converged_) == (3, "callback", False)


def test_verbose_tells_of_the_iterations(rows, capsys):
    quietly(Mixture(2, 2, random_state=0, verbose=2, verbose_interval=1, max_iter=2), rows)
    assert "Iteration 1" in capsys.readouterr().out


def test_fit_predict_gives_the_labels_of_predict(rows):
    model = Mixture(3, 2, random_state=0, tol=1e-2)
    np.testing.assert_array_equal(model.fit_predict(rows), model.predict(rows))


# ---- degenerate rows ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_identical_rows_leave_noise_at_its_floor(n_components, dtype):
    X = np.full((50, 6), 3.7, dtype)
    with pytest.warns(
        ConstantColumnWarning, match="along column 0, column 1, column 2, column 3, column 4, column 5: its"
    ):
        model = Mixture(n_components, 2, noise_floor=1e-4, random_state=0).fit(X)
    np.testing.assert_allclose(model.means_, X[:n_components], rtol=1e-6)
    assert np.all(model.noise_variance_ >= dtype(1e-4))
    assert all(np.isfinite(getattr(model, name)).all() for name in ATTRIBUTES)
    assert np.isfinite(model.score(X))


def test_kmeans_measures_rows_without_features():
    """Where no column varies; the kernels write distances only as they read features."""
    sample = BlockedSample.from_rows(np.empty((50, 0)), None)
    assert sample.blocks.shape == (1, 4, 64)
    centers = kmeans_plusplus(sample, 3, np.random.default_rng(0))
    assert np.all(Nearest.of(sample, centers).distance == 0)


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_fewer_distinct_rows_than_components(init_params, rows):
    X = np.repeat(rows[:3], 20, axis=0)
    model = Mixture(5, 2, init_params=init_params, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the floor is active
        model.fit(X)
    assert all(np.isfinite(getattr(model, name)).all() for name in ATTRIBUTES)
    assert np.all(model.noise_variance_ >= 1e-6)
    assert model.weights_.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(model.score_samples(X)).all()


def test_as_many_factors_as_features_and_as_few_rows_as_components(rows):
    one = quietly(Mixture(1, 8, random_state=0, max_iter=300, tol=1e-7), rows)
    sample = np.cov(rows.T, bias=True)
    # A full covariance, which EM nears from below.
    np.testing.assert_allclose(one.get_covariance(0), sample, atol=0.02 * np.abs(sample).max())
    few = Mixture(3, 2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        few.fit(rows[:3])
    assert np.isfinite(few.score_samples(rows)).all()


def test_a_component_without_rows_comes_back_to_life(rows):
    model = quietly(Mixture(3, 2, warm_start=True, random_state=0, max_iter=3), rows)
    model.means_[2] = 1e4
    model.set_params(max_iter=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bound of the moved means is lower than the last fit's
        warnings.simplefilter("error", EmptyComponentWarning)
        model.fit(rows)
    assert model.weights_.min() > 0.01
    assert np.abs(model.means_).max() < 100


def test_a_constant_feature_has_the_noise_of_the_floor(rows):
    X = np.column_stack([rows, np.full(len(rows), 5.0)])
    with pytest.warns(
        ConstantColumnWarning, match=r"column 8: its fitted variance is noise_floor = 0.001, and"
    ) as seen:
        model = quietly(Mixture(2, 2, noise_floor=1e-3, random_state=0), X)
    assert len(seen) == 1
    assert Path(seen[0].filename) == Path(__file__)  # the line that calls fit
    np.testing.assert_allclose(model.means_[:, -1], 5.0, rtol=1e-9)
    assert np.all(model.noise_variance_[:, -1] == 1e-3)


@pytest.mark.parametrize("settings", [{"noise_type": "isotropic"}, {"noise_prior": "auto"}, {"missing": "em"}])
def test_constant_features_are_counted_and_pixels_may_be_constant(rows, settings):
    X = np.column_stack([rows, np.ones((len(rows), 30))])
    X[0, 0] = np.nan if "missing" in settings else X[0, 0]
    variance = "noise_floor = 1e-06" if "missing" in settings else "noise alone"
    with pytest.warns(
        ConstantColumnWarning, match=f"column 26, column 27 and 10 more: its fitted variance is {variance}"
    ):
        quietly(Mixture(2, 2, random_state=0, max_iter=2, **settings), X)
    images = np.zeros((40, 4, 4))
    images[:, 1:3, 1:3] = np.random.default_rng(0).uniform(size=(40, 2, 2))
    assert len(ImageGenerator(1, n_factors=1, random_state=0).fit(images).mixture_.weights_) == 1  # without a warning


def test_the_floor_stays_above_what_float32_rounds_to_zero(rows):
    X = np.column_stack([rows, np.zeros(len(rows))]).astype(np.float32)
    with pytest.warns(ConstantColumnWarning):
        model = quietly(Mixture(2, 2, noise_floor=1e-60, random_state=0), X)
    assert np.all(model.noise_variance_ > 0)
    assert np.isfinite(model.score_samples(X)).all()


# ---- a model from parameters, drawing from it ----


def test_from_parameters_gives_the_density_of_these_parameters(truth, rows, model):
    np.testing.assert_allclose(model.score_samples(rows), log_likelihood(rows, truth), rtol=1e-11)
    np.testing.assert_array_equal(model.loadings_, truth.loadings)
    assert (model.n_components, model.n_factors, model.n_features_in_) == (3, 2, 8)
    scalar = Mixture.from_parameters(*truth[:3], 0.5)
    np.testing.assert_array_equal(scalar.noise_variance_, np.full((3, 8), 0.5))
    single = Mixture.from_parameters(*(np.asarray(value, np.float32) for value in truth))
    assert {getattr(single, name).dtype for name in ATTRIBUTES} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("loadings", np.zeros((3, 2, 8)), r"loadings must have shape \(3, 8, n_factors\)"),
        ("loadings", np.zeros((3, 8, 9)), "n_factors from 1 to 8"),
        ("loadings", np.full((3, 8, 2), np.nan), "loadings must be finite"),
        ("noise", np.zeros((3, 8)), "noise_variance finite and above 0"),
        ("noise", np.full((3, 8), np.inf), "noise_variance finite and above 0"),
        ("noise", np.ones((2, 3)), "broadcast"),
        ("weights", np.ones(3), "weights"),
        ("means", np.full((3, 8), np.nan), "NaN|finite"),
    ],
)
def test_parameters_of_no_mixture_are_refused(name, value, cause, truth):
    with pytest.raises(ValueError, match=cause):
        Mixture.from_parameters(*truth._replace(**{name: value}))


def test_attributes_set_by_hand_are_never_stale(truth, rows, model):
    model.score_samples(rows)
    model.means_[0] += 1.0
    model.noise_variance_ *= 2.0
    moved = truth._replace(means=model.means_, noise=2.0 * truth.noise)
    np.testing.assert_allclose(model.score_samples(rows), log_likelihood(rows, moved), rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan])
def test_variances_of_no_density_are_an_error(value, dtype, truth, rows):
    model = Mixture.from_parameters(*(np.asarray(array, dtype) for array in truth))
    model.noise_variance_[:] = value
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"component 0.* is not (positive|finite)"):
        model.score_samples(rows.astype(dtype))


@pytest.mark.parametrize("value", [-0.5, "much"])
def test_observation_noise_set_after_the_fit_is_checked(value, rows, model):
    model.set_params(obs_noise=value)
    for reader in ("score_samples", "predict", "impute", "reconstruct"):
        with pytest.raises(
            InvalidParameterError, match="The 'obs_noise' parameter of MixtureOfFactorAnalyzers must be"
        ):
            getattr(model, reader)(rows)


def test_drawn_rows_have_the_moments_of_the_mixture(truth, model):
    X, y = model.sample(60_000)
    assert (X.dtype, y.dtype) == (np.float64, np.int64)
    assert np.all(np.diff(y) >= 0)
    np.testing.assert_allclose(np.bincount(y) / len(y), truth.weights, atol=5 * np.sqrt(0.25 / len(y)))
    for k in range(3):
        diff, dense = X[y == k] - truth.means[k], covariance(truth.loadings[k], truth.noise[k])
        variances = np.diag(dense)
        assert np.all(np.abs(diff.mean(axis=0)) < 5 * np.sqrt(variances / len(diff)))
        error = np.sqrt((np.outer(variances, variances) + dense**2) / len(diff))  # of a Gaussian's sample covariance
        assert np.all(np.abs(diff.T @ diff / len(diff) - dense) < 5 * error)


def test_drawn_rows_without_noise_lie_in_the_affine_space_of_their_component(truth, model):
    X, y = model.sample(500, noise=False)
    for k in range(3):
        diff = (X[y == k] - truth.means[k]).T
        factors, *_ = np.linalg.lstsq(truth.loadings[k], diff, rcond=None)
        np.testing.assert_allclose(truth.loadings[k] @ factors, diff, atol=1e-12)
        assert np.all(np.abs(factors.var(axis=1) - 1) < 6 * np.sqrt(2 / diff.shape[1]))


def test_draws_are_the_same_bits_for_a_seed_and_any_number_of_threads(model):
    first = model.sample(70_000)[0]
    for n_jobs in (1, 2, 3):
        np.testing.assert_array_equal(model.set_params(n_jobs=n_jobs).sample(70_000)[0], first)
    assert not np.array_equal(model.set_params(random_state=1).sample(70_000)[0], first)
    with pytest.raises(ValueError, match="Invalid value for 'n_samples': 0"):
        model.sample(0)


# ---- an estimator among estimators ----


@pytest.mark.parametrize(
    ("noise_type", "shared_noise", "n_noise"), [(*s, n) for s, n in zip(STRUCTURES, (24, 8, 3, 1), strict=True)]
)
def test_criteria_count_free_parameters(noise_type, shared_noise, n_noise, rows, labels):
    model = quietly(
        Mixture(3, 2, noise_type=noise_type, shared_noise=shared_noise, init_params=labels, max_iter=2), rows
    )
    # 2 weights, 3 x 8 means, 3 x (8 x 2 loadings less one rotation), and the noise.
    n_parameters = 2 + 24 + 45 + n_noise
    total = model.score(rows) * len(rows)
    assert model.aic(rows) == pytest.approx(-2 * total + 2 * n_parameters, rel=1e-12)
    assert model.bic(rows) == pytest.approx(-2 * total + np.log(len(rows)) * n_parameters, rel=1e-12)


def test_parameters_are_kept_as_given_and_cloned(labels):
    settings = {"n_components": 3, "n_factors": 5, "init_params": labels, "noise_prior": (1.0, 2.0), "tol": -1}
    model = Mixture(**settings)
    assert all(getattr(model, name) is value for name, value in settings.items())
    copied = clone(model)
    assert copied.get_params()["noise_prior"] == (1.0, 2.0)
    assert copied.set_params(tol=0.5).tol == 0.5
    with pytest.raises(ValueError, match="Invalid parameter 'covariance_type'"):
        model.set_params(covariance_type="full")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0), ("n_factors", 0), ("n_factors", 1.5), ("noise_type", "full"), ("shared_noise", 1),
        ("noise_floor", 0.0), ("noise_floor", -1.0), ("noise_prior", 3), ("obs_noise", -0.1), ("tol", -1.0),
        ("max_iter", -1), ("n_init", 0), ("init_params", "k-means++"), ("missing", "drop"), ("random_state", "x"),
        ("warm_start", 1), ("verbose", -1), ("verbose_interval", 0), ("n_jobs", 0), ("callback", "print"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(name, value, rows):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MixtureOfFactorAnalyzers must be"):
        Mixture(**{name: value}).fit(rows)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"n_factors": 9}, "n_factors = 9 is more than n_features = 8"),
        ({"n_components": 241}, "n_samples >= n_components .* n_samples = 240"),
        ({"noise_prior": (1.0, -1.0)}, "noise_prior must be a shape and a scale, both above 0"),
        ({"noise_prior": (1.0,)}, "noise_prior must be a shape and a scale"),
        ({"init_params": [0, 1]}, "init_params"),
        ({"init_params": np.full(240, 1)}, "must be ints from 0 to n_components - 1 = 0"),
        ({"init_params": ["a"] * 240}, "must be ints .* Got <U1"),
        ({"init_params": np.zeros(240)}, "must be ints .* Got float64"),
    ],
)
def test_settings_that_do_not_fit_the_rows_are_refused(settings, cause, rows):
    model = Mixture(**settings)
    with pytest.raises(ValueError, match=cause):
        model.fit(rows)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("reader", [*READERS, "sample", "save", "get_covariance"])
def test_an_unfitted_model_says_so(reader, rows, tmp_path):
    argument = {"sample": 1, "save": tmp_path / "model", "get_covariance": 0}.get(reader, rows)
    with pytest.raises(NotFittedError, match="This MixtureOfFactorAnalyzers instance is not fitted yet"):
        getattr(Mixture(), reader)(argument)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(value, rows, model):
    X = rows.copy()
    X[101, 3] = value
    place = re.compile(r"(NaN|infinity).*row 101\b.*column 3\b", re.DOTALL)
    readers = READERS[:6] if np.isnan(value) else READERS  # impute and reconstruct fill NaN in
    for call in (Mixture(3).fit, *(getattr(model, reader) for reader in readers)):
        with pytest.raises(ValueError, match=place):
            call(X)


def test_rows_of_another_shape_are_refused(rows, model):
    for call in (Mixture().fit, model.predict):
        with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
            call(rows[0])
    with pytest.raises(ValueError, match="X has 7 features, but MixtureOfFactorAnalyzers is expecting 8"):
        model.predict(rows[:, :7])
    with pytest.raises(ValueError, match="minimum of 2 is required by MixtureOfFactorAnalyzers"):
        Mixture().fit(rows[:1])


def test_columns_keep_their_names(rows):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=[f"pixel {d}" for d in range(8)])
    model = quietly(Mixture(2, 2, random_state=0, max_iter=2), frame)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert bits(model) == bits(quietly(Mixture(2, 2, random_state=0, max_iter=2), rows))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


def test_a_read_only_memory_map_is_fitted_as_it_is(rows, tmp_path):
    X = rows.astype(np.float32)
    X.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=X.shape)
    model, expected = (quietly(Mixture(2, 2, random_state=0, max_iter=2), data) for data in (mapped, X))
    assert bits(model) == bits(expected)
    np.testing.assert_array_equal(model.predict_proba(mapped), expected.predict_proba(X))
    assert mapped.tobytes() == X.tobytes()


def test_layouts_and_integers_are_converted(rows):
    whole = np.round(10 * rows)
    settings = {"n_components": 2, "random_state": 0, "max_iter": 2}
    expected = bits(quietly(Mixture(**settings), whole))
    for data in (whole.astype(np.int32), np.asfortranarray(whole), whole.tolist(), np.repeat(whole, 2, axis=1)[:, ::2]):
        assert bits(quietly(Mixture(**settings), data)) == expected


def test_copies_and_pickles_predict_alike(rows, model):
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.predict_proba(rows), model.predict_proba(rows))


def test_scikit_learn_has_no_counterpart(model):
    with pytest.raises(TypeError, match="no counterpart of MixtureOfFactorAnalyzers"):
        model.to_sklearn()


def test_one_gaussian_of_low_rank_scores_as_a_full_one(truth, rows, model):
    full = GaussianMixture.from_parameters(truth.weights, truth.means, covariances(model))
    np.testing.assert_allclose(model.score_samples(rows), full.score_samples(rows), rtol=1e-10)
    assert "MixtureOfFactorAnalyzers" in fastgmm.__all__


@parametrize_with_checks([Mixture(), Mixture(missing="em")])
def test_scikit_learns_own_estimator_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)
