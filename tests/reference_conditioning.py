"""Conditional mixtures, one row at a time, by the textbook's formulas: slow and obvious."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm


def condition(weights, means, covariances, given, values, wanted):
    """Weights, means and covariances of the wanted columns where the given ones have these values."""
    A = np.eye(means.shape[1])[given]
    return evidence(weights, means, covariances, A, values, np.zeros((len(given), len(given))), wanted)


def evidence(weights, means, covariances, A, values, noise, wanted):
    """The same given A x + e = values, e ~ N(0, noise)."""
    log_weights, new_means, new_covariances = [], [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        T = A @ covariance @ A.T + noise
        gain = covariance @ A.T @ np.linalg.inv(T)
        log_weights.append(np.log(weight) + multivariate_normal(A @ mean, T).logpdf(values))
        new_means.append((mean + gain @ (values - A @ mean))[wanted])
        new_covariances.append((covariance - gain @ A @ covariance)[np.ix_(wanted, wanted)])
    log_weights = np.array(log_weights)
    return np.exp(log_weights - logsumexp(log_weights)), np.array(new_means), np.array(new_covariances)


def moments(weights, means, covariances):
    """Mean and covariance of a mixture."""
    mean = weights @ means
    away = means - mean
    return mean, np.einsum("k,kde->de", weights, covariances) + np.einsum("k,kd,ke->de", weights, away, away)


def log_density(weights, means, covariances, y):
    """Log-density of a mixture at one row."""
    each = [multivariate_normal(m, C).logpdf(y) for m, C in zip(means, covariances, strict=True)]
    with np.errstate(divide="ignore"):  # a component may be impossible
        return logsumexp(np.log(weights) + each)


def quantile(weights, means, deviations, probability):
    """Quantile of a mixture in one dimension, by bisection on the smaller tail."""
    sign = -1.0 if probability > 0.5 else 1.0
    goal = np.log(probability if probability <= 0.5 else 1.0 - probability)

    def excess(x):
        return logsumexp(np.log(weights) + norm.logcdf(sign * (x - means) / deviations)) - goal

    own = means + deviations * norm.ppf(probability)
    low, high = own.min() - 1e-9 * deviations.max(), own.max() + 1e-9 * deviations.max()
    return brentq(excess, low, high, xtol=1e-15 * max(1.0, abs(low)), rtol=8.9e-16)
