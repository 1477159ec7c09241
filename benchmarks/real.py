"""Whole default fits on rows that people have: seconds, passes over the rows, and how high the likelihood ends.

Every contender fits with its defaults: `tol` 1e-3, at most 100 iterations, `random_state` as the seed. The NumPy
reference and oneDAL have no start of their own; they begin at scikit-learn's (k-means, one M-step), whose time counts.
The log-likelihood is recomputed in float64 from the parameters, on the rows that were fitted and on the fifth held out.
Contenders take turns, seed by seed; one whose fits of a set have taken longer than `budget` gets no further seed there,
and the table says how many it had.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.cases import Start
from benchmarks.contenders import CONTENDERS, load_contenders
from benchmarks.measure import total_log_likelihood
from benchmarks.numpy_reference import Mixture, Problem, cholesky_of_precisions
from benchmarks.real_sets import SETS, RealSet

TOL, MAX_ITER, REG_COVAR = 1e-3, 100, 1e-6
NAMES = ("fastgmm", "scikit-learn", "onedal", "numpy")
SCORED_ROWS = 100_000  # of the fitted and of the held-out rows, the first in a random order

Fitted = tuple[Mixture, int]


@dataclass
class Outcome:
    """Of one contender on one set, an entry per seed; log-likelihoods are nats per row."""

    seconds: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    fitted: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    failure: str | None = None


def fit_fastgmm(X: np.ndarray, case: RealSet, seed: int, n_threads: int) -> Fitted:
    from fastgmm import GaussianMixture

    return _fit_class(GaussianMixture, X, case, seed, n_jobs=n_threads)


def fit_sklearn(X: np.ndarray, case: RealSet, seed: int, n_threads: int) -> Fitted:
    from sklearn.mixture import GaussianMixture

    return _fit_class(GaussianMixture, X, case, seed)


def _fit_class(kind: type, X: np.ndarray, case: RealSet, seed: int, **settings: Any) -> Fitted:
    model: Any = kind(case.n_components, covariance_type=case.covariance_type, random_state=seed, **settings)
    model.fit(X)
    return Mixture(model.weights_, model.means_, model.covariances_, model.precisions_cholesky_), int(model.n_iter_)


def fit_numpy(X: np.ndarray, case: RealSet, seed: int, n_threads: int) -> Fitted:
    mixture, problem, n_iter = sklearn_start(X, case, seed), Problem(X, case.covariance_type), 0
    change = bound = -np.inf
    while n_iter < MAX_ITER and abs(change) >= TOL:
        mixture, reached = problem.iterate(mixture, REG_COVAR)
        change, bound, n_iter = reached - bound, reached, n_iter + 1
    return mixture, n_iter


def fit_onedal(X: np.ndarray, case: RealSet, seed: int, n_threads: int) -> Fitted:
    from benchmarks.peers.onedal import fit_to_tolerance

    mixture = sklearn_start(X, case, seed)
    precisions = np.empty(0)
    start = Start(case.covariance_type, 0.0, *mixture[:3], precisions, mixture.precisions_cholesky)
    return fit_to_tolerance(X, start, MAX_ITER, TOL * len(X))


def sklearn_start(X: np.ndarray, case: RealSet, seed: int) -> Mixture:
    """The parameters after scikit-learn's start: k-means, one M-step."""
    from sklearn.mixture import GaussianMixture

    model: Any = GaussianMixture(case.n_components, covariance_type=case.covariance_type, random_state=seed)
    model._initialize_parameters(X, np.random.RandomState(seed))
    covariances = np.asarray(model.covariances_, dtype=np.float64)
    factors = cholesky_of_precisions(covariances, case.covariance_type)
    return Mixture(model.weights_.astype(np.float64), model.means_.astype(np.float64), covariances, factors)


FITS: dict[str, Callable[[np.ndarray, RealSet, int, int], Fitted]] = {
    "fastgmm": fit_fastgmm,
    "scikit-learn": fit_sklearn,
    "onedal": fit_onedal,
    "numpy": fit_numpy,
}


def run_set(case: RealSet, names: list[str], n_threads: int, seeds: range, budget: float) -> dict[str, Any]:
    """All contenders on one set."""
    X, held_out = case.load()
    outcomes = {name: Outcome() for name in names if case.covariance_type in CONTENDERS[name].covariance_types}
    fit_fastgmm(X, case, 0, n_threads)  # compiles
    for seed in seeds:
        for name, outcome in outcomes.items():
            if outcome.failure is None and sum(outcome.seconds) < budget:
                sleep(measure.SETTLE)
                _fit_once(outcome, name, X, held_out, case, seed, n_threads)
    cells = {name: vars(outcome) for name, outcome in outcomes.items()}
    return {"set": case.name, "case": str(case), "n_samples": len(X), "n_features": X.shape[1]} | {
        "n_components": case.n_components,
        "covariance_type": case.covariance_type,
        "standardised": case.standardised,
        "dtype": case.dtype,
        "contenders": cells,
    }


def _fit_once(
    outcome: Outcome, name: str, X: np.ndarray, held_out: np.ndarray, case: RealSet, seed: int, n_threads: int
) -> None:
    begin = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture, passes = FITS[name](X, case, seed, n_threads)
        seconds = perf_counter() - begin
        scores = [total_log_likelihood(rows[:SCORED_ROWS], mixture, case.covariance_type) for rows in (X, held_out)]
    except (ValueError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:  # a result, too
        outcome.failure = f"seed {seed}: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        return
    outcome.seconds.append(seconds)
    outcome.passes.append(passes)
    outcome.fitted.append(scores[0] / min(len(X), SCORED_ROWS))
    outcome.held_out.append(scores[1] / min(len(held_out), SCORED_ROWS))


def run_real(
    sets: str,
    n_seeds: int,
    budget: float,
    n_threads: int,
    contenders: list[str] | None,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The report; `sets` is a regular expression searched for in names such as iris-k3-tied-raw-float64."""
    from benchmarks.run import describe_machine

    names, records = load_contenders(contenders or NAMES, n_threads)
    report = describe_machine() | {"n_threads": n_threads, "contenders": records, "real": [], "failed_sets": []}
    for case in (case for case in SETS if re.search(sets, str(case))):
        try:
            row = run_set(case, [name for name in NAMES if name in names], n_threads, range(n_seeds), budget)
        except ImportError as error:
            report["failed_sets"].append({"case": str(case), "failure": str(error)})
            print(f"{case}: not there: {error}", flush=True)
            continue
        report["real"].append(row)
        print(f"{case}: {row['n_samples']} x {row['n_features']}")
        for name, cell in row["contenders"].items():
            print(f"  {describe(name, cell)}", flush=True)
        save(report)
    return report


def describe(name: str, cell: dict[str, Any]) -> str:
    """A line for people: time, passes, likelihoods."""
    if not cell["seconds"]:
        return f"{name:13} {cell['failure']}"
    fitted, held = cell["fitted"], cell["held_out"]
    numbers = f"{np.median(cell['seconds']):9.4f} s {np.median(cell['passes']):5.0f} passes"
    scores = f"fitted {np.mean(fitted):.4f} ({min(fitted):.4f} to {max(fitted):.4f}), held out {np.mean(held):.4f}"
    return f"{name:13} {numbers}  {scores}  {len(fitted)} seeds {cell['failure'] or ''}"
