"""How far two mixtures are apart: Kullback-Leibler, L2 and Cauchy-Schwarz."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from ..parameters import Array
from .components import BLOCK_VALUES, Components, log_overlaps


def gaussian_kl(a: Components, b: Components) -> Array:
    """KL(N_i || N_j) in nats for each component i of a and j of b, (n_components of a, of b).

    0.5 (|A|^2 + |u|^2 - d) - sum log diag A, A = L_j^-1 L_i and u = L_j^-1 (mean_i - mean_j): no determinant.
    """
    d = a.n_features
    whiten = b.upper_precision.mT
    out = np.empty((len(a.weights), len(b.weights)))
    step = max(1, BLOCK_VALUES // max(1, b.covariances.size))
    for first in range(0, len(out), step):
        rows = slice(first, first + step)
        factor = whiten @ a.lower[rows, None]
        u = (whiten @ (a.means[rows, None] - b.means)[..., None])[..., 0]
        diagonal = factor.diagonal(0, -2, -1)
        # Of the diagonal t^2 - 1 - log t^2 without cancellation near t = 1.
        own = ((diagonal - 1) * (diagonal + 1) - 2 * np.log(diagonal)).sum(axis=-1)
        squares = (factor**2).sum(axis=(-2, -1)) - (diagonal**2).sum(axis=-1) if d > 1 else 0.0
        out[rows] = 0.5 * (np.maximum(own, 0.0) + squares + (u**2).sum(axis=-1))
    return np.maximum(out, 0.0)


def variational_kl(p: Components, q: Components) -> float:
    """Approximation of KL(p || q) by Hershey and Olsen (2007), equation 20; may be negative."""
    same = logsumexp(p.log_weights - gaussian_kl(p, p), axis=1)
    other = logsumexp(q.log_weights - gaussian_kl(p, q), axis=1)
    return float(p.weights @ (same - other))


def monte_carlo_kl(
    p: Components, q: Components, draw: Callable[[int, int], Array], n_samples: int
) -> tuple[float, float]:
    """Mean over draws of p of log p - log q, and its standard error; draw(first, last) gives these rows."""
    step = max(1, BLOCK_VALUES // p.n_features)
    values = []
    for first in range(0, n_samples, step):
        X = draw(first, min(first + step, n_samples))
        log_p, log_q = p.log_density(X), q.log_density(X)
        values.append(log_p - log_q)
    ratios = np.concatenate(values)
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(n_samples))


def log_inner_product(a: Components, b: Components) -> float:
    """Log of the integral of the product of two densities."""
    return float(logsumexp(np.add.outer(a.log_weights, b.log_weights) + log_overlaps(a, b)))


def l2_distance(a: Components, b: Components) -> float:
    """Square root of the integral of (p - q)^2.

    Components that both have cancel before anything is multiplied, so that the distance of equal mixtures is 0.
    """
    signed = np.concatenate([a.weights, -b.weights])
    means = np.concatenate([a.means, b.means])
    covariances = np.concatenate([a.covariances, b.covariances])
    keys = np.concatenate([means, covariances.reshape(len(means), -1)], axis=1)
    _, firsts, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    weights = np.asarray(np.bincount(group.ravel(), signed), np.float64)
    both = Components(weights, means[firsts], covariances[firsts])
    logs = log_overlaps(both, both)
    present = np.abs(weights) > 0
    if not present.any():
        return 0.0
    most = float(logs[present][:, present].max())
    square = float(weights @ np.exp(np.minimum(logs - most, 0.0)) @ weights)
    return math.exp(0.5 * most) * math.sqrt(max(square, 0.0))


def cauchy_schwarz(a: Components, b: Components) -> float:
    """-log(<p, q> / (|p| |q|)), in nats: 0 for equal mixtures, infinite for disjoint ones."""
    norms = 0.5 * (log_inner_product(a, a) + log_inner_product(b, b))
    return max(0.0, norms - log_inner_product(a, b))
