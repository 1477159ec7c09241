"""The Bayesian mixture: its bound against an independent sum of all terms, its numbers against scikit-learn's."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture as SklearnBayesianGaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastgmm import BayesianGaussianMixture
from fastgmm.exceptions import ConvergenceWarning
from fastgmm.optimization import variational
from tests import reference_bayesian

PRIOR_TYPES = ("dirichlet_process", "dirichlet_distribution")
ATTRIBUTES = (
    *("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "mean_precision_"),
    *("degrees_of_freedom_", "weight_concentration_prior_", "mean_precision_prior_", "mean_prior_"),
    *("degrees_of_freedom_prior_", "covariance_prior_", "lower_bound_", "lower_bounds_"),
)


@pytest.fixture(params=PRIOR_TYPES)
def prior_type(request):
    return request.param


@pytest.fixture(scope="module")
def resp(blobs):
    """Random responsibilities of five components for blobs[0]: a start far from the end."""
    draws = np.random.default_rng(5).dirichlet(np.ones(5), len(blobs[0]))
    draws.flags.writeable = False
    return draws


class SklearnFrom(SklearnBayesianGaussianMixture):
    """scikit-learn's class with a start that is given."""

    def start_from(self, resp):
        self._start = resp
        return self

    def _initialize_parameters(self, X, random_state, xp=None):
        self._initialize(X, self._start)


def quietly(model, X, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, **kwargs)


def fit_own(X, start, **kwargs):
    return quietly(
        BayesianGaussianMixture(n_components=start.shape[1], init_params=start, **({"acceleration": None} | kwargs)),
        X,
    )


def assert_scikit_learns(own, peer):
    for name in ATTRIBUTES:
        value, expected = getattr(own, name), getattr(peer, name)
        if name.startswith("lower_bound"):  # an array of one entry where scikit-learn's covariance is tied
            value, expected = np.ravel(value), np.ravel(expected)
        assert np.shape(value) == np.shape(expected), name
        np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("n_iter", [1, 10, 100])
def test_parameters_and_bound_are_scikit_learns(blobs, resp, covariance_type, prior_type, n_iter):
    """From one start after as many iterations; tol=0 so that neither stops."""
    settings = {
        "covariance_type": covariance_type,
        "weight_concentration_prior_type": prior_type,
        "tol": 0.0,
        "max_iter": n_iter,
    }
    own = fit_own(blobs[0], resp, **settings)
    peer = quietly(SklearnFrom(n_components=5, **settings).start_from(resp), blobs[0])
    assert own.n_iter_ == peer.n_iter_ == n_iter
    assert_scikit_learns(own, peer)
    np.testing.assert_allclose(
        np.array(own.weight_concentration_), np.array(peer.weight_concentration_), rtol=1e-8, atol=1e-8
    )
    assert type(own.weight_concentration_) is type(peer.weight_concentration_)
    for name in ("score_samples", "predict_proba"):
        np.testing.assert_allclose(getattr(own, name)(blobs[0]), getattr(peer, name)(blobs[0]), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(own.predict(blobs[0]), peer.predict(blobs[0]))


def test_users_priors_are_used_as_scikit_learn_uses_them(blobs, resp, covariance_type, prior_type):
    X = blobs[0]
    shapes = {"full": (3, 3), "tied": (3, 3), "diag": (3,), "spherical": ()}
    scatter = np.ones(shapes[covariance_type]) if covariance_type in ("diag", "spherical") else np.eye(3) + 0.1
    settings = {
        "covariance_type": covariance_type,
        "weight_concentration_prior_type": prior_type,
        "weight_concentration_prior": 3.0,
        "mean_precision_prior": 0.5,
        "mean_prior": [1.0, 2.0, 3.0],
        "degrees_of_freedom_prior": 6.5,
        "covariance_prior": float(scatter) if covariance_type == "spherical" else scatter,
        "tol": 0.0,
        "max_iter": 7,
    }
    own = fit_own(X, resp, **settings)
    peer = quietly(SklearnFrom(n_components=5, **settings).start_from(resp), X)
    assert_scikit_learns(own, peer)


def test_the_bound_is_the_evidences_but_for_a_constant(blobs, resp, prior_type):
    """All terms of Bishop's 10.71 to 10.77 (tests/reference_bayesian.py) differ from it by the same number."""
    X = blobs[0]
    models = [
        fit_own(X, resp, weight_concentration_prior_type=prior_type, tol=0.0, reg_covar=0.0, max_iter=n)
        for n in (1, 2, 5, 10, 40)
    ]
    befores = [
        fit_own(X, resp, weight_concentration_prior_type=prior_type, tol=0.0, reg_covar=0.0, max_iter=n - 1)
        for n in (1, 2, 5, 10, 40)
    ]
    constants = []
    for before, model in zip(befores, models, strict=True):
        prior = reference_bayesian.Prior(
            *(model.weight_concentration_prior_, model.mean_precision_prior_, model.mean_prior_),
            *(model.degrees_of_freedom_prior_, model.covariance_prior_),
        )
        posterior = reference_bayesian.Posterior(
            np.array(model.weight_concentration_),
            *(model.mean_precision_, model.means_, model.degrees_of_freedom_),
            model.covariances_ * model.degrees_of_freedom_[:, None, None],
        )
        full = reference_bayesian.lower_bound(X, before.predict_proba(X), prior, posterior)
        constants.append(full - model.lower_bound_)
    np.testing.assert_allclose(constants, constants[0], rtol=1e-10)


def test_the_bound_never_falls(blobs, resp, covariance_type, prior_type):
    """To rounding; with reg_covar=0, since a ridge is no part of the bound."""
    model = fit_own(
        *(blobs[0], resp),
        **{"covariance_type": covariance_type, "weight_concentration_prior_type": prior_type},
        **{"tol": 0.0, "reg_covar": 0.0, "max_iter": 60},
    )
    bounds = np.array(model.lower_bounds_)
    assert bounds[-1] > bounds[0]
    assert np.diff(bounds).min() > -1e-10 * abs(bounds[-1])


def test_components_that_sit_out_change_nothing(blobs, monkeypatch, covariance_type, prior_type):
    X = blobs[0]
    settings = {"n_components": 30, "covariance_type": covariance_type, "weight_concentration_prior_type": prior_type}
    settings |= {"tol": 0.0, "max_iter": 57, "random_state": 0, "acceleration": None}
    fitted, counts = [], []
    original = variational._subset

    def counted(parameters, alive, ridge):
        counts.append(int(alive.sum()))
        return original(parameters, alive, ridge)

    monkeypatch.setattr(variational, "_subset", counted)
    for every in (variational.FULL_PASS_EVERY, 1):
        monkeypatch.setattr(variational, "FULL_PASS_EVERY", every)
        fitted.append(quietly(BayesianGaussianMixture(**settings), X))
    assert max(counts[:57]) == min(counts[57:]) == 30
    # A component dies slowly where all share one covariance and no stick ends the row: there none sits out.
    assert min(counts[:57]) < 30 or (covariance_type, prior_type) == ("tied", "dirichlet_distribution")
    for name in ATTRIBUTES:
        np.testing.assert_allclose(*(getattr(model, name) for model in fitted), rtol=1e-10, atol=1e-12, err_msg=name)


def test_tol_is_compared_with_the_bound_of_all_rows(blobs, resp):
    """Plain updates stop where scikit-learn does; the progress that callbacks see is per row."""
    X, seen = blobs[0], []
    model = fit_own(X, resp, tol=1e-2, max_iter=2000, callback=seen.append)
    peer = quietly(SklearnFrom(n_components=5, tol=1e-2, max_iter=2000).start_from(resp), X)
    assert model.converged_
    assert peer.converged_
    assert model.n_iter_ == peer.n_iter_ > 20
    changes = np.diff(model.lower_bounds_)
    assert changes[-1] < 1e-2 <= changes[:-1].min()
    np.testing.assert_allclose(changes / len(X), [info.change for info in seen][1:], rtol=1e-6, atol=1e-12)
    assert {info.tol for info in seen} == {1e-2 / len(X)}


@pytest.mark.parametrize("weight", [2.0, 0.05])
def test_rows_that_weigh_more_or_less_change_no_stop_but_by_the_bound(blobs, weight):
    X, labels = blobs
    settings = {"n_components": 3, "init_params": labels, "max_iter": 500}
    weighted = quietly(BayesianGaussianMixture(**settings), X, sample_weight=np.full(len(X), weight))
    assert weighted.converged_
    plain = BayesianGaussianMixture(**settings | {"acceleration": None, "tol": 1e-9, "max_iter": 20_000})
    quietly(plain, X, sample_weight=np.full(len(X), weight))
    assert weighted.lower_bound_ > plain.lower_bound_ - 0.01


def plain_to_the_end(X, resp, **settings):
    return fit_own(X, resp, **settings | {"tol": 1e-8, "max_iter": 30_000})


def concentration_example(seed):
    """The rows of scikit-learn's example of the concentration prior, by another seed, and a random start."""
    rng = np.random.RandomState(seed)
    scales = np.array([[0.7, 0.1], [0.5, 0.1], [0.5, 0.1]]) ** 0.5
    means = np.array([[0, -0.7], [0, 0], [0, 0.7]])
    X = np.vstack([means[j] + scales[j] * rng.standard_normal((n, 2)) for j, n in enumerate((200, 500, 200))])
    resp = rng.uniform(size=(len(X), 6))
    return X, resp / resp.sum(axis=1, keepdims=True)


EXAMPLE = {"dirichlet_distribution": (0.001, 1.0, 1000.0), "dirichlet_process": (1.0, 1000.0, 100_000.0)}


def test_default_fits_end_where_plain_updates_end(prior_type):
    """Not on the plateau before it: total bounds at most a nat lower in nine fits of ten, of two seeds and 3 priors.

    Where there are several maxima, one may be reached that is lower by a few nats, or higher. scikit-learn's rule stops
    up to 60 nats before the end.
    """
    gaps, passes = [], []
    for seed, concentration in itertools.product((11, 12), EXAMPLE[prior_type]):
        X, resp = concentration_example(seed)
        settings = {"weight_concentration_prior_type": prior_type, "weight_concentration_prior": concentration}
        settings |= {"reg_covar": 0.0, "mean_precision_prior": 0.8}
        own = fit_own(X, resp, acceleration="lbfgs", **settings)
        assert own.converged_
        assert np.diff(own.lower_bounds_).min() >= -1e-9 * abs(own.lower_bound_)
        gaps.append(own.lower_bound_ - plain_to_the_end(X, resp, **settings).lower_bound_)
        passes.append(own.n_iter_)
    assert np.sum(np.array(gaps) > -1) >= 5
    assert min(gaps) > -8
    assert np.median(passes) < 120
    assert max(passes) < 300


def test_real_rows_end_at_the_same_bound_with_as_many_components(covariance_type):
    X = load_iris().data
    resp = np.eye(6)[np.arange(len(X)) % 6] * 0.5 + 0.5 / 6
    settings = {"covariance_type": covariance_type}
    own, plain = fit_own(X, resp, acceleration="lbfgs", **settings), plain_to_the_end(X, resp, **settings)
    assert own.converged_
    assert own.lower_bound_ > plain.lower_bound_ - 0.05
    assert own.n_iter_ < plain.n_iter_


def test_a_ridge_is_in_the_bound_that_never_falls(prior_type, covariance_type):
    """A component far narrower than the ridge: plain updates, which are scikit-learn's, do let the bound fall."""
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(0, 1e-2, (300, 1)), rng.normal(3, 1, (300, 1))] + np.zeros((1, 2))
    X[:, 1] += rng.normal(0, 1e-2, 600)
    resp = rng.dirichlet(np.ones(4), 600)
    settings = {"covariance_type": covariance_type, "weight_concentration_prior_type": prior_type, "reg_covar": 0.01}
    own = fit_own(X, resp, acceleration="lbfgs", tol=0.0, max_iter=200, **settings)
    assert np.diff(own.lower_bounds_).min() >= -1e-9 * abs(own.lower_bound_)


def test_pruning_never_ends_lower_and_drops_components(covariance_type):
    X = load_iris().data
    resp = np.eye(8)[np.arange(len(X)) % 8] * 0.5 + 0.5 / 8
    settings = {"covariance_type": covariance_type, "max_iter": 3000}
    own = fit_own(X, resp, acceleration="lbfgs", **settings)
    pruned = fit_own(X, resp, acceleration="lbfgs", prune=True, **settings)
    assert own.converged_
    assert pruned.converged_
    assert pruned.lower_bound_ >= own.lower_bound_ - 1e-9 * abs(own.lower_bound_)
    assert np.sum(pruned.weights_ > 0.01) <= np.sum(own.weights_ > 0.01)
    assert np.diff(pruned.lower_bounds_).min() >= -1e-9 * abs(own.lower_bound_)


def test_weights_count_rows(blobs, covariance_type):
    X = blobs[0]
    counts = np.random.default_rng(3).integers(0, 4, len(X))
    labels = blobs[1]
    settings = {"n_components": 3, "covariance_type": covariance_type, "max_iter": 20, "tol": 0.0}
    settings["acceleration"] = None  # whose number of passes at a tol of 0 is not a matter of rounding
    weighted = quietly(BayesianGaussianMixture(**settings, init_params=labels), X, sample_weight=counts)
    repeated = quietly(
        BayesianGaussianMixture(**settings, init_params=np.repeat(labels, counts)), np.repeat(X, counts, axis=0)
    )
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_float32_is_kept_and_close(blobs, resp, covariance_type):
    own = fit_own(blobs[0].astype(np.float32), resp, covariance_type=covariance_type, tol=0.0, max_iter=5)
    double = fit_own(blobs[0], resp, covariance_type=covariance_type, tol=0.0, max_iter=5)
    for name in ATTRIBUTES:
        value = getattr(own, name)
        if not name.endswith("_prior_") or np.ndim(value):
            assert np.asarray(value).dtype == np.float32, name
        np.testing.assert_allclose(value, getattr(double, name), rtol=2e-4, atol=2e-4, err_msg=name)
    assert own.score_samples(blobs[0].astype(np.float32)).dtype == np.float32


def test_unneeded_components_lose_their_weight(blobs, prior_type):
    model = BayesianGaussianMixture(
        n_components=12, weight_concentration_prior_type=prior_type, random_state=0, max_iter=500, tol=1e-6
    ).fit(blobs[0])
    assert (model.weights_ > 0.01).sum() == 3
    np.testing.assert_allclose(model.weights_.sum(), 1)


def test_warm_start_goes_on_where_it_stopped(blobs, prior_type):
    settings = {"n_components": 5, "random_state": 0, "tol": 0.0, "weight_concentration_prior_type": prior_type}
    settings["acceleration"] = None  # which remembers earlier points
    long = quietly(BayesianGaussianMixture(**settings, max_iter=12), blobs[0])
    model = quietly(BayesianGaussianMixture(**settings, max_iter=5, warm_start=True), blobs[0])
    model.max_iter = 7
    quietly(model, blobs[0])
    np.testing.assert_allclose(model.means_, long.means_, rtol=1e-10)
    np.testing.assert_allclose(model.lower_bound_, long.lower_bound_, rtol=1e-12)


def test_threads_give_the_same_bits(blobs):
    X = np.tile(blobs[0], (20, 1)) + np.random.default_rng(0).normal(0, 0.1, (12000, 3))
    fits = [quietly(BayesianGaussianMixture(n_components=6, random_state=0, n_jobs=n, max_iter=5), X) for n in (1, 2)]
    for name in ATTRIBUTES:
        np.testing.assert_array_equal(*(getattr(model, name) for model in fits), err_msg=name)


def test_a_sampled_start_stands_for_all_rows():
    """The start sees 10,000 rows; concentrations count all of them."""
    X = np.random.default_rng(0).normal([[0, 0]] * 20000 + [[9, 9]] * 20000)
    model = BayesianGaussianMixture(n_components=2, max_iter=0, random_state=0).fit(X)
    np.testing.assert_allclose(model.mean_precision_.sum(), 40000 + 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("weight_concentration_prior", 0.0),
        ("mean_precision_prior", -1.0),
        ("degrees_of_freedom_prior", 1.5),
        ("weight_concentration_prior_type", "beta"),
        ("mean_prior", [0.0]),
        ("covariance_prior", [[1.0, 2.0, 0], [2.0, 1.0, 0], [0, 0, 1]]),
        ("covariance_prior", np.eye(2)),
    ],
)
def test_bad_priors_raise_what_scikit_learn_raises(blobs, parameter, value):
    errors = []
    for estimator in (BayesianGaussianMixture, SklearnBayesianGaussianMixture):
        with pytest.raises(ValueError) as caught:
            estimator(**{parameter: value}).fit(blobs[0])
        errors.append(str(caught.value))
    assert sorted(errors[0]) == sorted(errors[1])  # sets are printed in any order


def test_arrays_that_predictions_need_may_be_set_by_hand(blobs):
    fitted = BayesianGaussianMixture(n_components=3, random_state=0).fit(blobs[0])
    model = BayesianGaussianMixture(n_components=3)
    for name in ATTRIBUTES[:7]:
        setattr(model, name, getattr(fitted, name))
    model.weight_concentration_ = fitted.weight_concentration_
    np.testing.assert_array_equal(model.predict_proba(blobs[0]), fitted.predict_proba(blobs[0]))


@parametrize_with_checks([BayesianGaussianMixture()])
def test_scikit_learns_own_estimator_checks_pass(estimator, check):
    check(estimator)
