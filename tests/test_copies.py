"""Every estimator pickled, copied, cloned and sent to other processes: equal predictions, fitted or not."""

from __future__ import annotations

import copy
import multiprocessing
import operator
import pickle
from concurrent.futures import ProcessPoolExecutor

import cloudpickle
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastgmm
from fastgmm import BayesianGaussianMixture, ConjugatePrior, GaussianMixture, MixtureOfFactorAnalyzers
from fastgmm import StandardisedMixture as Standardised
from fastgmm.images import ImageGenerator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)) + 6 * (np.arange(300) % 3)[:, None]
IMAGES = np.clip(RNG.normal(0.3, 0.1, (120, 4, 4)) + 0.4 * (np.arange(120) % 2)[:, None, None], 0, 1)
LABELS = np.arange(120) % 2

ESTIMATORS = {
    "GaussianMixture": lambda: GaussianMixture(3, random_state=0),
    "everything set": lambda: GaussianMixture(
        3,
        covariance_type="tied",
        random_state=np.random.RandomState(0),
        init_params=np.arange(300) % 3,
        prior=ConjugatePrior(mean_precision=0.1),
        noise=0.01,
        missing="em",
        fixed={"weights": "equal"},
        callback=fastgmm.progress("none"),
        n_jobs=2,
    ),
    "float32": lambda: GaussianMixture(3, covariance_type="diag", random_state=0),
    "BayesianGaussianMixture": lambda: BayesianGaussianMixture(n_components=4, random_state=0, tol=1e-2),
    "MixtureOfFactorAnalyzers": lambda: MixtureOfFactorAnalyzers(3, 1, random_state=0, obs_noise=0.1),
    "StandardisedMixture": lambda: Standardised(GaussianMixture(3, random_state=0)),
    "standardised factors": lambda: Standardised(MixtureOfFactorAnalyzers(3, 1, random_state=0)),
    "ImageGenerator": lambda: ImageGenerator(1, n_factors=2, random_state=0),
    "projected images": lambda: ImageGenerator(2, model="full", random_state=0),
}
COPIES = {
    **{f"pickle {n}": lambda model, n=n: pickle.loads(pickle.dumps(model, n)) for n in (2, pickle.HIGHEST_PROTOCOL)},
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def data_of(name):
    if isinstance(ESTIMATORS[name](), ImageGenerator):
        return IMAGES
    return X.astype(np.float32) if name == "float32" else X


def fit(name, model):
    if isinstance(model, ImageGenerator):
        return model.fit(IMAGES, labels=LABELS)
    return model.fit(data_of(name))


def readers(name):
    """What to ask a fitted model: functions that any process can be sent."""
    names = ("classify", "score_samples") if data_of(name) is IMAGES else ("predict", "predict_proba", "score_samples")
    return [operator.methodcaller(reader, data_of(name)) for reader in names]


def answers(name, model):
    return [reader(model) for reader in readers(name)]


@pytest.fixture(scope="module")
def fitted():
    return {name: fit(name, make()) for name, make in ESTIMATORS.items()}


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_copies_of_fitted_and_unfitted_estimators_predict_alike(name, way, fitted):
    expected = answers(name, fitted[name])
    copied = COPIES[way](fitted[name])
    assert type(copied) is type(fitted[name])
    assert_same(answers(name, copied), expected)
    assert_same(answers(name, fit(name, COPIES[way](ESTIMATORS[name]()))), expected)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clones_are_not_fitted_and_are_fitted_alike(name, fitted):
    expected = answers(name, fitted[name])
    for original in (ESTIMATORS[name](), fitted[name]):
        cloned = clone(original)
        assert type(cloned) is type(original)
        with pytest.raises(ValueError, match=r"not fitted|fit has not been called"):
            answers(name, cloned)
        if name != "everything set":  # whose generator has moved on in the meantime
            assert_same(answers(name, fit(name, cloned)), expected)
    assert_same(answers(name, fitted[name]), expected)


def test_models_that_are_sent_to_a_process_started_afresh_predict_and_fit_alike(fitted):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, model in fitted.items():
            expected = answers(name, model)
            assert_same(list(pool.map(operator.call, readers(name), [model] * len(expected))), expected)
            if data_of(name) is not IMAGES:
                back = pool.submit(operator.methodcaller("fit", data_of(name)), ESTIMATORS[name]()).result()
                assert_same(answers(name, back), expected)


def test_a_copy_and_its_original_go_separate_ways(fitted):
    model = fitted["GaussianMixture"]
    before = model.means_.copy()
    for way in COPIES.values():
        way(model).set_params(n_components=2).fit(X[:200])
        np.testing.assert_array_equal(model.means_, before)
        assert model.n_components == 3


def test_a_search_chooses_settings_of_the_mixture_that_is_standardised():
    search = GridSearchCV(Standardised(GaussianMixture(random_state=0)), {"mixture__n_components": [1, 3]}, cv=2).fit(X)
    assert search.best_params_ == {"mixture__n_components": 3}
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(X))
