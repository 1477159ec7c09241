"""Scoring, sampling and the k-means start: calls of the estimators, checked before they are timed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import numpy_reference
from benchmarks.cases import Case, make_data, make_start
from benchmarks.contenders import fit_estimator
from benchmarks.measure import Cells, clock_at_rest, some_rows, summarise, time_calls
from benchmarks.numpy_reference import Mixture

METHODS = ("score_samples", "predict", "predict_proba")
# Mean deviation per value from the NumPy reference, relative where values exceed one; the share of other labels.
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}
LARGEST_STANDARD_ERRORS = 6.0  # of the column means of drawn rows; 1e-9 by chance
ESTIMATORS = ("fastgmm", "scikit-learn")


def make_estimator(name: str, case: Case, n_threads: int, **parameters: Any) -> Any:
    """An unfitted GaussianMixture of fastgmm or scikit-learn."""
    if name == "fastgmm":
        from fastgmm import GaussianMixture

        parameters["n_jobs"] = n_threads
    else:
        from sklearn.mixture import GaussianMixture
    return GaussianMixture(case.n_components, covariance_type=case.covariance_type, **parameters)


def fit_quietly(model: Any, X: np.ndarray) -> Any:
    """`model.fit(X)` without the warning that it did not converge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return model.fit(X)


def fitted_estimator(name: str, case: Case, mixture: Mixture, n_threads: int) -> Any:
    """An estimator with these parameters, as if fitted."""
    model = make_estimator(name, case, n_threads, random_state=0)
    model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = mixture
    model.n_features_in_ = case.n_features
    return model


def fit_few(case: Case, X: np.ndarray) -> Mixture:
    """Parameters after 5 EM iterations of the NumPy reference, in the dtype of the case."""
    mixture = numpy_reference.fit_fixed(X, make_start(case, X), 5)
    return Mixture(*(array.astype(case.dtype) for array in mixture))


def time_agreeing(
    calls: dict[str, Callable[[], Any]], failure: Callable[[Any], str | None], repeats: int, seconds: float
) -> Cells:
    """Call each once and judge its result; time those without a failure. The one call of a slow one is its time."""
    cells: Cells = {}
    for name, call in calls.items():
        result: list[Any] = []
        taken = clock_at_rest(lambda call=call, result=result: result.append(call()))
        reason = failure(result[0])
        cells[name] = {"agrees": reason is None} | ({"failure": reason} if reason else {})
        if reason is None and taken > repeats * seconds:
            cells[name]["seconds"] = summarise([taken])
    fast = {name: call for name, call in calls.items() if cells[name]["agrees"] and "seconds" not in cells[name]}
    for name, timing in time_calls(fast, repeats, seconds).items():
        cells[name]["seconds"] = timing
    return cells


def measure_scoring(case: Case, names: list[str], n_threads: int, repeats: int, seconds: float) -> dict[str, Cells]:
    """For each method the seconds per call of those in `names` that score."""
    X = make_data(case)
    mixture = fit_few(case, X)
    few = some_rows(X, case.n_components)
    rows: dict[str, Cells] = {}
    for method in METHODS:
        reference = partial(getattr(numpy_reference, method), X, mixture, case.covariance_type)
        calls: dict[str, Callable[[], Any]] = {}
        for name in (name for name in ESTIMATORS if name in names):
            score = getattr(fitted_estimator(name, case, mixture, n_threads), method)
            score(few)  # compiles
            calls[name] = partial(score, X)
        if "numpy" in names:
            calls["numpy"] = reference
        failure = partial(scoring_failure, reference(), TOLERANCE[case.dtype])
        rows[method] = time_agreeing(calls, failure, repeats, seconds)
    return rows


def scoring_failure(expected: np.ndarray, tolerance: float, actual: np.ndarray) -> str | None:
    """Why `actual` is not `expected`, labels or values; None if it is."""
    if expected.dtype.kind == "i":
        deviation = float(np.mean(actual != expected))
    else:
        deviation = float(np.mean(np.abs(actual - expected)) / max(1.0, float(np.mean(np.abs(expected)))))
    return None if deviation <= tolerance else f"deviates by {deviation:.1e} from the NumPy reference"


def measure_sample(case: Case, names: list[str], n_threads: int, repeats: int, seconds: float) -> Cells:
    """Seconds to draw n_samples rows from a mixture fitted to few rows."""
    few = Case(min(case.n_samples, 20_000), case.n_features, case.n_components, case.covariance_type, case.dtype)
    X = make_data(few)
    mixture = fit_few(few, X)
    rng = np.random.default_rng(0)
    calls: dict[str, Callable[[], Any]] = {}
    for name in (name for name in ESTIMATORS if name in names):
        model = fitted_estimator(name, case, mixture, n_threads)
        model.sample(1_000)  # compiles
        calls[name] = partial(model.sample, case.n_samples)
    if "numpy" in names:
        calls["numpy"] = partial(numpy_reference.sample, mixture, case.covariance_type, case.n_samples, rng)
    standard_error = X.std(axis=0) / np.sqrt(case.n_samples)
    failure = partial(sample_failure, mixture.weights @ mixture.means, standard_error)
    return time_agreeing(calls, failure, repeats, seconds)


def sample_failure(mean: np.ndarray, standard_error: np.ndarray, drawn: tuple[np.ndarray, np.ndarray]) -> str | None:
    """Why the drawn rows are not from the mixture, by their column means; None if they may be."""
    distance = float(np.max(np.abs(drawn[0].mean(axis=0) - mean) / standard_error))
    return None if distance < LARGEST_STANDARD_ERRORS else f"a column mean is {distance:.1f} standard errors off"


def measure_start(case: Case, names: list[str], n_threads: int, repeats: int, seconds: float) -> Cells:
    """Seconds of the default start (k-means): a fit without iterations less the same fit from given parameters.

    `iteration_seconds` of the same contender, so that the report can say how many EM iterations a start costs.
    """
    X = make_data(case)
    start = make_start(case, X)
    few = some_rows(X, case.n_components)
    cells: Cells = {}
    for name in (name for name in ESTIMATORS if name in names):
        own = {"n_jobs": n_threads} if name == "fastgmm" else {}
        model = make_estimator(name, case, n_threads, max_iter=0, random_state=0)
        from_given = partial(fit_estimator, type(model), X, start, **own)
        fit_quietly(model, few)  # compiles
        starts: list[float] = []
        iterations: list[float] = []
        used = 0.0
        while not starts or (len(starts) < repeats and used < repeats * seconds):
            whole = clock_at_rest(fit_quietly, model, X)
            one, three = clock_at_rest(from_given, 1), clock_at_rest(from_given, 3)
            used += whole + one + three
            iterations.append((three - one) / 2)
            starts.append(whole - (one - iterations[-1]))
        cells[name] = {"seconds": summarise(starts), "iteration_seconds": float(np.median(iterations)), "agrees": True}
    return cells
