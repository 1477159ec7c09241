"""Rows of a mixture of factor analysers given linear evidence on them: expectations without n_features^2 numbers.

With A x + e = b, e ~ N(0, R), component k has T = (A W)(A W)^T + A D A^T + R and S A^T = W (A W)^T + D A^T.
"""

import math

import numpy as np
from scipy.special import logsumexp

from ..parameters import Array
from .parameters import FactorParameters

BLOCK_ROWS = 512


def expected_given(parameters: FactorParameters, matrix: Array, values: Array, noise: Array) -> Array:
    """Expectation of the rows for each of many values of the same evidence, (n_rows, n_features).

    matrix: A, (m, n_features); values: (n_rows, m); noise: (m,) variances of the error, above 0.
    """
    n_components, m = len(parameters.weights), len(matrix)
    seen = parameters.means @ matrix.T
    factors = [_component(parameters, matrix, noise, k) for k in range(n_components)]
    with np.errstate(divide="ignore"):
        log_weights = np.log(parameters.weights)
    out = np.zeros((len(values), parameters.means.shape[1]))
    for first in range(0, len(values), BLOCK_ROWS):
        rows = values[first : first + BLOCK_ROWS]
        log_prob = np.empty((len(rows), n_components))
        white = []
        for k, (inverse, _) in enumerate(factors):
            white.append((rows - seen[k]) @ inverse.T)
            log_det = np.log(np.diagonal(inverse)).sum()
            log_prob[:, k] = log_weights[k] + log_det - 0.5 * (white[k] ** 2).sum(axis=1)
        log_prob -= 0.5 * m * math.log(2 * math.pi)
        resp = np.exp(log_prob - logsumexp(log_prob, axis=1)[:, None])
        part = out[first : first + BLOCK_ROWS]
        for k, (inverse, across) in enumerate(factors):
            if (active := resp[:, k] > 1e-12).any():
                expected = parameters.means[k] + white[k][active] @ inverse @ across.T
                part[active] += resp[active, k, None] * expected
    return out


def _component(parameters: FactorParameters, matrix: Array, noise: Array, k: int) -> tuple[Array, Array]:
    """C^-1 with T = C C^T, and S A^T, (n_features, m)."""
    loadings, variance = parameters.loadings[k], parameters.noise_variance[k]
    projected, weighted = matrix @ loadings, matrix * variance
    T = projected @ projected.T + weighted @ matrix.T + np.diag(noise)
    inverse = np.linalg.solve(np.linalg.cholesky(T), np.eye(len(matrix)))
    return np.asarray(inverse, np.float64), loadings @ projected.T + weighted.T
