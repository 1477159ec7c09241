"""Check what contenders reach, then time them: whole EM iterations, or calls.

Iterations: every fit is run with two iteration counts and the times are subtracted, so that validation, copies and the
closing pass of an estimator cancel; compilation happens in a first fit outside the clock. Contenders take turns.
Checking: the total log-likelihood of the parameters each contender returns is recomputed here, in float64, from
its weights, means and covariances alone; a contender that does not agree with the NumPy reference gets no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter, sleep
from typing import Any

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

from benchmarks import numpy_reference
from benchmarks.cases import Case, Start, make_data, make_start
from benchmarks.contenders import CONTENDERS, Fit
from benchmarks.numpy_reference import Mixture

Cells = dict[str, dict[str, Any]]

CHECKED_ITERATIONS = 3
# Mean log-likelihoods after CHECKED_ITERATIONS from one start. Contenders differ by rounding alone, which float32
# parameters (24 bits) and the iterations amplify.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
# scikit-learn sums a million rows of float32 in float32, and is off by up to 8e-5: a loss of digits that the report
# shows, and no reason to leave out its time.
PEER_TOLERANCE = {"float64": 1e-9, "float32": 2e-4}
CHECKED_ROWS = 100_000  # on which the likelihoods are recomputed; parameters are fitted on all
# A contender whose iteration would take longer, extrapolated from a twentieth of the rows, is skipped at that size.
LONGEST_ITERATION = 5.0
# One slower than this is timed once, by its check fit, so that a profile stays within minutes; fastgmm never is.
TIMED_ONCE = 0.5


# OpenBLAS's threads keep turning for up to 0.1 s after a product, on a core that the next contender needs: labels of
# 100,000 x 64 rows took fastgmm 13 instead of 6 ms right after scikit-learn's, until those threads slept.
SETTLE = 0.2


def clock_at_rest(call: Callable[..., object], *arguments: object) -> float:
    """Seconds of one call, once the threads of others have come to rest."""
    sleep(SETTLE)
    return clock(call, *arguments)


def clock(call: Callable[..., object], *arguments: object) -> float:
    """Seconds of one call."""
    begin = perf_counter()
    call(*arguments)
    return perf_counter() - begin


def summarise(seconds: Iterable[float]) -> dict[str, float]:
    """Five numbers and how many they summarise."""
    values = list(seconds)
    quantiles = zip(("min", "q1", "median", "q3", "max"), np.quantile(values, (0, 0.25, 0.5, 0.75, 1)), strict=True)
    return {name: float(value) for name, value in quantiles} | {"rounds": len(values)}


def per_iteration(differences: list[float], extra: int) -> dict[str, Any]:
    """What a cell says of the seconds that `extra` iterations took in each round."""
    seconds = summarise(difference / extra for difference in differences)
    if seconds["median"] <= 0:  # on a busy machine
        return {"skipped": "too noisy: a fit of more iterations took less time"}
    return {"seconds": seconds, "timed_iterations": extra}


def total_log_likelihood(X: np.ndarray, mixture: Mixture, covariance_type: str) -> float:
    """Sum over rows of the log-density in nats, in float64, through SciPy's Cholesky factors of the covariances."""
    n_components, n_features = mixture.means.shape
    covariances = np.asarray(mixture.covariances, dtype=np.float64)
    matrices = {
        "full": lambda: covariances,
        "tied": lambda: np.broadcast_to(covariances, (n_components, n_features, n_features)),
        "diag": lambda: covariances[:, :, None] * np.eye(n_features),
        "spherical": lambda: covariances[:, None, None] * np.eye(n_features),
    }[covariance_type]()
    factors = [cholesky(matrix, lower=True) for matrix in matrices]
    total = 0.0
    for first in range(0, len(X), 10_000):
        rows = X[first : first + 10_000].astype(np.float64)
        log_prob = np.empty((n_components, len(rows)))
        for k, factor in enumerate(factors):
            whitened = solve_triangular(factor, (rows - mixture.means[k]).T, lower=True)
            log_det = np.log(np.diag(factor)).sum()
            log_prob[k] = -0.5 * (n_features * np.log(2 * np.pi) + np.square(whitened).sum(axis=0)) - log_det
        total += float(logsumexp(log_prob.T + np.log(mixture.weights.astype(np.float64)), axis=1).sum())
    return total


def some_rows(X: np.ndarray, n_components: int) -> np.ndarray:
    """A twentieth of the rows: enough that the code which runs on them, compiled here, is the code for all."""
    return X[: max(5_000, len(X) // 20, 20 * n_components)]


def predict_iteration_seconds(X: np.ndarray, start: Start, fit: Fit) -> float:
    """Seconds that an iteration over X would take, from a twentieth of its rows; set-up included, so an upper guess."""
    rows = some_rows(X, len(start.weights))
    fit(rows, start, 1)  # compiles
    return clock(fit, rows, start, 2) / 2 * len(X) / len(rows)


def failure_cell(error: Exception) -> dict[str, Any]:
    """The cell of a contender that raised, with the first line of what it said."""
    return {"agrees": False, "failure": f"{type(error).__name__}: {error}".partition("\n")[0]}


def check_contender(
    X: np.ndarray, start: Start, fit: Fit, expected: float, tolerance: float, timed_once: float
) -> dict[str, Any]:
    """Fit for CHECKED_ITERATIONS: whether the result agrees with the reference, or why it failed or was skipped.

    A contender whose iteration takes more than `timed_once` seconds gets its time here.
    """
    try:
        predicted = predict_iteration_seconds(X, start, fit)
        if predicted > LONGEST_ITERATION:
            return {"skipped": f"too slow at this size: more than {LONGEST_ITERATION:.0f} s per iteration"}
        fitted: list[Mixture] = []
        seconds = clock_at_rest(lambda: fitted.append(fit(X, start, CHECKED_ITERATIONS)))
        log_likelihood = total_log_likelihood(X[:CHECKED_ROWS], fitted[0], start.covariance_type)
    # One contender's failure is a result, and no reason to lose the other cells of a long run: whatever a foreign
    # library raises (OpenCV has its own class, JAX and PyTorch raise RuntimeError).
    except Exception as error:
        return failure_cell(error)
    # Where the log-likelihood happens to be near zero, relative to one nat per row.
    relative_error = abs(log_likelihood - expected) / max(abs(expected), min(len(X), CHECKED_ROWS))
    cell: dict[str, Any] = {"log_likelihood": log_likelihood, "relative_error": relative_error}
    cell["agrees"] = bool(relative_error <= tolerance)  # False for NaN
    if not cell["agrees"]:
        cell["failure"] = f"log-likelihood off by {relative_error:.1e} (relative)"
    elif predicted > timed_once:
        extra = CHECKED_ITERATIONS - 1
        cell |= per_iteration([seconds - clock_at_rest(fit, X, start, 1)], extra)
    return cell


def check_contenders(X: np.ndarray, start: Start, fits: dict[str, Fit]) -> Cells:
    """Check each against the NumPy reference, with the regularisation that the contender has."""
    expected: dict[float, float] = {}
    cells = {}
    for name, fit in fits.items():
        regularises = name not in CONTENDERS or CONTENDERS[name].regularises
        own = start if regularises else replace(start, reg_covar=0.0)
        if own.reg_covar not in expected:
            try:
                reference = numpy_reference.fit_fixed(X, own, CHECKED_ITERATIONS)
            except np.linalg.LinAlgError:
                if regularises:
                    raise
                cells[name] = {"skipped": "a covariance becomes singular, and this library cannot regularise"}
                continue
            expected[own.reg_covar] = total_log_likelihood(X[:CHECKED_ROWS], reference, start.covariance_type)
        own_code = name.startswith(("fastgmm", "numpy"))
        tolerance = (TOLERANCE if own_code else PEER_TOLERANCE)[str(X.dtype)]
        timed_once = np.inf if name.startswith("fastgmm") else TIMED_ONCE
        cells[name] = check_contender(X, start, fit, expected[own.reg_covar], tolerance, timed_once)
    return cells


def choose_extra(X: np.ndarray, start: Start, fit: Fit, seconds: float) -> int:
    """How many more iterations take at least `seconds`, and at least as long as a fit of one, whose noise they share.

    Fewer where the fit ends early: oneDAL stops where a float32 likelihood stands still, after a hundred iterations.
    """
    extra = 2
    shortest = clock(fit, X, start, 1)
    try:
        while extra < 512 and clock(fit, X, start, 1 + extra) < shortest + max(seconds, shortest):
            extra *= 2
    except RuntimeError:
        extra //= 2
    return extra


def time_iterations(X: np.ndarray, start: Start, fits: dict[str, Fit], repeats: int, seconds: float) -> Cells:
    """Seconds per EM iteration of each contender over at most `repeats` rounds of all contenders.

    The difference of two fits is divided by `choose_extra` iterations. A contender that has used ten times
    `repeats * seconds` sits out after its second round; one that fails now has failed.
    """
    extra: dict[str, int] = {}
    rounds: dict[str, list[float]] = {name: [] for name in fits}
    used = dict.fromkeys(fits, 0.0)
    failed: Cells = {}
    for n_round in range(repeats):
        for name, fit in fits.items():
            if name in failed or (n_round >= 2 and used[name] >= 10 * repeats * seconds):
                continue
            try:
                if name not in extra:
                    extra[name] = choose_extra(X, start, fit, seconds)
                short, long = clock_at_rest(fit, X, start, 1), clock_at_rest(fit, X, start, 1 + extra[name])
            except Exception as error:
                failed[name] = failure_cell(error)
                continue
            used[name] += short + long
            rounds[name].append(long - short)
    return failed | {name: per_iteration(rounds[name], extra[name]) for name in fits if name not in failed}


def measure_iterations(case: Case, fits: dict[str, Fit], repeats: int, seconds: float) -> Cells:
    """Check every contender, then time those that agree: a wrong answer gets no time that it could win with."""
    X = make_data(case)
    start = make_start(case, X)
    cells = check_contenders(X, start, fits)
    fast = {
        name: fit
        for name, fit in fits.items()
        if cells[name].get("agrees") and not {"seconds", "skipped"} & set(cells[name])
    }
    for name, timing in time_iterations(X, start, fast, repeats, seconds).items():
        cells[name] |= timing
    return cells


def time_calls(calls: dict[str, Callable[[], object]], repeats: int, seconds: float) -> dict[str, dict[str, float]]:
    """Seconds of each call over at most `repeats` rounds; one that has used `repeats * seconds` sits out."""
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            if sum(rounds[name]) < repeats * seconds:
                rounds[name].append(clock_at_rest(call))
    return {name: summarise(values) for name, values in rounds.items()}
