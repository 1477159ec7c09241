"""Side by side with scikit-learn's class: the same names, types, numbers and messages; and what ours adds."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import warnings

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator

from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers
from fastgmm.exceptions import ConvergenceWarning, NotFittedError
from tests import reference

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# What later releases of scikit-learn brought, and ours have with every release.
RELEASE = tuple(int(number) for number in sklearn.__version__.split(".")[:2])
HAS_HISTORY = RELEASE >= (1, 7)  # `lower_bounds_`
SCORES_ARE_FLOATS = RELEASE >= (1, 8)  # Python's; NumPy's scalars before
needs_float32 = pytest.mark.skipif(RELEASE < (1, 7), reason="scikit-learn's mixtures keep float32 since 1.7")
READERS = ("predict", "predict_proba", "score_samples", "score", "aic", "bic")


@pytest.fixture
def start(blobs, covariance_type):
    """Constructor arguments that give every estimator the same start, to be fitted with blobs[0]."""
    mixture = reference.m_step(blobs[0], reference.one_hot(blobs[1]), covariance_type)
    invert = np.linalg.inv if covariance_type in ("full", "tied") else np.reciprocal
    return {
        "n_components": 3,
        "covariance_type": covariance_type,
        "weights_init": mixture.weights,
        "means_init": mixture.means,
        "precisions_init": invert(mixture.covariances),
    }


def fit_both(X, settings):
    """Fit ours and scikit-learn's alike; not converging is no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(**settings).fit(X), SklearnGaussianMixture(**settings).fit(X)


def assert_same_parameters(model, peer, rtol):
    for name in PARAMETERS:
        value, expected = getattr(model, name), getattr(peer, name)
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype), name
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol, err_msg=name)


# ---- numbers ----


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-9), pytest.param(np.float32, 1e-3, marks=needs_float32)])
def test_one_em_step_gives_scikit_learns_parameters_types_and_scores(start, dtype, rtol, blobs):
    X = blobs[0].astype(dtype)
    typed = {name: value.astype(dtype) for name, value in start.items() if name.endswith("_init")}
    model, peer = fit_both(X, start | typed | {"max_iter": 1})
    assert_same_parameters(model, peer, rtol)
    history = ("lower_bounds_",) if HAS_HISTORY else ()
    for name in ("converged_", "n_iter_", "lower_bound_", "n_features_in_", *history):
        value, expected = getattr(model, name), getattr(peer, name)
        assert type(value) is type(expected), name
        assert value == pytest.approx(expected, rel=rtol), name
    assert type(model.lower_bounds_[0]) is type(peer.lower_bound_)
    for reader in READERS:
        value, expected = getattr(model, reader)(X), getattr(peer, reader)(X)
        if SCORES_ARE_FLOATS or isinstance(expected, np.ndarray):
            assert type(value) is type(expected), reader
            assert np.asarray(value).dtype == np.asarray(expected).dtype, reader
        else:
            assert type(value) is float, reader
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=rtol, err_msg=reader)
    assert model._n_parameters() == peer._n_parameters()  # used downstream


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-6])
def test_whole_fits_take_scikit_learns_steps(start, tol, blobs):
    model, peer = fit_both(blobs[0], start | {"tol": tol})
    assert peer.converged_
    assert (model.converged_, model.n_iter_, model.stop_reason_) == (True, peer.n_iter_, "converged")
    assert model.lower_bound_ == pytest.approx(peer.lower_bound_, rel=1e-9)
    if HAS_HISTORY:
        np.testing.assert_allclose(model.lower_bounds_, peer.lower_bounds_, rtol=1e-9)
    assert_same_parameters(model, peer, rtol=1e-8)


@pytest.mark.parametrize("n_iter", [1, 10, 100])
def test_parameters_stay_scikit_learns_over_many_iterations(start, n_iter, blobs):
    model, peer = fit_both(blobs[0], start | {"tol": 0.0, "max_iter": n_iter})
    assert model.n_iter_ == peer.n_iter_ == n_iter
    assert_same_parameters(model, peer, rtol=1e-10)


@pytest.mark.parametrize("fitted_dtype", [np.float64, pytest.param(np.float32, marks=needs_float32)])
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=needs_float32), np.int64, np.float16])
def test_results_have_scikit_learns_dtype_for_every_mixture_of_dtypes(fitted_dtype, dtype, blobs):
    X, labels = blobs
    model = GaussianMixture(3, init_params=labels).fit(X.astype(fitted_dtype))
    peer = SklearnGaussianMixture(3)
    for name in PARAMETERS:
        setattr(peer, name, getattr(model, name))
    rows = X.astype(dtype)
    for reader in ("predict", "predict_proba", "score_samples"):
        value, expected = getattr(model, reader)(rows), getattr(peer, reader)(rows)
        assert (value.shape, value.dtype) == (expected.shape, expected.dtype), reader
        # scikit-learn 1.9 keeps its log-densities in the dtype of the rows: whole numbers for integers.
        exact = getattr(peer, reader)(rows.astype(np.float64))
        np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-3, err_msg=reader)


def test_fit_predict_equals_fit_then_predict(covariance_type, blobs):
    X, labels = blobs
    sample_weight = np.random.default_rng(0).uniform(0.1, 2, size=len(X))
    for weights in (None, sample_weight):
        settings = {"covariance_type": covariance_type, "init_params": labels, "tol": 1e-2}
        model = GaussianMixture(3, **settings).fit(X, sample_weight=weights)
        predicted = GaussianMixture(3, **settings).fit_predict(X, sample_weight=weights)
        np.testing.assert_array_equal(predicted, model.predict(X))


def test_y_is_ignored(blobs):
    X, labels = blobs
    with_y, without_y = (GaussianMixture(3, init_params=labels).fit(X, y) for y in (np.zeros(3), None))
    np.testing.assert_array_equal(with_y.means_, without_y.means_)
    assert with_y.score(X, np.zeros(3)) == without_y.score(X)


# ---- stopping ----


def test_one_iteration_is_reported_as_not_converged(start, blobs):
    with pytest.warns(ConvergenceWarning, match="^Best performing initialization did not converge") as caught:
        model = GaussianMixture(**start, max_iter=1).fit(blobs[0])
    assert issubclass(caught[0].category, sklearn.exceptions.ConvergenceWarning)
    assert (model.converged_, model.n_iter_, model.stop_reason_) == (False, 1, "max_iter")


def test_no_iteration_keeps_the_start_without_a_warning(start, covariance_type, blobs):
    X, labels = blobs
    expected = reference.m_step(X, reference.one_hot(labels), covariance_type)
    from_labels = GaussianMixture(3, covariance_type=covariance_type, init_params=labels, reg_covar=0.0, max_iter=0)
    for model in (from_labels.fit(X), GaussianMixture(**start, max_iter=0).fit(X)):
        assert (model.converged_, model.n_iter_, model.lower_bounds_) == (False, 0, [])
        assert model.lower_bound_ == -np.inf
        for name, value in zip(("weights_", "means_", "covariances_"), expected[:3], strict=True):
            np.testing.assert_allclose(getattr(model, name), value, rtol=1e-10, atol=1e-12, err_msg=name)
        assert model.log_likelihood_ == pytest.approx(reference.log_likelihood(X, expected), rel=1e-11)


def test_warm_start_continues_where_the_last_fit_ended(start, blobs):
    X, _ = blobs
    warm, whole = (settings | {"tol": 1e-9} for settings in (start | {"warm_start": True}, start))
    model, peer = GaussianMixture(**warm, max_iter=2), SklearnGaussianMixture(**warm, max_iter=2)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning):
            model.fit(X)
        with pytest.warns(sklearn.exceptions.ConvergenceWarning):
            peer.fit(X)
        assert_same_parameters(model, peer, rtol=1e-9)
        assert model.n_iter_ == peer.n_iter_ == 2
        assert model.lower_bound_ == pytest.approx(peer.lower_bound_, rel=1e-9)
        if HAS_HISTORY:
            np.testing.assert_allclose(model.lower_bounds_, peer.lower_bounds_, rtol=1e-9)
    with pytest.warns(ConvergenceWarning):
        at_once = GaussianMixture(**whole, max_iter=4).fit(X)
    np.testing.assert_allclose(model.means_, at_once.means_, rtol=1e-10)


@pytest.mark.parametrize(("verbose", "verbose_interval"), [(1, 1), (1, 3), (2, 2), (0, 1)])
def test_verbose_prints_scikit_learns_lines(start, verbose, verbose_interval, blobs, capsys):
    settings = start | {"verbose": verbose, "verbose_interval": verbose_interval, "tol": 1e-6}
    printed = []
    for estimator in (GaussianMixture, SklearnGaussianMixture):
        estimator(**settings).fit(blobs[0])
        printed.append(re.sub(r"time lapse \d+\.\d{5}s", "time lapse", capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert bool(printed[0]) == bool(verbose)


def test_callback_sees_every_iteration_and_can_stop_the_fit(blobs):
    X, _ = blobs
    seen = []

    def record(info):
        seen.append((info.init, info.n_iter, info.max_iter, info.lower_bound, info.change, info.n_samples))

    settings = {"init_params": "random_from_data", "random_state": 0, "max_iter": 500}
    model = GaussianMixture(3, n_init=2, callback=record, **settings).fit(X)
    assert {(max_iter, n_samples) for _, _, max_iter, _, _, n_samples in seen} == {(500, 600)}
    runs = [[row for row in seen if row[0] == init] for init in (0, 1)]
    assert [row[1] for run in runs for row in run] == [
        *range(1, len(runs[0]) + 1),
        *range(1, len(runs[1]) + 1),
    ]
    best = max(runs, key=lambda run: run[-1][3])
    lower_bounds = [row[3] for row in best]
    np.testing.assert_array_equal(lower_bounds, model.lower_bounds_)
    np.testing.assert_allclose([row[4] for row in best[1:]], np.diff(lower_bounds), atol=1e-15)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        stopped = GaussianMixture(3, callback=lambda info: info.n_iter == 2, **settings).fit(X)
    assert (stopped.converged_, stopped.n_iter_, stopped.stop_reason_) == (False, 2, "callback")


def test_an_interrupted_first_fit_leaves_a_usable_or_an_unfitted_estimator(blobs):
    def interrupt(info):
        raise KeyboardInterrupt

    model = GaussianMixture(3, init_params=blobs[1], callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(blobs[0])
    if hasattr(model, "means_"):
        assert np.isfinite(model.score_samples(blobs[0])).all()
    else:
        with pytest.raises(NotFittedError):
            model.predict(blobs[0])


# ---- starts of our own ----


def test_labels_responsibilities_and_callables_are_the_same_start(covariance_type, blobs):
    X, labels = blobs
    resp = reference.one_hot(labels)
    starts = [labels, labels.astype(np.int32), resp, lambda X, k, rng: labels, lambda X, k, rng: resp]
    first, *others = (
        GaussianMixture(3, covariance_type=covariance_type, init_params=init_params).fit(X) for init_params in starts
    )
    for other in others:
        np.testing.assert_array_equal(other.means_, first.means_)
        np.testing.assert_array_equal(other.covariances_, first.covariances_)


def test_a_callable_gets_the_data_and_the_generator_and_may_return_means(blobs):
    X, _ = blobs
    calls = []

    def choose(X, n_components, random_state):
        calls.append((X.shape, n_components, type(random_state)))
        return X[random_state.choice(len(X), n_components, replace=False)]

    models = [GaussianMixture(3, init_params=choose, random_state=seed, max_iter=0).fit(X) for seed in (0, 0, 1)]
    assert calls == [(X.shape, 3, np.random.RandomState)] * 3
    np.testing.assert_array_equal(models[0].means_, models[1].means_)
    assert not np.array_equal(models[0].means_, models[2].means_)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_an_integer_seed_fixes_every_bit(init_params, blobs):
    first, second = (GaussianMixture(3, init_params=init_params, random_state=7).fit(blobs[0]) for _ in range(2))
    np.testing.assert_array_equal(first.means_, second.means_)
    assert first.lower_bounds_ == second.lower_bounds_


# ---- a model from parameters, and parameters set by hand ----


def test_from_parameters_gives_the_density_of_these_parameters(covariance_type, blobs):
    X, labels = blobs
    mixture = reference.m_step(X, reference.one_hot(labels), covariance_type)
    model = GaussianMixture.from_parameters(*mixture)
    np.testing.assert_allclose(model.score_samples(X), reference.score_samples(X, mixture), rtol=1e-11)
    np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(X, mixture), atol=1e-11)
    assert model.bic(X) == pytest.approx(reference.bic(X, mixture), rel=1e-11)
    peer = SklearnGaussianMixture(
        3, covariance_type=covariance_type, max_iter=0, reg_covar=0.0, init_params="random"
    ).fit(X)
    for name in PARAMETERS:
        assert getattr(model, name).shape == getattr(peer, name).shape
    np.testing.assert_array_equal(model.covariances_, mixture.covariances)


def test_attributes_set_by_hand_work_without_fit_and_are_never_stale(start, covariance_type, blobs):
    X, _ = blobs
    _, fitted = fit_both(X, start)
    model, peer = (
        estimator(3, covariance_type=covariance_type) for estimator in (GaussianMixture, SklearnGaussianMixture)
    )
    for estimator in (model, peer):
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            setattr(estimator, name, getattr(fitted, name).copy())

    def assert_same_results():
        for reader in READERS:
            value, expected = getattr(model, reader)(X), getattr(peer, reader)(X)
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9, err_msg=reader)

    assert_same_results()
    for estimator in (model, peer):
        estimator.means_ = estimator.means_[::-1].copy()
    assert_same_results()
    for estimator in (model, peer):
        estimator.means_[0] += 1.0
        estimator.precisions_cholesky_ *= 2.0
        estimator.weights_[:] = [0.2, 0.2, 0.6]
    assert_same_results()
    model.set_params(random_state=0).means_[:] = 1e6
    assert np.abs(model.sample(50)[0] - 1e6).max() < 100


# ---- an estimator among estimators ----


def test_parameters_and_defaults_are_scikit_learns_and_some_more():
    ours, theirs = GaussianMixture().get_params(), SklearnGaussianMixture().get_params()
    none = "n_jobs acceleration solver_options prior fixed noise callback max_seconds checkpoint"
    more = dict.fromkeys(none.split()) | {
        "init_params": "auto",
        "solver": "em",
        "missing": "raise",
        "semi_supervised": False,
        "covariance_floor": 0.0,
        "on_singular": "raise",
        "checkpoint_every": 60.0,
        "resume": False,
    }
    assert ours == theirs | more
    parameters = inspect.signature(GaussianMixture).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["n_components"]


def test_the_constructor_stores_its_arguments_untouched_and_clone_copies_them(blobs):
    settings = {
        "n_components": 3,
        "init_params": blobs[1],
        "means_init": [[0, 0, 0]] * 3,
        "tol": -1,
        "n_jobs": 2,
    }
    model = GaussianMixture(**settings)
    for name, value in settings.items():
        assert getattr(model, name) is value
    copied = clone(model)
    assert copied.get_params()["n_jobs"] == 2
    np.testing.assert_array_equal(copied.init_params, blobs[1])
    assert repr(model).startswith("GaussianMixture(")
    assert copied.set_params(tol=0.5).tol == 0.5


def test_an_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="Invalid parameter 'n_clusters' for estimator GaussianMixture"):
        GaussianMixture().set_params(n_clusters=3)


@pytest.mark.parametrize("reader", [*READERS, "sample"])
def test_an_unfitted_model_raises_what_scikit_learn_raises(reader, blobs, same_error):
    arguments = () if reader == "sample" else blobs[:1]
    error = same_error(lambda estimator: getattr(estimator(), reader)(*arguments))
    assert isinstance(error, NotFittedError)


def test_copies_and_pickles_predict_alike(covariance_type, blobs):
    X, labels = blobs
    model = GaussianMixture(3, covariance_type=covariance_type, init_params=labels).fit(X)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
        assert copied.log_likelihood_ == model.log_likelihood_


def test_pipelines_and_searches_take_it(blobs):
    X, _ = blobs
    # One component has a closed form, so that both classes must score alike.
    ours, theirs = (cross_val_score(estimator(), X, cv=3) for estimator in (GaussianMixture, SklearnGaussianMixture))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    search = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 3]}, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 3}
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0))
    pipeline.fit(X, gaussianmixture__sample_weight=np.ones(len(X)))
    assert len(np.unique(pipeline.predict(X))) == 3


def test_sample_weight_can_be_requested_for_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        model = GaussianMixture().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        requests = model.get_metadata_routing()
    assert requests.fit.requests["sample_weight"] is True
    assert requests.score.requests["sample_weight"] is True


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(),
        GaussianMixture(missing="em"),
        BayesianGaussianMixture(),
        MixtureOfFactorAnalyzers(),
        MixtureOfFactorAnalyzers(missing="em"),
    ],
)
def test_the_tag_that_nan_is_allowed_tells_the_truth(model, blobs):
    X = blobs[0].copy()
    X[0, 0] = np.nan
    allowed = get_tags(model).input_tags.allow_nan
    assert allowed == (getattr(model, "missing", "raise") == "em")
    if allowed:
        assert np.isfinite(model.fit(X).score(X))
    else:
        with pytest.raises(ValueError, match="NaN"):
            model.fit(X)


# Not by parametrize_with_checks, which before scikit-learn 1.8 hands pytest a generator.
@pytest.mark.parametrize(
    ("estimator", "check"),
    [each for kind in ("raise", "em") for each in estimator_checks_generator(GaussianMixture(missing=kind))],
)
def test_scikit_learns_own_estimator_checks_pass(estimator, check):
    check(estimator)
