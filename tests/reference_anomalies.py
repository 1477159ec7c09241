"""Why rows are odd, and p-values that hold, one number at a time."""

from __future__ import annotations

import numpy as np
from scipy.stats import multivariate_normal, norm

from tests import reference_conditioning as slow


def surprise(weights, means, covariances, x, j):
    """-log p(x_j | the others), what is expected of x_j, its deviation and the probability of its tail."""
    others = [d for d in range(len(x)) if d != j]
    w, m, C = slow.condition(weights, means, covariances, others, x[others], [j])
    mean, spread = slow.moments(w, m, C)
    deviations = np.sqrt(C[:, 0, 0])
    below = float(w @ norm.cdf((x[j] - m[:, 0]) / deviations))
    above = float(w @ norm.sf((x[j] - m[:, 0]) / deviations))
    whole = slow.moments(weights, means, covariances)[1][j, j]
    density = slow.log_density(w, m, C, x[[j]])
    return -density - 0.5 * np.log(whole), mean[0], np.sqrt(spread[0, 0]), min(1.0, 2 * min(below, above))


def tail_score(weights, means, covariances, x, n_draws=200_000):
    """-log sum_k w_k P(a draw of component k is farther from its mean than x), by counting draws."""
    rng, total = np.random.default_rng(0), 0.0
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        inverse = np.linalg.inv(covariance)
        draws = multivariate_normal(np.zeros(len(mean)), covariance).rvs(n_draws, random_state=rng)
        farther = np.einsum("nd,de,ne->n", draws, inverse, draws) > (x - mean) @ inverse @ (x - mean)
        total += weight * farther.mean()
    return -np.log(total)


def pvalue(score_of_fold, folds):
    """Cross-conformal, by counting."""
    n = sum(len(fold) for fold in folds)
    count = sum(sum(other >= own for other in fold) for own, fold in zip(score_of_fold, folds, strict=True))
    return (1 + count) / (n + 1)


def discoveries(pvalues, rate):
    """Benjamini and Hochberg: all up to the last k whose k-th smallest p-value is at most rate k / n."""
    order = sorted(range(len(pvalues)), key=lambda i: pvalues[i])
    last = max((k for k in range(1, len(order) + 1) if pvalues[order[k - 1]] <= rate * k / len(order)), default=0)
    return {order[k] for k in range(last)}
