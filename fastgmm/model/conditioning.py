"""Columns of a mixture given others, or given linear evidence: what is expected, how sure that is, and draws.

With A x + e = b, e ~ N(0, R), component k gains the weight N(b; A mean_k, T), T = A S A^T + R, and has the mean
mean_k + S A^T T^-1 (b - A mean_k) and the covariance S - S A^T T^-1 A S. Nothing is subtracted here: the triangular
factor of the covariance of (A x + e, wanted columns) is a QR factor of ((A L, R^1/2), (L_wanted, 0)) with S = L L^T,
and its blocks are what is asked for. Given columns are the evidence that selects them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, ndtri

from ..rows.source import Source
from .bridge import MixtureKernels
from .covariance import STRUCTURES, covariances_of
from .far import NonFiniteRowsError
from .missing import find_patterns
from .parameters import Array, MixtureParameters
from .sampling import numbers_of_rows

Index = NDArray[np.int64]
DETERMINED = 1e-10  # of a column's standard deviation: what is left where the evidence determines it
BLOCK_NUMBERS = 2**20  # of rows and probabilities worked on together; with fewer, threads wait for each other too often


class Scored(Protocol):
    """What tells how probable components are given rows."""

    def scorer(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        """See `Density` in model/scoring.py."""


class Answering(Protocol):
    """A density that says of wanted columns what it can given others."""

    def conditionals(self, given: Index, wanted: Index) -> "Conditionals":
        """See `Density` in model/scoring.py."""


class DeterminedError(ValueError):
    """Evidence leaves nothing of a wanted column (`column`: its place among them), or repeats itself (-1)."""

    def __init__(self, column: int) -> None:
        super().__init__(f"column {column}")
        self.column = column


@dataclass(frozen=True)
class PartialFactor:
    """Blocks of the lower factor of the covariance of evidence and wanted columns, (n_components or 1, ...).

    Attributes
    ----------
    evidence : ndarray (..., m, m)
        Lower factor of T.
    slopes : ndarray (..., w, m)
        Regression of the wanted columns on the evidence.
    left : ndarray (..., w, w)
        Lower factor of their covariance given the evidence.
    """

    evidence: Array
    slopes: Array
    left: Array


def partial_factor(lower: Array, matrix: Array, noise_root: Array, wanted: Index) -> PartialFactor:
    """Factor the covariance of evidence A x + e and the wanted columns.

    lower: (n_components or 1, d, d) with L L^T = S; matrix: A, (m, d); noise_root: (m, m), a root of R.
    """
    n_evidence = len(matrix)
    observed = np.concatenate([matrix @ lower, np.broadcast_to(noise_root, (len(lower), *noise_root.shape))], axis=2)
    hidden = np.zeros((len(lower), len(wanted), observed.shape[2]))
    hidden[:, :, : lower.shape[2]] = lower[:, wanted]
    rows = np.concatenate([observed, hidden], axis=1)
    if rows.shape[1] > rows.shape[2]:  # QR has no more rows than it is given
        raise DeterminedError(-1 if n_evidence > rows.shape[2] else len(wanted) - 1)
    factor = np.swapaxes(np.linalg.qr(np.swapaxes(rows, 1, 2), mode="r"), 1, 2)
    factor = factor * np.where(np.einsum("kdd->kd", factor) < 0, -1.0, 1.0)[:, None]
    size = np.sqrt((rows**2).sum(axis=2))
    low = ~(np.einsum("kdd->kd", factor) > DETERMINED * size).all(axis=0)
    if low.any():
        raise DeterminedError(max(-1, int(np.argmax(low)) - n_evidence))
    evidence, across = factor[:, :n_evidence, :n_evidence], factor[:, n_evidence:, :n_evidence]
    slopes = np.swapaxes(np.linalg.solve(np.swapaxes(evidence, 1, 2), np.swapaxes(across, 1, 2)), 1, 2)
    return PartialFactor(evidence, slopes, factor[:, n_evidence:, n_evidence:])


def selection(columns: Index, n_features: int) -> Array:
    """The matrix that picks columns."""
    return np.eye(n_features)[columns]


def columns_factor(lower: Array, given: Index, wanted: Index) -> PartialFactor:
    """`partial_factor` for given columns without noise: for leading ones the factor's own blocks."""
    n_given = len(given)
    if np.array_equal(np.concatenate([given, wanted]), np.arange(lower.shape[1])):
        evidence, across = lower[:, :n_given, :n_given], lower[:, n_given:, :n_given]
        slopes = np.swapaxes(np.linalg.solve(np.swapaxes(evidence, 1, 2), np.swapaxes(across, 1, 2)), 1, 2)
        return PartialFactor(evidence, slopes, lower[:, n_given:, n_given:])
    return partial_factor(lower, selection(given, lower.shape[1]), np.zeros((n_given, n_given)), wanted)


def without_slopes(n_wanted: int, n_given: int) -> Array:
    """Slopes of wanted columns on which the given ones have no bearing within a component."""
    return np.zeros((0, n_wanted, n_given))


@dataclass(frozen=True, eq=False)
class Conditionals:
    """The wanted columns of a mixture given others: a mixture for each row of these.

    Attributes
    ----------
    given : Density
        Of the given columns; it tells how probable each component is.
    shift : ndarray of shape (n_given,)
    intercepts : ndarray of shape (n_components, n_wanted)
    slopes : ndarray of shape (n_components, 1 or 0, n_wanted, n_given)
        Component k expects intercepts[k] + slopes[k] (x - shift).
    left : ndarray of shape (n_components or 1, n_wanted, n_wanted)
        Lower factors of the covariances, which are the same for every row.
    """

    given: "Scored"
    shift: Array
    intercepts: Array
    slopes: Array
    left: Array

    def rescaled(
        self, given: "Scored", scale: Array, mean: Array, wanted_scale: Array, wanted_mean: Array
    ) -> "Conditionals":
        """The same for columns that are mean + scale times these."""
        return Conditionals(
            given,
            mean + scale * self.shift,
            wanted_mean + wanted_scale * self.intercepts,
            self.slopes * (wanted_scale[:, None] / scale),
            self.left * wanted_scale[:, None],
        )

    def expected(self, values: Array) -> Array:
        """What each component expects for one row, (n_components, n_wanted)."""
        moved = self.slopes @ (values - self.shift) if len(self.slopes) else 0.0
        return np.asarray(self.intercepts + moved, np.float64)

    @cached_property
    def covariances(self) -> Array:
        """(n_components or 1, n_wanted, n_wanted)."""
        return self.left @ np.swapaxes(self.left, 1, 2)

    @cached_property
    def deviations(self) -> Array:
        """Standard deviations, (n_components, n_wanted)."""
        own = np.sqrt(np.einsum("kww->kw", self.covariances))
        return np.ascontiguousarray(np.broadcast_to(own, self.intercepts.shape))

    @cached_property
    def factors(self) -> Array:
        """Upper U with U U^T = precision."""
        identity = np.broadcast_to(np.eye(self.left.shape[1]), self.left.shape)
        return np.ascontiguousarray(np.swapaxes(np.linalg.solve(self.left, identity), 1, 2))

    @cached_property
    def log_norm(self) -> Array:
        """Log-density of each component at its mean, (n_components,)."""
        log_det = np.log(np.einsum("kww->kw", self.left)).sum(axis=1)
        n_components, n_wanted = self.intercepts.shape
        return np.ascontiguousarray(np.broadcast_to(-log_det - 0.5 * n_wanted * math.log(2 * math.pi), n_components))

    def probabilities(self, X: Array, log: bool = False) -> Array:
        """Of the components given each row, (n_rows, n_components), or their logarithms."""
        out = np.empty((len(X), len(self.intercepts)))
        self.given.scorer(X.dtype)(X, **{"log_prob" if log else "resp": out})
        return log_softmax(out, axis=1) if log else out

    def moments(self, X: Array, which: str) -> Array:
        """Mean or std, (n_rows, n_wanted), or covariance, (n_rows, n_wanted, n_wanted)."""
        kernels = _kernels()
        n_rows, (n_components, n_wanted) = len(X), self.intercepts.shape
        mean = np.empty((n_rows, n_wanted))
        variance = np.empty((n_rows if which == "std" else 0, n_wanted))
        covariance = np.empty((n_rows if which == "covariance" else 0, n_wanted, n_wanted))
        n_bytes = kernels.moments_bytes(X.shape[1], n_components, n_wanted)
        self._run(kernels.moments_slot, n_bytes, X, self.probabilities(X), self.covariances, mean, variance, covariance)
        return {"mean": mean, "std": np.sqrt(variance), "covariance": covariance}[which]

    def quantiles(self, X: Array, probabilities: Array) -> Array:
        """(n_rows, n_wanted, n_probabilities), of each wanted column on its own."""
        kernels, out = _kernels(), np.empty((len(X), self.intercepts.shape[1], len(probabilities)))
        n_bytes, normal = kernels.row_bytes(*self.intercepts.shape), ndtri(probabilities)
        resp = self.probabilities(X)
        self._run(kernels.quantile_slot, n_bytes, X, resp, self.deviations, probabilities, normal, out)
        return out

    def modes(self, X: Array) -> Array:
        """Where the density of the wanted columns is highest, (n_rows, n_wanted)."""
        kernels, out = _kernels(), np.empty((len(X), self.intercepts.shape[1]))
        precisions = self.factors @ np.swapaxes(self.factors, 1, 2)
        n_bytes = kernels.mode_bytes(*self.intercepts.shape)
        self._run(kernels.mode_slot, n_bytes, X, self.probabilities(X, log=True), precisions, self.log_norm, out)
        return out

    def log_density(self, X: Array, Y: Array) -> Array:
        """Of the wanted columns Y given the others, in nats, (n_rows,)."""
        kernels, out = _kernels(), np.empty(len(X))
        n_bytes, log_resp = kernels.row_bytes(*self.intercepts.shape), self.probabilities(X, log=True)
        self._run(kernels.log_density_slot, n_bytes, X, log_resp, self.factors, self.log_norm, Y, out)
        return out

    def draws(self, X: Array, n_draws: int, seed: list[int], rows: range) -> Array:
        """So many of each row, (n_rows, n_draws, n_wanted); rows: their numbers among all, which draws follow."""
        n_wanted = self.intercepts.shape[1]
        uniform, (normal,) = numbers_of_rows(seed, range(rows.start * n_draws, rows.stop * n_draws), [n_wanted])
        out = np.empty((len(X) * n_draws, n_wanted))
        numbers = (np.ascontiguousarray(uniform), np.ascontiguousarray(normal))
        self._run(_kernels().draw_slot, 8, X, self.probabilities(X), self.left, *numbers, n_draws, out)
        return out.reshape(len(X), n_draws, n_wanted)

    def _run(self, slot: Any, n_bytes: int, X: Array, resp: Array, *arguments: Any) -> None:
        """Run a function of kernels/conditioning.py over all rows."""
        kernels, parallel = _kernels(), import_module("fastgmm.kernels.parallel")
        values = [np.ascontiguousarray(X - self.shift), resp, self.intercepts, np.ascontiguousarray(self.slopes)]
        arrays = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in arguments]
        n_slots = max(1, min(kernels.SLOTS, len(X) // 256))
        parallel.run_slots(slot, n_slots, n_bytes, *values, *arrays, n_slots)


def _kernels() -> Any:
    """The compiled functions, which import Numba, at first use."""
    return import_module("fastgmm.kernels.conditioning")


Question = Callable[[Conditionals, Array, Any, range], Array]
# What may be asked of rows: given the rows of the given columns, an option of the question and the rows' numbers.
QUESTIONS: dict[str, Question] = {
    "mean": lambda conditionals, X, option, rows: conditionals.moments(X, "mean"),
    "std": lambda conditionals, X, option, rows: conditionals.moments(X, "std"),
    "covariance": lambda conditionals, X, option, rows: conditionals.moments(X, "covariance"),
    "quantiles": lambda conditionals, X, option, rows: conditionals.quantiles(X, option),
    "modes": lambda conditionals, X, option, rows: conditionals.modes(X),
    "log_density": lambda conditionals, X, option, rows: conditionals.log_density(X, option),
    "draws": lambda conditionals, X, option, rows: conditionals.draws(X, option[0], option[1], rows),
    "probabilities": lambda conditionals, X, option, rows: conditionals.probabilities(X),
}


def answered(
    part: Source, conditionals: Conditionals, question: str, option: Any, numbers: range, target: Array | None
) -> NDArray[Any]:
    """What a question says of the rows of a part, whose numbers among all rows are these; target: one for each row."""
    ask, parts = QUESTIONS[question], []
    size, done = max(256, BLOCK_NUMBERS // (len(conditionals.intercepts) + part.n_features)), 0
    for _, block in part.chunks():
        for first in range(0, len(block), size):
            X = np.ascontiguousarray(block[first : first + size], np.float64)
            rows = range(numbers.start + done, numbers.start + done + len(X))
            about = option if target is None else target[done : done + len(X)]
            parts.append(ask(conditionals, X, about, rows))
            done += len(X)
    return np.concatenate(parts)


def answered_by_gaps(
    part: Source, density: "Answering", question: str, option: Any, numbers: range, target: None
) -> NDArray[Any]:
    """The same where every row wants the columns in which it is NaN: an entry for each of all columns.

    What a row has is its own answer, certain: it varies by 0.
    """
    out: list[NDArray[Any]] = []
    done = 0
    for _, block in part.chunks():
        X = np.ascontiguousarray(block, np.float64)
        if np.isinf(X).any():
            raise NonFiniteRowsError
        width = {"covariance": (X.shape[1],), "quantiles": (len(option),) if question == "quantiles" else ()}
        answer = np.zeros((len(X), X.shape[1], *width.get(question, ())))
        if question in ("mean", "modes", "quantiles"):
            answer[...] = X.reshape(*X.shape, *(1,) * (answer.ndim - 2))
        nothing = np.flatnonzero(np.isnan(X).all(axis=1))
        groups = [(p.index, p.observed, p.missing) for p in find_patterns([(0, X)], X.shape[1]) if len(p.missing)]
        if len(nothing):
            groups.append((nothing, np.arange(0), np.arange(X.shape[1])))
        for index, observed, missing in groups:
            conditionals = density.conditionals(observed, missing)
            rows = range(numbers.start + done, numbers.start + done + len(index))
            found = QUESTIONS[question](conditionals, np.ascontiguousarray(X[index][:, observed]), option, rows)
            if question == "covariance":
                answer[index[:, None, None], missing[:, None], missing] = found
            else:
                answer[index[:, None], missing] = found
        out.append(answer)
        done += len(X)
    return np.concatenate(out)


def conditionals_of(given: Scored, parameters: MixtureParameters, columns: Index, wanted: Index) -> Conditionals:
    """Those of a Gaussian mixture with covariances that are arrays."""
    structure = STRUCTURES[parameters.covariance_type]
    means, covariances = parameters.means, covariances_of(parameters)
    shift = means[:, columns].mean(axis=0)
    intercepts = means[:, wanted].copy()
    if not (structure.is_matrix and len(columns)):
        own = structure.dense(structure.marginal(covariances, wanted), len(wanted))
        lower = np.asarray(np.linalg.cholesky(own), np.float64)
        return Conditionals(given, shift, intercepts, without_slopes(len(wanted), len(columns)), lower)
    _, lower = structure.sampling_factors(covariances, *means.shape)
    factor = columns_factor(lower, columns, wanted)
    intercepts += np.einsum("kwg,kg->kw", np.broadcast_to(factor.slopes, (len(means), *factor.slopes.shape[1:])),
                            shift - means[:, columns])  # fmt: skip
    return Conditionals(given, shift, intercepts, np.ascontiguousarray(factor.slopes), factor.left)


def mixture_given(parameters: MixtureParameters, matrix: Array, values: Array, noise: Array, wanted: Index) -> Any:
    """The mixture of the wanted columns given A x + e = b, e ~ N(0, noise); noise (m, m); DeterminedError.

    Covariances that were shared still are; others become matrices of their own.
    """
    structure = STRUCTURES[parameters.covariance_type]
    n_components, n_features = parameters.means.shape
    covariances = structure.dense(covariances_of(parameters), n_features)
    root = np.zeros_like(noise)
    if noise.any():
        eigenvalues, vectors = np.linalg.eigh(noise)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
    lower = np.asarray(np.linalg.cholesky(covariances), np.float64)
    factor = partial_factor(lower, matrix, root, wanted)
    shared = structure.pools_components
    kind = structure.name if shared else "full"
    expected = parameters.means @ matrix.T
    inverse = np.linalg.solve(factor.evidence, np.broadcast_to(np.eye(len(matrix)), factor.evidence.shape))
    upper = np.swapaxes(inverse, 1, 2)
    evidence = MixtureParameters(parameters.weights, expected, upper[0] if shared else upper, kind)
    weights = posterior_weights(evidence, values)
    slopes = np.broadcast_to(factor.slopes, (n_components, *factor.slopes.shape[1:]))
    means = parameters.means[:, wanted] + np.einsum("kwm,km->kw", slopes, values - expected)
    left = factor.left @ np.swapaxes(factor.left, 1, 2)
    return as_parameters(weights, means, left[0] if shared else left, kind)


def as_parameters(weights: Array, means: Array, covariances: Array, covariance_type: str) -> MixtureParameters:
    """A mixture with its factors."""
    covariances = np.ascontiguousarray(covariances)
    factors = STRUCTURES[covariance_type].cholesky(covariances)
    return MixtureParameters(weights, np.ascontiguousarray(means), factors, covariance_type, covariances)


def posterior_weights(parameters: Any, values: Array) -> Array:
    """Probabilities of the components given one row, which may lie where all densities underflow."""
    log_prob = np.empty((1, len(parameters.weights)))
    without = parameters if parameters.noise is None else replace(parameters, noise=None)
    MixtureKernels(without, np.dtype(np.float64)).score([(0, np.ascontiguousarray(values[None]))], log_prob=log_prob)
    return np.exp(log_softmax(log_prob[0]))
