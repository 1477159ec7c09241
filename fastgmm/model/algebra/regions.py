"""Probabilities of boxes, and levels of highest-density regions."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaincinv, logsumexp

from ..parameters import Array
from .components import BLOCK_VALUES, LOG_2_PI, Components
from .one_dimension import along
from .tilting import tilted
from .truncated import log_mass

NEGLIGIBLE = 45.0  # nats below the largest bound: of such components the bound itself will do


def _log_box_parts(mixture: Components, low: Array, high: Array) -> tuple[Array, Array]:
    """Log of each component's weight times its probability of the box, and the relative errors.

    Exact to rounding without correlations.
    """
    scale = np.sqrt(mixture.covariances.diagonal(0, 1, 2))
    errors = np.zeros(len(scale))
    if mixture.is_diagonal:
        logs = log_mass((low - mixture.means) / scale, (high - mixture.means) / scale).sum(axis=1)
        return mixture.log_weights + logs, errors
    parts = [tilted(mean, cov, low, high) for mean, cov in zip(mixture.means, mixture.covariances, strict=True)]
    logs = mixture.log_weights + np.array([part.bound for part in parts])
    for k in np.flatnonzero(logs > logs.max() - NEGLIGIBLE):
        log_probability, errors[k] = parts[k].log_probability()
        logs[k] = mixture.log_weights[k] + log_probability
    return logs, errors


def log_box_probability(mixture: Components, low: Array, high: Array) -> tuple[float, float]:
    """Log-probability of the box, and its relative standard error."""
    logs, errors = _log_box_parts(mixture, low, high)
    noise = mixture.noise
    if noise is not None and noise.weight > 0:
        start, stop = noise.bounds
        with np.errstate(divide="ignore"):
            share = np.log(np.clip(np.minimum(high, stop) - np.maximum(low, start), 0, None) / (stop - start))
        logs, errors = np.append(logs, math.log(noise.weight) + share.sum()), np.append(errors, 0.0)
    total = float(logsumexp(logs))
    if total == -math.inf:
        return total, 0.0
    return total, float(np.sqrt(((np.exp(logs - total) * errors) ** 2).sum()))


def hdr_level(mixture: Components, coverage: Array, draw: Callable[[int, int], Array], n_samples: int) -> Array:
    """Log-densities above which the mixture has these probabilities (Hyndman, 1996).

    Of one Gaussian exactly; in one dimension from evenly spaced quantiles; otherwise from rows that draw(first, last)
    gives.
    """
    d = mixture.n_features
    if len(mixture.weights) == 1 and mixture.noise is None:
        squared = 2 * gammaincinv(0.5 * d, coverage)
        return -0.5 * (squared + d * LOG_2_PI) - mixture.half_log_det[0]
    if d == 1:
        line = along(mixture, np.ones(1))
        return _levels(line.log_pdf(line.quantile((np.arange(n_samples) + 0.5) / n_samples, False)), coverage)
    step = max(1, BLOCK_VALUES // d)
    parts = [mixture.log_density(draw(first, min(first + step, n_samples))) for first in range(0, n_samples, step)]
    return _levels(np.concatenate(parts), coverage)


def _levels(log_density: Array, coverage: Array) -> Array:
    return np.quantile(log_density, 1 - coverage)
