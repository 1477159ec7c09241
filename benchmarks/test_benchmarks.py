"""pytest-benchmark cases, run by `pytest benchmarks`: fastgmm beside the NumPy reference, one group per cell.

Every contender runs once before the clock starts, so compilation is never timed. An "iteration" case times a fit of
ITERATIONS iterations from one start, with the validation and the closing pass of an estimator; `python -m benchmarks`
is the instrument for single iterations, and the one that removes OPENBLAS presets.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks import numpy_reference
from benchmarks.cases import COVARIANCE_TYPES, Case, Start, make_data, make_start
from benchmarks.contenders import contenders
from benchmarks.numpy_reference import Mixture
from fastgmm import GaussianMixture
from fastgmm.threads import available_threads

ITERATIONS = 5
SHAPES = [(100_000, 2, 8), (50_000, 16, 32), (10_000, 64, 16)]
CASES = [
    Case(*shape, covariance_type, dtype)
    for shape in SHAPES
    for covariance_type in COVARIANCE_TYPES
    for dtype in ("float64", "float32")
]
SCORING = ("score_samples", "predict", "predict_proba")
INIT_PARAMS = ("kmeans", "k-means++", "random", "random_from_data")


@cache
def problem(case: Case) -> tuple[np.ndarray, Start]:
    X = make_data(case)
    return X, make_start(case, X)


def run(benchmark, case: Case, function, *arguments) -> object:
    benchmark.group = f"{benchmark.name.partition('[')[0]} {case}"
    return benchmark.pedantic(function, arguments, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("contender", ["fastgmm", "numpy", "numpy-pool", "numpy-packed", "scikit-learn"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_iteration(benchmark, case, contender):
    fits = contenders(case, available_threads())
    if contender not in fits:
        pytest.skip(f"{contender} does not run {case.covariance_type} here")
    run(benchmark, case, fits[contender], *problem(case), ITERATIONS)


def _fastgmm_scorer(start: Start, method: str):
    parameters = (start.weights, start.means, start.covariances)
    return getattr(GaussianMixture.from_parameters(*parameters, covariance_type=start.covariance_type), method)


def _numpy_scorer(start: Start, method: str):
    mixture = Mixture(start.weights, start.means, start.covariances, start.precisions_cholesky)
    return lambda X: getattr(numpy_reference, method)(X, mixture, start.covariance_type)


@pytest.mark.parametrize("scorer", [_fastgmm_scorer, _numpy_scorer], ids=["fastgmm", "numpy"])
@pytest.mark.parametrize("method", SCORING)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scoring(benchmark, case, method, scorer):
    X, start = problem(case)
    result = run(benchmark, case, scorer(start, method), X)
    assert len(result) == len(X)


@pytest.mark.parametrize("contender", ["fastgmm", "numpy"])
@pytest.mark.parametrize("case", [case for case in CASES if case.dtype == "float64"], ids=str)
def test_sample(benchmark, case, contender):
    start = problem(case)[1]
    if contender == "fastgmm":
        sample = _fastgmm_scorer(start, "sample")
    else:
        mixture = Mixture(start.weights, start.means, start.covariances, start.precisions_cholesky)
        rng = np.random.default_rng(0)
        sample = lambda n_samples: numpy_reference.sample(mixture, case.covariance_type, n_samples, rng)  # noqa: E731
    X, labels = run(benchmark, case, sample, case.n_samples)
    assert len(X) == len(labels) == case.n_samples


@pytest.mark.parametrize("contender", ["fastgmm", "scikit-learn"])
@pytest.mark.parametrize("init_params", INIT_PARAMS)
@pytest.mark.parametrize("case", [case for case in CASES if case.covariance_type == "full"], ids=str)
@pytest.mark.filterwarnings("ignore:.*converge:UserWarning")
def test_starts(benchmark, case, init_params, contender):
    """A fit of one iteration: almost all of its time is the start."""
    ...
