"""Variational inference of a Bayesian mixture: EM with a posterior in the place of the parameters."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..model.covariance import STRUCTURES, SingularComponent
from ..model.log_density import complete_log_likelihood
from ..model.maximisation import singular_covariance
from ..model.parameters import Array, MixtureParameters
from ..model.statistics import SufficientStatistics
from ..model.variational_prior import (
    COUNT_FLOOR,
    MixturePosterior,
    MixturePrior,
    compute_lower_bound,
    estimate_posterior,
)
from .em import EMIteration, check_range

# Every so many passes all components take part, so that one that was left out may come back.
FULL_PASS_EVERY = 10


class VariationalIteration(EMIteration):
    """Coordinate ascent of the evidence's lower bound: an iteration is one pass over the rows and an M-step.

    Components that had fewer rows in all than rounding adds to every one (COUNT_FLOOR) sit out up to FULL_PASS_EVERY
    passes: their posterior is the prior's, and the others' do not notice (tests/test_bayesian_mixture.py).
    """

    changing = ("parameters", "_alive", "_passes")

    def __init__(self, *of_em: Any, prior: MixturePrior, ridge: float) -> None:
        super().__init__(*of_em)
        self._prior, self._ridge = prior, ridge
        self._alive = np.ones(len(self.parameters.weights), bool)
        self._passes = 0

    def em_pass(self, parameters: MixtureParameters) -> tuple[float, MixtureParameters]:
        """Return the lower bound per row after the M-step, in nats, and the posterior of that M-step."""
        alive = self._alive if self._passes % FULL_PASS_EVERY else np.ones_like(self._alive)
        self._passes += 1
        taking_part = _subset(parameters, alive)
        statistics = self.expectation(taking_part)
        check_range(statistics)
        # -sum r log r, with log r = log_const - |U^T (x - mean)|^2 / 2 - log_prob_norm
        entropy = statistics.log_likelihood - complete_log_likelihood(taking_part, statistics)
        statistics = _spread(statistics, parameters, alive)
        posterior = posterior_of(self._prior, statistics, parameters.covariance_type, self._ridge)
        self._alive = statistics.sum_resp >= COUNT_FLOOR
        return compute_lower_bound(self._prior, posterior, entropy) / float(statistics.sum_resp.sum()), posterior


def posterior_of(
    prior: MixturePrior, statistics: SufficientStatistics, covariance_type: str, ridge: float
) -> MixturePosterior:
    """`estimate_posterior`, with SingularCovarianceError for a singular component."""
    try:
        return estimate_posterior(prior, statistics, covariance_type, ridge)
    except SingularComponent as singular:
        raise singular_covariance(singular, statistics.sum_resp / statistics.sum_resp.sum()) from None


def _subset(parameters: MixtureParameters, alive: np.ndarray) -> MixtureParameters:
    """The components that take part, as plain parameters."""
    pooled = STRUCTURES[parameters.covariance_type].pools_components
    assert parameters.log_weights is not None
    return MixtureParameters(
        parameters.weights[alive],
        parameters.means[alive],
        parameters.precisions_cholesky if pooled else parameters.precisions_cholesky[alive],
        parameters.covariance_type,
        log_weights=parameters.log_weights[alive],
    )


def _spread(statistics: SufficientStatistics, parameters: MixtureParameters, alive: np.ndarray) -> SufficientStatistics:
    """Statistics of all components: zero for those that sat out."""
    if alive.all():
        return statistics

    def spread(values: Array) -> Array:
        out = np.zeros((len(alive), *values.shape[1:]))
        out[alive] = values
        return out

    pooled = STRUCTURES[parameters.covariance_type].pools_components
    means = parameters.means.copy()
    means[alive] = statistics.means
    return replace(
        statistics,
        sum_resp=spread(statistics.sum_resp),
        sum_diff=spread(statistics.sum_diff),
        sum_outer=statistics.sum_outer if pooled else spread(statistics.sum_outer),
        means=means,
    )
