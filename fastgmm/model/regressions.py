"""A mixture of linear regressions: its parameters, statistics, M-step, and the density of targets given features.

With v = (1, x, y) shifted to its mean, the one statistic a component needs is M = sum r v v^T: coefficients are
M_yx M_xx^-1, and what they leave of M_yy, divided by the weight, is the covariance of the noise.
"""

import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from ..rows.source import Source, blocks
from .conditioning import Conditionals
from .far import NonFiniteRowsError
from .parameters import TINY, Array

BLOCK_ROWS = 2**18  # of rows that a call sees, so that sums do not depend on how a file is cut
SINGULAR = 1e-13  # ratio of eigenvalues below which inputs are combinations of each other
GATE_RIDGE = 1e-6  # of the rows' weight: coefficients of a gate that separates the rows stay finite


@dataclass(frozen=True, eq=False)
class LinearParameters:
    """With probability softmax(gates (1, x - shift)), y ~ N(coefficients[k] (1, x - shift), covariances[k]).

    Attributes
    ----------
    shift : ndarray of shape (n_features + n_outputs,)
        Of features and targets; coefficients are of shifted ones.
    coefficients : ndarray of shape (n_components, n_outputs, 1 + n_features)
    covariances : ndarray of shape (n_components, n_outputs, n_outputs)
    gates : ndarray of shape (n_components, 1 + n_features)
    depends : bool
        Whether gates depend on x.
    """

    shift: Array
    coefficients: Array
    covariances: Array
    gates: Array
    depends: bool = False

    @property
    def n_features(self) -> int:
        """Columns before the targets."""
        return self.coefficients.shape[2] - 1


@dataclass(frozen=True)
class LinearStatistics:
    """Sums over rows under given parameters; they add up.

    Attributes
    ----------
    log_likelihood : float
    moments : ndarray of shape (n_components, 1 + n_columns, 1 + n_columns)
    gate_sums : ndarray of shape (n_components, 1 + n_features)
        Gradient of the gates.
    """

    log_likelihood: float
    moments: Array
    gate_sums: Array

    def __add__(self, other: "LinearStatistics") -> "LinearStatistics":
        return LinearStatistics(
            self.log_likelihood + other.log_likelihood, self.moments + other.moments, self.gate_sums + other.gate_sums
        )


@dataclass(frozen=True)
class LinearMaximiser:
    """The M-step.

    Attributes
    ----------
    variance : ndarray of shape (n_outputs,)
        Of the targets, the unit of the floor.
    floor : float
        Least variance of the noise in that unit.
    shared : bool
        Whether components share the noise's covariance.
    alpha : float
        Ridge on the slopes, as a weight of rows in units of the features' variances `scale`.
    intercept : bool
    weights : ndarray of shape (n_components,) or None
        Held probabilities of the components.
    gate : str
    fixed : ndarray of shape (n_components, n_outputs, 1 + n_features) or None
        Coefficients that stay what they are; NaN where they do not.
    """

    variance: Array
    floor: float
    shared: bool = False
    alpha: float = 0.0
    intercept: bool = True
    weights: Array | None = None
    gate: str = "constant"
    fixed: Array | None = None
    scale: Array = field(default_factory=lambda: np.ones(0))

    def __call__(self, statistics: LinearStatistics, parameters: LinearParameters) -> LinearParameters:
        """Return the parameters that maximise the expected log-likelihood of rows and components."""
        moments, n_inputs = statistics.moments, parameters.coefficients.shape[2]
        counts = np.maximum(moments[:, 0, 0], TINY)
        coefficients = self._coefficients(moments, n_inputs)
        identity = np.broadcast_to(np.eye(coefficients.shape[1]), (len(moments), *[coefficients.shape[1]] * 2))
        residual = np.concatenate([-coefficients, identity], axis=2)
        values, vectors = np.linalg.eigh(moments)
        root = residual @ (vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
        scatter = root @ np.swapaxes(root, 1, 2)
        if self.shared:
            covariances = np.broadcast_to(scatter.sum(axis=0) / counts.sum(), scatter.shape)
        else:
            covariances = scatter / counts[:, None, None]
        return LinearParameters(
            parameters.shift, coefficients, self._floored(covariances), self._gates(statistics, parameters, counts),
            parameters.depends,
        )  # fmt: skip

    def _coefficients(self, moments: Array, n_inputs: int) -> Array:
        """Weighted least squares, (n_components, n_outputs, n_inputs)."""
        A, b = moments[:, :n_inputs, :n_inputs].copy(), moments[:, n_inputs:, :n_inputs].copy()
        if self.alpha:
            A[:, np.arange(1, n_inputs), np.arange(1, n_inputs)] += self.alpha * self.scale
        if self.fixed is None and self.intercept:
            return np.swapaxes(_solved(A, np.swapaxes(b, 1, 2)), 1, 2)
        known = np.full(b.shape, np.nan) if self.fixed is None else self.fixed.copy()
        if not self.intercept:
            known[:, :, 0] = 0.0
        out = known.copy()
        for k, e in np.ndindex(*b.shape[:2]):
            free, held = np.flatnonzero(np.isnan(known[k, e])), np.flatnonzero(~np.isnan(known[k, e]))
            goal = b[k, e, free] - A[k][np.ix_(free, held)] @ known[k, e, held]
            out[k, e, free] = _solved(A[k][None][:, free[:, None], free], goal[None, :, None])[0, :, 0]
        return out

    def _floored(self, covariances: Array) -> Array:
        """Eigenvalues at least the floor, in units of the targets' variances."""
        unit = np.sqrt(self.variance)
        unit = unit[:, None] * unit
        values, vectors = np.linalg.eigh(covariances / unit)
        if values.min() >= self.floor:
            return np.array(covariances)
        return np.asarray((vectors * np.maximum(values, self.floor)[:, None, :]) @ np.swapaxes(vectors, 1, 2) * unit)

    def _gates(self, statistics: LinearStatistics, parameters: LinearParameters, counts: Array) -> Array:
        """Log-probabilities of the components; of a softmax gate one step that cannot lower the likelihood.

        Minus the Hessian of the log-likelihood of a softmax is at most 1/2 (I - 1 1^T / K) x X^T X (Boehning, 1992).
        """
        gates = np.zeros_like(parameters.gates)
        if self.gate == "softmax":
            whole = statistics.moments.sum(axis=0)[: gates.shape[1], : gates.shape[1]]
            ridge = GATE_RIDGE * np.diag(np.diagonal(whole))
            gradient = statistics.gate_sums - parameters.gates @ ridge
            return parameters.gates + 2.0 * _solved((whole + ridge)[None], gradient.T[None])[0].T
        share = counts / counts.sum() if self.weights is None else self.weights
        gates[:, 0] = np.log(np.maximum(share, TINY))
        return gates


def _solved(A: Array, b: Array) -> Array:
    """A^-1 b for stacks of positive definite matrices (n, d, d) and (n, d, m), of least norm where one is singular."""
    if not A.size:
        return np.zeros_like(b)
    scale = np.sqrt(np.maximum(A.diagonal(0, 1, 2), TINY))[:, :, None]
    scaled, goal = A / scale / np.swapaxes(scale, 1, 2), b / scale
    values = np.linalg.eigvalsh(scaled)
    if (values[:, 0] > SINGULAR * values[:, -1]).all():
        return np.asarray(np.linalg.solve(scaled, goal) / scale, np.float64)
    least = [np.linalg.lstsq(one, right, rcond=SINGULAR)[0] for one, right in zip(scaled, goal, strict=True)]
    return np.asarray(np.stack(least) / scale, np.float64)


def regressed(
    part: Source,
    parameters: LinearParameters,
    hard: bool,
    outputs: str,
    sample_weight: Array | None = None,
    labels: NDArray[np.int64] | None = None,
) -> Any:
    """A pass over the rows (features before targets) of a part: statistics, or what `outputs` names of each row.

    outputs: '', 'resp' or 'log_density'.
    """
    kernels, parallel = import_module("fastgmm.kernels.regression"), import_module("fastgmm.kernels.parallel")
    n_components, n_outputs, n_inputs = parameters.coefficients.shape
    n_columns = n_inputs - 1 + n_outputs
    lower = np.linalg.cholesky(parameters.covariances)
    identity = np.broadcast_to(np.eye(n_outputs), lower.shape)
    factors = np.ascontiguousarray(np.swapaxes(np.linalg.solve(lower, identity), 1, 2), np.float64)
    log_det = np.log(np.einsum("kdd->kd", lower)).sum(axis=1)
    arrays = (
        parameters.shift, np.ascontiguousarray(parameters.coefficients), factors,
        -log_det - 0.5 * n_outputs * math.log(2 * math.pi), np.ascontiguousarray(parameters.gates),
    )  # fmt: skip
    n_bytes = kernels.pass_bytes(n_columns, n_components, n_outputs)
    total, found, done = None, [], 0
    for _, block in blocks(part.chunks(), BLOCK_ROWS):
        rows = np.array(block, np.float64, order="C", copy=None)
        rows = rows if rows.flags.writeable else rows.copy()
        here = slice(done, done + len(rows))
        done += len(rows)
        n_slots = max(1, min(kernels.SLOTS, len(rows) // 1024))
        log_likelihood, n_kept = np.zeros(n_slots), 0 if outputs else n_components
        moments = np.zeros((n_slots, n_kept, n_columns + 1, n_columns + 1))
        gate_sums = np.zeros((n_slots, n_components, n_inputs))
        resp = np.empty((len(rows) if outputs == "resp" else 0, n_components))
        log_density = np.empty(len(rows) if outputs == "log_density" else 0)
        weight = np.empty(0) if sample_weight is None else np.array(sample_weight[here], np.float64)
        known = np.empty(0, np.int64) if labels is None else np.array(labels[here], np.int64)
        parallel.run_slots(
            kernels.regress_slot, n_slots, n_bytes, rows, weight, known, arrays, int(parameters.depends), int(hard),
            (log_likelihood, moments, gate_sums), (resp, log_density), n_slots,
        )  # fmt: skip
        if outputs:
            found.append(resp if outputs == "resp" else log_density)
            continue
        sums = moments.sum(axis=0)
        sums = np.tril(sums) + np.swapaxes(np.tril(sums, -1), 1, 2)
        statistics = LinearStatistics(math.fsum(log_likelihood), sums, gate_sums.sum(axis=0))
        total = statistics if total is None else total + statistics
    return np.concatenate(found) if outputs else total


@dataclass(frozen=True, eq=False)
class Gate:
    """How probable each component is given the features, in the place of the density of these."""

    parameters: LinearParameters

    def scorer(self, dtype: Any) -> Any:
        """See `model/scoring.py: Density`; `log_prob` and `resp` alone."""
        gates, shift = self.parameters.gates, self.parameters.shift[: self.parameters.n_features]

        def score(X: Array, **outputs: Array) -> None:
            if not np.isfinite(X).all():
                raise NonFiniteRowsError
            values = log_softmax(gates[:, 0] + (X - shift) @ gates[:, 1:].T, axis=1)
            for name, output in outputs.items():
                output[...] = np.exp(values) if name == "resp" else values

        return score


def conditionals_of(parameters: LinearParameters) -> Conditionals:
    """The targets given features."""
    n_features = parameters.n_features
    return Conditionals(
        Gate(parameters),
        parameters.shift[:n_features],
        parameters.shift[n_features:] + parameters.coefficients[:, :, 0],
        np.ascontiguousarray(parameters.coefficients[:, :, 1:]),
        np.asarray(np.linalg.cholesky(parameters.covariances), np.float64),
    )
