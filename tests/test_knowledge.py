"""What a fit is told besides the rows: labels, fixed parameters, noise, floors; and collapsed components."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastgmm import GaussianMixture
from fastgmm.datasets import make_mixture
from fastgmm.exceptions import ConvergenceWarning, SingularCovarianceError
from tests import reference

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_", "log_likelihood_")


def quietly(model, X, y=None, **data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y, **data)


# ---- labels ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_all_labelled_gives_the_class_estimates(covariance_type, dtype, blobs):
    X, labels = blobs[0].astype(dtype), blobs[1]
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X))
    model = GaussianMixture(3, covariance_type=covariance_type, semi_supervised=True, reg_covar=1e-3)
    model.fit(X, labels, sample_weight=weight)
    expected = reference.m_step(X, reference.one_hot(labels), covariance_type, 1e-3, weight)
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(model.weights_, expected.weights, atol=tolerance)
    np.testing.assert_allclose(model.means_, expected.means, atol=tolerance)
    np.testing.assert_allclose(model.covariances_, expected.covariances, atol=tolerance)
    assert model.converged_


@pytest.mark.parametrize("y", [None, "unknown"])
def test_none_labelled_gives_the_bits_of_the_unsupervised_fit(covariance_type, y, blobs):
    settings = {"covariance_type": covariance_type, "random_state": 0}
    plain = GaussianMixture(3, **settings).fit(blobs[0])
    labels = None if y is None else np.full(len(blobs[0]), -1)
    model = GaussianMixture(3, semi_supervised=True, **settings).fit(blobs[0], labels)
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(model, name), getattr(plain, name))


def test_some_labels_are_em_with_known_responsibilities(covariance_type, blobs):
    X, truth = blobs
    labels = np.where(np.random.default_rng(0).random(len(X)) < 0.2, truth, -1)
    start = reference.m_step(X, reference.one_hot(truth), covariance_type)
    model = quietly(
        GaussianMixture(3, covariance_type=covariance_type, semi_supervised=True, init_params=truth, tol=0, max_iter=5),
        X, labels,
    )  # fmt: skip
    mixture, bounds = start, []
    for step in range(5):
        reg = 1e-6
        if step == 0:
            mixture = reference.m_step(X, reference.one_hot(truth), covariance_type, reg)
        log_prob = reference.log_gaussian_prob(X, mixture) + np.log(mixture.weights)
        norm = np.log(np.exp(log_prob).sum(axis=1))
        bounds.append(np.where(labels >= 0, log_prob[np.arange(len(X)), np.maximum(labels, 0)], norm).mean())
        resp = np.where(labels[:, None] >= 0, np.eye(3)[np.maximum(labels, 0)], np.exp(log_prob - norm[:, None]))
        mixture = reference.m_step(X, resp, covariance_type, reg)
    np.testing.assert_allclose(model.lower_bounds_, bounds, atol=1e-9)
    np.testing.assert_allclose(model.means_, mixture.means, atol=1e-9)
    np.testing.assert_allclose(model.covariances_, mixture.covariances, atol=1e-9)


def test_few_labels_give_components_their_classes():
    """Five labels per class name the components, from the default start, whatever the clusters' own numbers."""
    problem = make_mixture(3000, 3, 4, separation=6.0, random_state=2)
    labels = np.full(3000, -1)
    for k in range(4):
        labels[np.flatnonzero(problem.labels == k)[:5]] = k
    model = GaussianMixture(4, semi_supervised=True, random_state=0).fit(problem.X, labels)
    assert np.mean(model.predict(problem.X) == problem.labels) > 0.98


def test_y_is_ignored_unless_asked_for_and_says_so(faithful, faithful_labels):
    plain = GaussianMixture(2, random_state=0).fit(faithful)
    ignored = GaussianMixture(2, random_state=0).fit(faithful, faithful_labels)
    np.testing.assert_array_equal(plain.means_, ignored.means_)
    with pytest.warns(UserWarning, match="semi_supervised=True"):
        GaussianMixture(2).fit(faithful, np.where(faithful_labels == 1, -1, 0))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3, int), r"label for each of the 272 rows"),
        (np.full(272, 0.5), "y must hold integers"),
        (np.where(np.arange(272) == 7, 2, -1), "got 2 at row 7"),
        (np.where(np.arange(272) == 9, -2, 0), "got -2 at row 9"),
    ],
)
def test_bad_labels_are_named(y, message, faithful):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, semi_supervised=True).fit(faithful, y)


# ---- fixed parameters ----


def test_fixed_parameters_stay_and_the_others_are_maximised(covariance_type, blobs):
    X = blobs[0]
    start = reference.m_step(X, reference.one_hot(blobs[1]), covariance_type)
    weights = np.array([np.nan, 0.3, np.nan])
    means = np.where(np.arange(3)[:, None] == 2, start.means + 0.1, np.nan)
    covariances = start.covariances * 1.5
    if covariance_type != "tied":
        covariances[1:] = np.nan
    model = quietly(
        GaussianMixture(3, covariance_type=covariance_type, init_params=blobs[1], tol=0, max_iter=4, reg_covar=0,
                        fixed={"weights": weights, "means": means, "covariances": covariances}),
        X,
    )  # fmt: skip

    free, resp = np.isnan(weights), reference.one_hot(blobs[1])
    for _ in range(5):  # the start's M-step, and four
        estimate = reference.m_step(X, resp, covariance_type)
        new_weights = np.where(free, estimate.weights * 0.7 / estimate.weights[free].sum(), weights)
        new_means = np.where(np.isnan(means), estimate.means, means)
        # Second moments about the means that are kept, not about the free estimate.
        shift = estimate.means - new_means
        moved = {
            "full": lambda c, s: c + np.einsum("kd,ke->kde", s, s),
            "tied": lambda c, s: covariances,
            "diag": lambda c, s: c + s**2,
            "spherical": lambda c, s: c + (s**2).mean(axis=1),
        }[covariance_type](estimate.covariances, shift)
        new_covariances = np.where(np.isnan(covariances), moved, covariances)
        mixture = reference.Mixture(new_weights, new_means, new_covariances, covariance_type)
        resp = reference.predict_proba(X, mixture)
    np.testing.assert_allclose(model.weights_, mixture.weights, atol=1e-10)
    np.testing.assert_allclose(model.means_, mixture.means, atol=1e-10)
    np.testing.assert_allclose(model.covariances_, mixture.covariances, atol=1e-10)


def test_with_fixed_parameters_the_likelihood_never_falls(covariance_type, blobs):
    start = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    for fixed in (
        {"weights": "equal"},
        {"weights": [0.2, np.nan, np.nan]},
        {"means": np.where(np.arange(3)[:, None] == 1, start.means, np.nan)},
        {"covariances": start.covariances},
    ):
        model = quietly(
            GaussianMixture(3, covariance_type=covariance_type, fixed=fixed, tol=0, max_iter=50, reg_covar=0,
                            init_params="random", random_state=3),
            blobs[0],
        )  # fmt: skip
        assert np.diff(model.lower_bounds_).min() > -1e-12, fixed
    np.testing.assert_allclose(model.covariances_, start.covariances, rtol=1e-14)


def test_a_fixed_mean_takes_the_cluster_that_lies_there(covariance_type):
    problem = make_mixture(3000, 2, 4, separation=8.0, covariance_type=covariance_type, random_state=5)
    means = np.full((4, 2), np.nan)
    means[3] = problem.X[problem.labels == 0].mean(axis=0)
    model = GaussianMixture(4, covariance_type=covariance_type, fixed={"means": means}, random_state=0).fit(problem.X)
    assert np.mean(model.predict(problem.X[problem.labels == 0]) == 3) > 0.97


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"mean": 1}, "fixed may hold weights, means, covariances; got 'mean'"),
        ({"weights": [0.9, 0.9]}, "sum to less than 1"),
        ({"weights": [0.4, 0.4]}, "sum to less than 1"),
        ({"weights": "same"}, "an array or 'equal'"),
        ({"means": [[1.0, np.nan], [np.nan, np.nan]]}, "of component 0 holds numbers and NaN"),
        ({"means": [[1.0], [2.0]]}, "should have the shape of"),
        ({"covariances": [-np.eye(2), np.full((2, 2), np.nan)]}, "positive definite"),
    ],
)
def test_bad_fixed_parameters_are_named(fixed, message, faithful):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, fixed=fixed).fit(faithful)


# ---- noise ----


def outliers_problem(covariance_type, seed):
    """Three components and 20 % of rows from a box three times as wide."""
    problem = make_mixture(4000, 2, 3, separation=7.0, covariance_type=covariance_type, random_state=seed)
    rng = np.random.default_rng(seed)
    low, high = problem.X.min(axis=0), problem.X.max(axis=0)
    noise = rng.uniform(low - (high - low), high + (high - low), (1000, 2))
    return problem, np.concatenate([problem.X, noise])


def distance_to_truth(model, problem):
    """Largest distance of a true mean from the nearest fitted one."""
    truth = np.stack([problem.X[problem.labels == k].mean(axis=0) for k in range(3)])
    return max(np.linalg.norm(model.means_ - mean, axis=1).min() for mean in truth)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_noise_takes_the_outliers_and_the_others_recover_the_truth(covariance_type, dtype):
    plain, robust = [], []
    for seed in range(4):
        problem, X = outliers_problem(covariance_type, seed)
        settings = {"covariance_type": covariance_type, "random_state": 0, "max_iter": 500, "tol": 1e-5, "n_init": 4}
        model = GaussianMixture(3, noise=True, **settings).fit(X.astype(dtype))
        robust.append(distance_to_truth(model, problem))
        plain.append(distance_to_truth(GaussianMixture(3, **settings).fit(X.astype(dtype)), problem))
        assert model.noise_weight_ == pytest.approx(0.2, abs=0.03)
        assert model.weights_.sum() + model.noise_weight_ == pytest.approx(1.0, abs=1e-6)
        labels = model.predict(X.astype(dtype))
        assert np.mean(labels[4000:] == -1) > 0.8
        assert np.mean(labels[:4000] == -1) < 0.05
    # Standard errors of a mean are 0.03; the plain fit is off by whole standard deviations.
    assert max(robust) < 0.2, robust
    assert min(plain) > 3 * max(robust), (plain, robust)


def test_a_mixture_with_noise_is_a_density(covariance_type):
    _, X = outliers_problem(covariance_type, 0)
    model = GaussianMixture(3, covariance_type=covariance_type, noise=True, random_state=0).fit(X)
    mixture = reference.Mixture(
        model.weights_ / model.weights_.sum(), model.means_, model.covariances_, covariance_type
    )
    gaussians = np.log(model.weights_.sum()) + reference.score_samples(X, mixture)
    log_noise = np.log(model.noise_weight_) - np.log(np.ptp(model.noise_bounds_, axis=0)).sum()
    np.testing.assert_allclose(model.score_samples(X), np.logaddexp(gaussians, log_noise), atol=1e-9)
    np.testing.assert_allclose(
        model.predict_proba(X).sum(axis=1), np.exp(gaussians - np.logaddexp(gaussians, log_noise)), atol=1e-9
    )
    outside = model.noise_bounds_[1] + [[0.5, 0.5]]
    expected = np.log(model.weights_.sum()) + reference.score_samples(outside, mixture)
    np.testing.assert_allclose(model.score_samples(outside), expected, atol=1e-9)
    assert model.predict(outside)[0] >= 0
    assert model.score(X) * len(X) == pytest.approx(model.log_likelihood_)
    drawn, labels = model.sample(20_000)
    assert np.mean(labels == -1) == pytest.approx(model.noise_weight_, abs=0.02)
    assert np.all((drawn[labels == -1] >= model.noise_bounds_[0]) & (drawn[labels == -1] <= model.noise_bounds_[1]))
    np.testing.assert_array_equal(model.fit_predict(X), model.predict(X))


def test_noise_begins_where_it_is_told_and_ends_when_switched_off(covariance_type, faithful):
    model = quietly(GaussianMixture(2, covariance_type=covariance_type, noise=0.07, max_iter=0), faithful)
    assert model.noise_weight_ == pytest.approx(0.07)
    assert model.weights_.sum() == pytest.approx(0.93)
    model.set_params(warm_start=True, max_iter=50).fit(faithful)
    model.set_params(noise=None).fit(faithful)
    assert not hasattr(model, "noise_weight_")
    assert model.weights_.sum() == pytest.approx(1.0)
    assert model.score(faithful) == pytest.approx(model.log_likelihood_ / len(faithful))


def test_a_stream_keeps_the_box_of_its_noise(faithful):
    model = GaussianMixture(2, noise=True, random_state=0).fit(faithful)
    weight, bounds = model.noise_weight_, model.noise_bounds_
    model.partial_fit(faithful[:200])
    np.testing.assert_array_equal(model.noise_bounds_, bounds)
    assert model.noise_weight_ < weight + 0.05
    with pytest.raises(ValueError, match="noise must bound all rows; column 0"):
        model.partial_fit(faithful + np.array([9.0, 0.0]))
    with pytest.raises(ValueError, match="The stream began with"):
        model.set_params(n_components=3).partial_fit(faithful)


def test_fixed_parameters_do_not_count_in_information_criteria(covariance_type, blobs):
    start = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    settings = {"covariance_type": covariance_type, "init_params": blobs[1], "max_iter": 1}
    free = reference.n_parameters(covariance_type, 3, 3)
    for fixed, held in (
        ({"weights": "equal"}, 2),
        ({"weights": [0.2, np.nan, np.nan]}, 1),
        ({"means": np.where(np.arange(3)[:, None] < 2, start.means, np.nan)}, 6),
        ({"covariances": start.covariances}, free - 2 - 9),
    ):
        model = quietly(GaussianMixture(3, fixed=fixed, **settings), blobs[0])
        assert model.aic(blobs[0]) + 2 * len(blobs[0]) * model.score(blobs[0]) == pytest.approx(2 * (free - held))


def test_noise_survives_saving(tmp_path, faithful):
    model = GaussianMixture(2, noise=0.05, random_state=0).fit(faithful)
    model.save(tmp_path / "model.safetensors")
    loaded = GaussianMixture.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(loaded.score_samples(faithful), model.score_samples(faithful), atol=1e-12)
    assert loaded.noise_weight_ == pytest.approx(model.noise_weight_)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (1.5, "'noise' parameter"),
        ([[0, 0]], "should have the shape of"),
        ([[2.0, 0.0], [6.0, 100.0]], "column 0 runs from"),
    ],
)
def test_bad_noise_is_named(noise, message, faithful):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, noise=noise).fit(faithful)


def test_noise_has_what_fixed_weights_leave_even_where_no_row_is_its_own(covariance_type, blobs):
    """All rows are labelled, so that none is noise: weights sum to 1 all the same."""
    model = GaussianMixture(
        3, covariance_type=covariance_type, noise=True, semi_supervised=True, fixed={"weights": [0.2, 0.4, 0.3]}
    )
    model.fit(*blobs)
    np.testing.assert_array_equal(model.weights_, [0.2, 0.4, 0.3])
    assert model.noise_weight_ == pytest.approx(0.1, abs=1e-15)


def test_a_row_without_any_value_is_noise_where_that_is_likeliest(covariance_type, faithful):
    model = GaussianMixture(2, covariance_type=covariance_type, noise=True, missing="em", random_state=0).fit(faithful)
    model.weights_, model.noise_weight_ = np.array([0.25, 0.35]), 0.4
    rows = np.concatenate([faithful[:3], np.full((1, 2), np.nan)])
    assert model.predict(rows)[-1] == -1
    np.testing.assert_allclose(model.predict_proba(rows)[-1], model.weights_)
    model.weights_, model.noise_weight_ = np.array([0.25, 0.4]), 0.35
    assert model.predict(rows)[-1] == 1


# ---- floors, ridges and collapse ----


def test_the_automatic_ridge_scales_with_the_columns(covariance_type, blobs):
    scale = np.array([1e-5, 1.0, 1e5]) if covariance_type != "spherical" else 1e-5
    settings = {"covariance_type": covariance_type, "reg_covar": "auto", "init_params": blobs[1], "max_iter": 50}
    one = quietly(GaussianMixture(3, **settings), blobs[0])
    other = quietly(GaussianMixture(3, **settings), blobs[0] * scale)
    np.testing.assert_allclose(other.means_ / scale, one.means_, rtol=1e-7)
    np.testing.assert_allclose(other.weights_, one.weights_, rtol=1e-7)


def test_the_floor_holds_and_the_likelihood_never_falls(covariance_type, blobs):
    X = blobs[0] * [1.0, 100.0, 0.01] if covariance_type != "spherical" else blobs[0]
    floor = 0.2
    model = quietly(
        GaussianMixture(5, covariance_type=covariance_type, covariance_floor=floor, reg_covar=0, tol=0, max_iter=60,
                        random_state=0),
        X,
    )  # fmt: skip
    assert np.diff(model.lower_bounds_).min() > -1e-12
    unit = X.std(axis=0) if covariance_type != "spherical" else np.sqrt(X.var(axis=0).mean())
    dense = reference.dense_covariances(
        reference.Mixture(model.weights_, model.means_, model.covariances_, covariance_type)
    )
    lowest = np.linalg.eigvalsh(dense / np.multiply.outer(unit * np.ones(3), unit * np.ones(3)))[:, 0]
    assert lowest.min() > floor * (1 - 1e-9)
    touched = [k for k, reasons in model.diagnostics_.boundary.items() if "covariance at its floor" in reasons]
    flat = np.flatnonzero(lowest < floor * (1 + 1e-6))
    assert touched == ([-1] if covariance_type == "tied" and len(flat) else flat.tolist())
    assert touched


def collapsing(covariance_type):
    """Rows of which ten are equal, and a start that gives them a component of their own."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 2))
    X[:10] = [5.0, 5.0]
    return X, np.where(np.arange(200) < 10, 0, 1 + (X[:, 0] > 0))


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_collapsed_component_is_named_mended_or_put_elsewhere(covariance_type):
    X, labels = collapsing(covariance_type)
    settings = {"covariance_type": covariance_type, "init_params": labels, "reg_covar": 0, "max_iter": 300}
    with pytest.raises(SingularCovarianceError, match="Component 0"):
        GaussianMixture(3, **settings).fit(X)
    mended = GaussianMixture(3, on_singular="regularize", **settings).fit(X)
    assert "covariance at its floor" in mended.diagnostics_.boundary[0]
    np.testing.assert_allclose(mended.means_[0], [5.0, 5.0], atol=0.2)
    moved = quietly(GaussianMixture(3, on_singular="restart", random_state=0, **settings), X)
    assert moved.diagnostics_.restarts[0] == 0
    assert np.isfinite(moved.covariances_).all()
    assert moved.weights_.min() > 0


def test_a_component_that_cannot_be_saved_is_reported():
    X = np.arange(60.0)[:, None] * [1.0, 2.0]  # no component has an area
    with pytest.raises(SingularCovarianceError, match="re-seeded 10 times"):
        GaussianMixture(3, on_singular="restart", reg_covar=0, random_state=0, max_iter=500).fit(X)


def test_an_empty_component_is_put_elsewhere(faithful):
    far = {"means_init": [[2.0, 55.0], [4.3, 80.0], [1e6, 1e6]], "weights_init": [0.4, 0.5, 0.1]}
    precisions = np.tile(np.diag([10.0, 0.05]), (3, 1, 1))
    model = GaussianMixture(3, precisions_init=precisions, on_singular="restart", random_state=0, max_iter=500, **far)
    model.fit(faithful)
    assert model.diagnostics_.restarts[0] == 2
    assert model.weights_.min() > 0.01


def test_diagnostics_describe_the_fit(covariance_type, blobs):
    model = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-5, max_iter=500)
    model.set_params(init_params="kmeans").fit(blobs[0])  # from which EM takes steps enough to judge
    long = quietly(model.__class__(**model.get_params()).set_params(tol=0, max_iter=3000), blobs[0])
    diagnostics = model.diagnostics_
    np.testing.assert_allclose(diagnostics.effective_sizes, model.weights_ * len(blobs[0]))
    assert diagnostics.boundary == {}
    assert diagnostics.restarts == []
    assert (diagnostics.condition_numbers >= 1).all()
    gain = long.lower_bound_ - model.lower_bound_
    assert 0.3 * gain < diagnostics.remaining_gain < 3 * gain


def test_what_probabilities_lack_of_one_is_the_noise_s(faithful):
    model = GaussianMixture(2, noise=True, random_state=0).fit(faithful)
    share = 1 - model.predict_proba(faithful).sum(axis=1)
    volume = np.prod(model.noise_bounds_[1] - model.noise_bounds_[0])
    expected = model.noise_weight_ / volume / np.exp(model.score_samples(faithful))
    np.testing.assert_allclose(share, expected, atol=1e-12)
    assert share.max() > 1e-6
    np.testing.assert_array_equal(model.predict(faithful) == -1, share > model.predict_proba(faithful).max(axis=1))
