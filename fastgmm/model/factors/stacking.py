"""Several mixtures, each at several levels of noise, as one that fits new rows best."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from ...rows.source import Source
from ..parameters import Array
from ..scoring import scored
from .parameters import FactorParameters
from .scoring import FactorDensity

MAX_ITER, TOL = 1000, 1e-9  # nats per row; the problem is concave
NEGLIGIBLE = 1e-8  # parts of less weight are left out


def stacked(parts: Sequence[FactorParameters], source: Source) -> FactorParameters:
    """Return the mixture of `parts` whose weights maximise the likelihood of the rows (Smyth and Wolpert, 1999)."""
    columns = [source.map_parts(scored, FactorDensity(part), "log_prob_norm") for part in parts]
    log_prob = np.column_stack([np.concatenate(list(column)) for column in columns]).astype(np.float64)
    share = stacking_weights(log_prob)
    kept = [j for j in range(len(parts)) if share[j] > NEGLIGIBLE]
    n_factors = max(parts[j].n_factors for j in kept)

    def widened(loadings: Array) -> Array:
        return np.pad(loadings, ((0, 0), (0, 0), (0, n_factors - loadings.shape[2])))

    weights = np.concatenate([share[j] * parts[j].weights for j in kept])
    return FactorParameters(
        weights / weights.sum(),
        np.concatenate([parts[j].means for j in kept]),
        np.concatenate([widened(parts[j].loadings) for j in kept]),
        np.concatenate([parts[j].noise_variance for j in kept]),
    )


def stacking_weights(log_prob: Array) -> Array:
    """Return the weights w of largest mean of log sum_j w_j exp(log_prob[i, j]), by EM."""
    density = np.exp(log_prob - logsumexp(log_prob, axis=1, keepdims=True))
    weights = np.full(log_prob.shape[1], 1.0 / log_prob.shape[1])
    before = -np.inf
    for _ in range(MAX_ITER):
        total = density @ weights
        bound = float(np.log(total).mean())
        if bound - before < TOL:
            break
        before = bound
        weights = weights * (density / total[:, None]).mean(axis=0)
    return weights
