"""Fits of few rows are Python's time: how much of it there is, and how few rooms an estimator is made of."""

import itertools
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture
from fastgmm.optimization import problem
from tests.conftest import read_only

PACKAGE = str(Path(fastgmm.__file__).parent)


@pytest.fixture(scope="module")
def rows():
    return read_only(np.random.default_rng(0).normal(size=(3000, 4)))


def calls_of_a_fit(rows, max_iter):
    """Functions of the package that a fit from a given start calls."""
    start = {"means_init": rows[:3], "weights_init": np.full(3, 1 / 3), "precisions_init": np.stack([np.eye(4)] * 3)}
    model = GaussianMixture(3, tol=0, max_iter=max_iter, **start)
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows)
        sys.setprofile(note)
        try:
            model.fit(rows)
        finally:
            sys.setprofile(None)
    return count


def test_an_iteration_of_a_large_problem_calls_at_most_90_functions(rows, monkeypatch):
    """117 in version 0.1.0, for which an iteration on 1,000 x 2 rows took half as long again."""
    monkeypatch.setattr(problem, "is_small", lambda *shape: False)
    two, three = calls_of_a_fit(rows, 2), calls_of_a_fit(rows, 3)
    assert 20 < three - two <= 90


def test_all_iterations_of_a_small_problem_are_one_call(rows):
    """What follows from the number of iterations is a list of bounds."""
    two, many = calls_of_a_fit(rows, 2), calls_of_a_fit(rows, 50)
    assert many - two <= 3 * 48


@pytest.mark.parametrize(
    "estimator", [GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture]
)
def test_an_estimator_is_made_of_at_most_six_classes_and_no_mixin(estimator):
    own = [kind for kind in estimator.__mro__ if kind.__module__.startswith("fastgmm.")]
    assert len(own) <= 6
    for one, other in itertools.pairwise(own):  # a line of descent; aic and bic alone stand beside it
        assert issubclass(one, other) or {one.__name__, other.__name__} & {"InformationCriteria"}


PUBLIC = ("predict", "predict_proba", "score_samples", "score", "impute", "aic", "bic")


@pytest.mark.parametrize("method", PUBLIC)
def test_each_public_method_is_written_once(method):
    """In one class, from which all that have it inherit it."""
    kinds = (GaussianMixture, BayesianGaussianMixture, MixtureOfFactorAnalyzers, StandardisedMixture)
    homes = {kind.__qualname__ for estimator in kinds for kind in estimator.__mro__ if method in vars(kind)}
    assert len(homes - {"DensityMixin"}) == 1
