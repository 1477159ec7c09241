"""pytest-benchmark cases, run by `pytest benchmarks`: fastgmm beside the NumPy reference, one group per cell.

Every contender runs once before the clock starts, so compilation is never timed. An "iteration" case times a fit of
ITERATIONS iterations from one start, with the validation and the closing pass of an estimator; `python -m benchmarks`
is the instrument for single iterations, and the one that removes OPENBLAS presets.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from benchmarks import numpy_reference
from benchmarks.cases import COVARIANCE_TYPES, Case, Start, make_data, make_start
from benchmarks.contenders import CONTENDERS, load_contenders
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
    fits, _ = load_contenders([contender], available_threads())
    if contender not in fits or not CONTENDERS[contender].runs(case):
        pytest.skip(f"{contender} does not run {case.covariance_type} here")
    run(benchmark, case, fits[contender], *problem(case), ITERATIONS)


def fastgmm_model(start: Start) -> GaussianMixture:
    parameters = (start.weights, start.means, start.covariances)
    return GaussianMixture.from_parameters(*parameters, covariance_type=start.covariance_type)


def numpy_mixture(start: Start) -> Mixture:
    return Mixture(start.weights, start.means, start.covariances, start.precisions_cholesky)


@pytest.mark.parametrize("contender", ["fastgmm", "numpy"])
@pytest.mark.parametrize("method", ["score_samples", "predict", "predict_proba"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scoring(benchmark, case, method, contender):
    """`score_samples` is the E-step alone."""
    X, start = problem(case)
    if contender == "fastgmm":
        result = run(benchmark, case, getattr(fastgmm_model(start), method), X)
    else:
        score = getattr(numpy_reference, method)
        result = run(benchmark, case, score, X, numpy_mixture(start), case.covariance_type)
    assert len(result) == len(X)


@pytest.mark.parametrize("contender", ["fastgmm", "numpy"])
@pytest.mark.parametrize("case", [case for case in CASES if case.dtype == "float64"], ids=str)
def test_sample(benchmark, case, contender):
    start = problem(case)[1]
    if contender == "fastgmm":
        X, _ = run(benchmark, case, fastgmm_model(start).sample, case.n_samples)
    else:
        rng = np.random.default_rng(0)
        draw = numpy_reference.sample
        X, _ = run(benchmark, case, draw, numpy_mixture(start), case.covariance_type, case.n_samples, rng)
    assert len(X) == case.n_samples


@pytest.mark.filterwarnings("ignore::UserWarning")  # one iteration does not converge
@pytest.mark.parametrize("contender", [GaussianMixture, SklearnGaussianMixture], ids=["fastgmm", "scikit-learn"])
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("case", [case for case in CASES if case.covariance_type == "diag"], ids=str)
def test_starts(benchmark, case, init_params, contender):
    """A fit of one iteration with diag covariances: mostly the start."""
    model = contender(case.n_components, covariance_type="diag", init_params=init_params, max_iter=1, random_state=0)
    run(benchmark, case, model.fit, problem(case)[0])
