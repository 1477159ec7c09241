"""Conjugate priors of a mixture and its variational posterior (Bishop, 2006, section 10.2; Blei and Jordan, 2006).

Weights have a Dirichlet distribution, or sticks broken by a Dirichlet process; means are Gaussian given precisions,
precisions Wishart. As in scikit-learn, covariances are scatter matrices divided by the degrees of freedom, a tied
covariance takes a component's share of the rows, and variances (diag, spherical) use the Wishart's formulas.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, digamma, gammaln

from .covariance import EPS, STRUCTURES
from .parameters import Array, MixtureParameters
from .statistics import SufficientStatistics
from .structure import CovarianceStructure

COUNT_FLOOR = 10 * EPS  # added to every component's number of rows, as scikit-learn does


class WeightPrior(ABC):
    """A distribution of mixture weights. `concentration` has shape (n_components,), or (2, n_components) for sticks."""

    @abstractmethod
    def posterior(self, prior: float, counts: Array) -> Array:
        """Concentration after `counts` rows per component."""

    @abstractmethod
    def mean(self, concentration: Array) -> Array:
        """Expected weights, summing to 1."""

    @abstractmethod
    def mean_log(self, concentration: Array) -> Array:
        """Expected logarithms of the weights."""

    @abstractmethod
    def log_norm(self, concentration: Array) -> float:
        """Logarithm of the normalising constant of the density."""


class DirichletDistribution(WeightPrior):
    """Weights of a fixed number of components (Bishop, 2006, equations 10.39, 10.58, 10.66)."""

    def posterior(self, prior: float, counts: Array) -> Array:
        return prior + counts

    def mean(self, concentration: Array) -> Array:
        return concentration / concentration.sum()

    def mean_log(self, concentration: Array) -> Array:
        return digamma(concentration) - digamma(concentration.sum())

    def log_norm(self, concentration: Array) -> float:
        return float(gammaln(concentration.sum()) - gammaln(concentration).sum())


class DirichletProcess(WeightPrior):
    """Sticks v_k ~ Beta(1, prior), weight_k = v_k prod_{j<k} (1 - v_j), truncated (Blei and Jordan, 2006)."""

    def posterior(self, prior: float, counts: Array) -> Array:
        after = np.append(np.cumsum(counts[::-1])[-2::-1], 0.0)  # rows of the components behind each
        return np.stack([1.0 + counts, prior + after])

    def mean(self, concentration: Array) -> Array:
        a, b = concentration
        weights = a / (a + b) * np.append(1.0, np.cumprod(b / (a + b))[:-1])
        return weights / weights.sum()

    def mean_log(self, concentration: Array) -> Array:
        a, b = concentration
        total = digamma(a + b)
        return digamma(a) - total + np.append(0.0, np.cumsum(digamma(b) - total)[:-1])

    def log_norm(self, concentration: Array) -> float:
        return -float(betaln(*concentration).sum())


WEIGHT_PRIORS: dict[str, WeightPrior] = {
    "dirichlet_process": DirichletProcess(),
    "dirichlet_distribution": DirichletDistribution(),
}


@dataclass(frozen=True)
class MixturePrior:
    """Hyperparameters: `weights` says how to read `weight_concentration`; `covariance` is a scatter, shaped like one
    component's covariance.
    """

    weights: WeightPrior
    weight_concentration: float
    mean_precision: float
    mean: Array
    degrees_of_freedom: float
    covariance: Array


@dataclass(frozen=True, kw_only=True)
class MixturePosterior(MixtureParameters):
    """The variational posterior; as MixtureParameters, what its E-step and its predictions need.

    Attributes
    ----------
    weight_concentration : ndarray, see WeightPrior
    mean_precision : ndarray of shape (n_components,)
    degrees_of_freedom : ndarray of shape (n_components,), or () where components share their covariance
    """

    weight_concentration: Array
    mean_precision: Array
    degrees_of_freedom: Array


def expected_log_weights(
    weights: WeightPrior, concentration: Array, mean_precision: Array, degrees_of_freedom: Array, n_features: int
) -> Array:
    """What stands for log(weights) in the E-step, (n_components,): expectations that no row changes.

    E[log weight], the expected log-determinant (Bishop, 2006, equation 10.65) less the log-determinant of the expected
    precision, and the variance of the means (10.64).
    """
    dof = np.asarray(degrees_of_freedom)
    halves = 0.5 * (dof[..., None] - np.arange(n_features))
    log_det = n_features * np.log(2.0) + digamma(halves).sum(axis=-1) - n_features * np.log(dof)
    return weights.mean_log(concentration) + 0.5 * (log_det - n_features / mean_precision)


def estimate_posterior(
    prior: MixturePrior, statistics: SufficientStatistics, covariance_type: str, ridge: Array | float
) -> MixturePosterior:
    """M-step: the posterior of all parameters given the statistics (Bishop, 2006, equations 10.58 to 10.63).

    Raises SingularComponent where a covariance is singular to working precision, which a proper prior prevents.
    """
    structure = STRUCTURES[covariance_type]
    n_components, n_features = statistics.means.shape
    counts = np.where(statistics.sum_resp > 0, statistics.sum_resp, 1.0)
    offsets = statistics.sum_diff / counts[:, None]
    scatter = structure.moved_outer(statistics.sum_outer, statistics.sum_resp, statistics.sum_diff, offsets)
    rows = statistics.sum_resp if structure.pools_components else counts
    scatter = structure.with_ridge(
        scatter / structure.denominator(rows, n_features), np.broadcast_to(ridge, n_features)
    )
    n_rows = statistics.sum_resp + COUNT_FLOOR
    mean_precision, share = prior.mean_precision + n_rows, structure.share(n_rows)
    diff = statistics.means + offsets - prior.mean
    means = prior.mean + diff * (n_rows / mean_precision)[:, None]
    sharing = n_components if structure.pools_components else 1
    shrinkage = structure.pooled_outer(diff, n_rows * prior.mean_precision / mean_precision) / sharing
    covariances = prior.covariance + _along(share, scatter) * scatter + shrinkage
    covariances = covariances / _along(prior.degrees_of_freedom + share, scatter)
    return posterior_at(prior, n_rows, means, structure.cholesky(covariances), covariance_type, covariances)


def posterior_at(
    prior: MixturePrior,
    n_rows: Array,
    means: Array,
    precisions_cholesky: Array,
    covariance_type: str,
    covariances: Array | None = None,
) -> MixturePosterior:
    """The posterior of so many rows per component, (n_components,), with these means and factors."""
    mean_precision = prior.mean_precision + n_rows
    degrees_of_freedom = prior.degrees_of_freedom + STRUCTURES[covariance_type].share(n_rows)
    concentration = prior.weights.posterior(prior.weight_concentration, n_rows)
    n_features = means.shape[1]
    return MixturePosterior(
        prior.weights.mean(concentration),
        means,
        precisions_cholesky,
        covariance_type,
        covariances,
        expected_log_weights(prior.weights, concentration, mean_precision, degrees_of_freedom, n_features),
        weight_concentration=concentration,
        mean_precision=mean_precision,
        degrees_of_freedom=degrees_of_freedom,
    )


def _along(values: Array, covariances: Array) -> Array:
    """`values` per component (or one), shaped to multiply covariances."""
    return values.reshape(values.shape + (1,) * (covariances.ndim - values.ndim))


def compute_lower_bound(prior: MixturePrior, posterior: MixturePosterior, entropy: float) -> float:
    """The evidence's lower bound in nats but for a constant of the prior, right after the M-step (as in scikit-learn).

    There the expected log-likelihood, log-prior and log-posterior cancel but for normalising constants (Bishop, 2006,
    equation 10.70 with 10.58 to 10.63 put in).
    """
    structure: CovarianceStructure = STRUCTURES[posterior.covariance_type]
    n_components, n_features = posterior.means.shape
    dof = posterior.degrees_of_freedom
    log_det = structure.log_det_precision_chol(posterior.precisions_cholesky, n_components, n_features)
    log_det = log_det - 0.5 * n_features * np.log(dof)
    halves = 0.5 * (dof[..., None] - np.arange(n_features))
    log_wishart = -(dof * (log_det + 0.5 * n_features * np.log(2.0)) + gammaln(halves).sum(axis=-1))
    return (
        entropy
        - float(log_wishart.sum())
        - prior.weights.log_norm(posterior.weight_concentration)
        - 0.5 * n_features * float(np.log(posterior.mean_precision).sum())
    )
