"""Between passes, compiled: a mixture to what the block functions read, and sums to the next mixture.

The arithmetic of model/maximisation.py and model/covariance.py for mixtures of which nothing but rows and a ridge is
known, all in float64. Whatever takes more than that is left to them: `maximise` then says so and changes nothing.
`kind` is the place of the covariance type in KINDS.
"""

import math
from typing import NamedTuple

import numpy as np

from ._compile import jit
from .triangular import factor_inplace, factor_precision

KINDS = ("full", "tied", "diag", "spherical")
FULL, TIED, DIAG, SPHERICAL = range(4)
TINY = 1e-300  # stands for 0 in denominators
EPS = 2.0**-52
LEAN = 3  # places in `limits` of iterate.py from which those of `maximise` are
DONE = 2  # place in `outcome` of one of these
IS_SINGULAR, DONE_WELL, LACKS_DIGITS = 0, 1, 2
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
TIED_CANCELLATION, MOMENT_CANCELLATION = 1e-4, 1e-3  # model/covariance.py, model/expectation.py


class Mixture(NamedTuple):
    """A mixture, float64: weights (n_components,), means (n_components, n_features), covariances and factors.

    The last two are (n_components, n_features, n_features); tied (1, n_features, n_features); diag (n_components, 1,
    n_features); spherical (n_components, 1, 1).
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    factors: np.ndarray


class Columns(NamedTuple):
    """Of each column, (n_features,) float64: what is subtracted from it, its ridge, and what its variance must exceed.

    scatter: (n_features, n_features), the sum of squares about the shift, where covariances are tied.
    """

    shift: np.ndarray
    ridge: np.ndarray
    least: np.ndarray
    scatter: np.ndarray


class Between(NamedTuple):
    """What the functions below work with, float64: means relative to the shift as the block functions have them.

    rounded, offset, diff: (n_components, n_features); scale: (n_features,); upper: (n_features, n_features).
    """

    rounded: np.ndarray
    offset: np.ndarray
    diff: np.ndarray
    scale: np.ndarray
    upper: np.ndarray


@jit()
def mean_of(values):
    """Mean of a vector."""
    s = 0.0
    for d in range(values.shape[0]):
        s += values[d]
    return s / values.shape[0]


@jit()
def half_log_det(kind, factors, k, n_features):
    """Half the log-determinant of the precision of a component."""
    factor, s = factors[0 if kind == TIED else k], 0.0
    if kind == SPHERICAL:
        return n_features * math.log(factor[0, 0])
    for d in range(n_features):
        s += math.log(factor[0, d] if kind == DIAG else factor[d, d])
    return s


@jit()
def prepare(kind, mixture, shift, parameters, rounded):
    """Fill the KernelParameters but for the shift, whose padding is in place, and the means as they round them."""
    n_components, n_features = mixture.means.shape
    for k in range(n_components):
        weight = mixture.weights[k]
        log_weight = math.log(weight) if weight > 0 else -np.inf
        parameters.log_const[k] = (
            log_weight + half_log_det(kind, mixture.factors, k, n_features) - (n_features * HALF_LOG_2PI)
        )
        for d in range(n_features):
            parameters.means[k, d] = mixture.means[k, d] - shift[d]
            rounded[k, d] = parameters.means[k, d]
        factor, mean = mixture.factors[0 if kind == TIED else k], rounded[k]
        if kind in (FULL, TIED):
            sign = -1.0 if kind == FULL else 1.0
            for e in range(n_features):
                s = 0.0
                for d in range(e + 1):
                    s += mean[d] * factor[d, e]
                parameters.offsets[k, e] = sign * s
        else:
            for d in range(n_features):
                parameters.offsets[k, d] = -mean[d] * factor[0, min(d, factor.shape[1] - 1)]
    for k in range(mixture.factors.shape[0]):
        for d in range(mixture.factors.shape[1]):
            for e in range(mixture.factors.shape[2]):
                parameters.factors[k, d, e] = mixture.factors[k, d, e]


@jit()
def find_means(kind, sums, shift, work, out):
    """Fill work.diff and work.offset, sums of x - mean and their means, and the new weights and means."""
    n_components, n_features = work.rounded.shape
    total = 0.0
    for k in range(n_components):
        total += sums.sum_resp[0, k]
    for k in range(n_components):
        count = sums.sum_resp[0, k]
        out.weights[k] = count / total
        for d in range(n_features):
            mean, diff = work.rounded[k, d], sums.sum_first[0, k, d]
            if kind in (TIED, SPHERICAL):
                diff -= mean * count
            work.diff[k, d] = diff
            work.offset[k, d] = diff / max(count, TINY)
            out.means[k, d] = mean + shift[d] + work.offset[k, d]


@jit()
def moments_keep_digits(kind, sums, columns, work, eps):
    """Whether moments about the old means are accurate enough (model/expectation.py: `_better_centres`)."""
    n_components, n_features = work.rounded.shape
    for d in range(n_features):
        noise = columns.least[d] * (eps / EPS) ** 2  # moves of the means that are rounding
        pooled, total, checked = 0.0, 0.0, False
        for k in range(n_components):
            count, offset = sums.sum_resp[0, k], work.offset[k, d]
            second = sums.sum_outer[0, k, d if kind == FULL else 0, d]
            if kind == FULL:
                second -= work.rounded[k, d] * work.diff[k, d]
            checked = checked or 2.0 * count * offset**2 > second
            pooled += second - count * offset**2
            total += count
        if checked:
            for k in range(n_components):
                count, square = sums.sum_resp[0, k], work.offset[k, d] ** 2
                second = sums.sum_outer[0, k, d if kind == FULL else 0, d]
                if kind == FULL:
                    second -= work.rounded[k, d] * work.diff[k, d]
                scatter = second - count * square
                # Beside a ridge the rounding of a column that is constant in a component is nothing.
                rounds = square * eps > MOMENT_CANCELLATION * (scatter / max(count, TINY) + columns.ridge[d])
                if count > TINY and rounds and square > noise and square * total > pooled:
                    return False
    return True


@jit()
def tied_scatter(sums, scatter, work, out):
    """Fill the upper triangle of out (n_features, n_features): scatter about the new means; return whether it is good.

    The scatter about the shift less what the means account for, which must keep digits (model/expectation.py).
    """
    n_components, n_features = work.rounded.shape
    for d in range(n_features):
        for e in range(d, n_features):
            s = scatter[d, e]
            for k in range(n_components):
                count, m, n = sums.sum_resp[0, k], work.rounded[k, d], work.rounded[k, e]
                s -= m * n * count + m * work.diff[k, e] + n * work.diff[k, d]
            out[d, e] = s
        if not scatter[d, d] > 0:
            return False
    for d in range(n_features):
        for e in range(d, n_features):
            unit = math.sqrt(scatter[d, d]) * math.sqrt(scatter[e, e])
            work.upper[d, e] = (out[d, e] - TIED_CANCELLATION * scatter[d, e]) / unit
    if not factor_inplace(work.upper) > 0:
        return False
    for d in range(n_features):
        for e in range(d, n_features):
            s = out[d, e]
            for k in range(n_components):
                s -= work.offset[k, d] * work.diff[k, e]
            out[d, e] = s
    return True


@jit()
def add_pseudo_rows(kind, sums, lean, before, out, k):
    """Add to a component's scatter that of `lean` rows with the covariance before."""
    scale = lean * (out.means.shape[1] if kind == SPHERICAL else 1)
    covariance, old = out.covariances[k], before.covariances[k]
    for d in range(covariance.shape[0]):
        for e in range(d, covariance.shape[1]):
            covariance[d, e] += scale * old[d, e]


@jit(by_address=True)
def maximise(kind, sums, before, columns, limits, work, out, outcome):
    """Overwrite `out` by the mixture of largest likelihood given the sums of a pass under `before`.

    limits: from place LEAN on, rows with its covariance before that each component leans on (`short_runs.lean`), the
    rounding of the rows' dtype, and what a pivot must exceed. outcome[DONE] becomes DONE_WELL, IS_SINGULAR where a
    covariance is, or LACKS_DIGITS where moments about the old means keep too few.
    """
    n_components, n_features = work.rounded.shape
    lean, eps, rtol = limits[LEAN], limits[LEAN + 1], limits[LEAN + 2]
    outcome[DONE] = LACKS_DIGITS
    find_means(kind, sums, columns.shift, work, out)
    if kind == TIED:
        if not tied_scatter(sums, columns.scatter, work, out.covariances[0]):
            return
    elif kind != SPHERICAL and not moments_keep_digits(kind, sums, columns, work, eps):
        return
    total = 0.0
    for k in range(n_components):
        count = sums.sum_resp[0, k]
        total += max(count, TINY) + lean
        if kind == TIED:
            continue
        covariance, offset, diff = out.covariances[k], work.offset[k], work.diff[k]
        outer = sums.sum_outer[0, k]
        if kind == FULL:
            for d in range(n_features):
                m = work.rounded[k, d]
                for e in range(d, n_features):
                    covariance[d, e] = outer[d, e] - m * diff[e] - offset[d] * diff[e]
        elif kind == DIAG:
            for d in range(n_features):
                covariance[0, d] = outer[0, d] - offset[d] * diff[d]
        else:
            s = outer[0, 0]
            for d in range(n_features):
                s -= offset[d] * diff[d]
            covariance[0, 0] = s
        if lean > 0:
            add_pseudo_rows(kind, sums, lean, before, out, k)
    if kind == TIED and lean > 0:
        add_pseudo_rows(kind, sums, lean * n_components, before, out, 0)
    regular = divide_and_factor(kind, sums, columns, lean, total, rtol, work, out)
    outcome[DONE] = DONE_WELL if regular else IS_SINGULAR


@jit()
def divide_and_factor(kind, sums, columns, lean, total, rtol, work, out):
    """Scatter to covariances with their ridge, and their factors; return whether all are regular."""
    n_features = columns.ridge.shape[0]
    for k in range(out.covariances.shape[0]):
        covariance = out.covariances[k]
        count = total if kind == TIED else max(sums.sum_resp[0, k], TINY) + lean
        if kind == SPHERICAL:
            value = covariance[0, 0] / (count * n_features) + mean_of(columns.ridge)
            covariance[0, 0] = value
            if not (value > mean_of(columns.least) and value > 0):
                return False
            out.factors[k, 0, 0] = 1.0 / math.sqrt(value)
        elif kind == DIAG:
            for d in range(n_features):
                value = covariance[0, d] / count + columns.ridge[d]
                covariance[0, d] = value
                if not (value > columns.least[d] and value > 0):
                    return False
                out.factors[k, 0, d] = 1.0 / math.sqrt(value)
        else:
            for d in range(n_features):
                for e in range(d, n_features):
                    covariance[d, e] /= count
                covariance[d, d] += columns.ridge[d]
                if not covariance[d, d] > columns.least[d]:
                    return False
                for e in range(d + 1, n_features):
                    covariance[e, d] = covariance[d, e]
            if not factor_precision(covariance, rtol, work.scale, work.upper, out.factors[k]):
                return False
    return True
