"""Weighted log-densities of components at their means, and of statistics."""

from dataclasses import replace

import numpy as np

from .covariance import STRUCTURES
from .factors.parameters import FactorParameters, low_rank
from .parameters import Array, MixtureParameters
from .statistics import SufficientStatistics
from .structure import KernelStructure

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def structure_of(parameters: MixtureParameters | FactorParameters) -> KernelStructure:
    """The row of the covariance table."""
    if isinstance(parameters, FactorParameters):
        return low_rank(parameters.n_factors)
    return STRUCTURES[parameters.covariance_type]


def compute_log_const(parameters: MixtureParameters | FactorParameters) -> Array:
    """Weighted log-density of each component at its mean, shape (n_components,); -inf for a weight of 0."""
    n_features = parameters.means.shape[1]
    log_det = structure_of(parameters).half_log_det_precision(parameters)
    log_weights = np.log(parameters.weights) if parameters.log_weights is None else parameters.log_weights
    return log_weights + log_det - n_features * HALF_LOG_2PI


def complete_log_likelihood(parameters: MixtureParameters, statistics: SufficientStatistics) -> float:
    """Expected log-density of rows and components together, in nats, from statistics about the parameters' means.

    -sum r |U^T (x - mean)|^2 / 2 is -<precision, scatter> / 2.
    """
    structure = STRUCTURES[parameters.covariance_type]
    present = statistics.sum_resp > 0
    squares = np.sum(structure.precisions(parameters.precisions_cholesky) * statistics.sum_outer)
    return float(statistics.sum_resp[present] @ compute_log_const(parameters)[present] - 0.5 * squares)


def as_full(parameters: MixtureParameters) -> MixtureParameters:
    """The same mixture with one factor per component."""
    factors = np.repeat(parameters.precisions_cholesky[None], len(parameters.weights), axis=0)
    return replace(parameters, precisions_cholesky=factors, covariance_type="full", covariances=None)
