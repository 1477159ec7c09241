"""Whole fits to equal quality: default fits with their start, and the time until the likelihood is near the best known.

Default fits of fastgmm and scikit-learn (k-means start, tol 1e-3, at most 100 iterations) for several seeds: seconds,
iterations, and the log-likelihood per row recomputed by the harness. Then longer fits (tol 1e-5, at most 100
iterations) whose likelihood is followed: the best of all fits is the best known value of the case, and a fit's time to
quality ends when its log-likelihood is within GAP nats per row of it. Local optima make that unreachable for some
seeds; the report counts them.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.calls import ESTIMATORS, fit_quietly, make_estimator
from benchmarks.cases import Case, make_data
from benchmarks.measure import Cells, clock_at_rest, some_rows, summarise, total_log_likelihood
from benchmarks.numpy_reference import Mixture

GAP = 1e-3
LONGEST_FIT = 300.0  # seconds after which a followed fit is stopped
Timeline = list[tuple[float, float]]  # (seconds since the fit began, mean log-likelihood of the parameters)


class OutOfTimeError(Exception):
    """Ends a followed fit of scikit-learn."""


def measure_fit(case: Case, names: list[str], n_threads: int, seeds: tuple[int, ...]) -> dict[str, Any]:
    """The cells of a case, its best known log-likelihood per row, and the gap."""
    X = make_data(case)
    cells: Cells = {}
    best = -np.inf
    timelines: dict[str, list[Timeline]] = {}
    for name in (name for name in ESTIMATORS if name in names):
        if name == "fastgmm":
            default_fit(name, case, some_rows(X, case.n_components), 0, n_threads)  # compiles
        fits = [default_fit(name, case, X, seed, n_threads) for seed in seeds]
        timelines[name] = [follow_fit(name, case, X, seed, n_threads) for seed in seeds]
        cells[name] = {"seconds": summarise(fit["seconds"] for fit in fits), "fits": fits, "agrees": True}
        best = max(best, *(fit["log_likelihood_per_row"] for fit in fits))
        best = max(best, *(value for timeline in timelines[name] for _, value in timeline))
    for name, cell in cells.items():
        for fit, timeline in zip(cell["fits"], timelines[name], strict=True):
            fit["seconds_to_quality"] = seconds_to_quality(timeline, best - GAP)
    return {"contenders": cells, "best_log_likelihood_per_row": float(best), "gap": GAP}


def seconds_to_quality(timeline: Timeline, wanted: float) -> float | None:
    """When a fit first reached `wanted`; None if it never did."""
    return next((seconds for seconds, value in timeline if value >= wanted), None)


def default_fit(name: str, case: Case, X: np.ndarray, seed: int, n_threads: int) -> dict[str, Any]:
    """Fit with the defaults of both libraries; the log-likelihood is the harness's own."""
    model = make_estimator(name, case, n_threads, random_state=seed)
    seconds = clock_at_rest(fit_quietly, model, X)
    reached = log_likelihood_per_row(model, case, X)
    return {"seed": seed, "seconds": seconds, "n_iter": int(model.n_iter_), "log_likelihood_per_row": reached}


def log_likelihood_per_row(model: Any, case: Case, X: np.ndarray) -> float:
    """In nats, of the fitted parameters, by the harness."""
    mixture = Mixture(model.weights_, model.means_, model.covariances_, model.precisions_cholesky_)
    return total_log_likelihood(X, mixture, case.covariance_type) / len(X)


def follow_fit(name: str, case: Case, X: np.ndarray, seed: int, n_threads: int) -> Timeline:
    """Fit for longer and note when each mean log-likelihood was known: one E-step after its parameters, for both.

    The values are the estimator's own; RuntimeError if the harness finds its final parameters to be worse.
    """
    timeline: Timeline = []
    begin = perf_counter()

    def note(value: float) -> bool:
        timeline.append((perf_counter() - begin, float(value)))
        return timeline[-1][0] > LONGEST_FIT

    model = make_estimator(name, case, n_threads, tol=1e-5, max_iter=100, random_state=seed)
    if name == "fastgmm":
        model.callback = lambda info: note(info.lower_bound)
    else:
        # scikit-learn has no callback: look at what it compares with tol, once per iteration.
        compute_lower_bound = model._compute_lower_bound

        def followed(log_resp: Any, log_prob_norm: Any) -> Any:
            if note(log_prob_norm):
                raise OutOfTimeError
            return compute_lower_bound(log_resp, log_prob_norm)

        model._compute_lower_bound = followed
    try:
        fit_quietly(model, X)
    except OutOfTimeError:
        return timeline
    reached = log_likelihood_per_row(model, case, X)
    if not timeline or reached < timeline[-1][1] - 1e-4:
        raise RuntimeError(f"{name} reported a log-likelihood per row that its parameters do not have: {reached}")
    return timeline
