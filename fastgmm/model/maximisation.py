"""The M-step: parameters of maximum likelihood or maximum a posteriori, from sufficient statistics."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..exceptions import SingularCovarianceError
from .covariance import EPS, STRUCTURES, SingularComponent
from .map_prior import ResolvedPrior
from .parameters import TINY, Array, MixtureParameters, UniformNoise
from .statistics import SufficientStatistics
from .structure import CovarianceStructure

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance "
    "caused by singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or "
    "scale the input data."
)
# A scaled Cholesky pivot below this many roundings per feature is what exactly collinear columns leave behind.
PIVOT_ROUNDINGS = 4
# A variance below (16 roundings of the column's own standard deviation)^2 is what equal rows leave behind.
VARIANCE_ROUNDINGS = 16
# on_singular="regularize" raises what is singular to this share of each column's variance.
REGULARISED = 1e-4


@dataclass(frozen=True)
class FixedParameters:
    """Parameters that no M-step changes, in the shapes of the fitted attributes; NaN marks the free components.

    Attributes
    ----------
    weights, means, covariances : ndarray or None
        None: all are free. A tied covariance is fixed as a whole.
    equal_weights : bool
        All weights are equal.
    n_components, n_features : int
        Of the mixture.
    """

    weights: Array | None = None
    means: Array | None = None
    covariances: Array | None = None
    equal_weights: bool = False
    n_components: int = 0
    n_features: int = 0

    @property
    def holds_any(self) -> bool:
        """Whether anything is fixed."""
        given = (self.weights, self.means, self.covariances)
        return self.equal_weights or any(each is not None for each in given)

    @property
    def held_means(self) -> NDArray[np.bool_]:
        """Which components' means are fixed, (n_components,)."""
        assert self.means is not None
        return np.asarray(~np.isnan(self.means).any(axis=1))

    def hold_weights(self, weights: Array, noise_weight: float) -> tuple[Array, float]:
        """Weights with the fixed ones in their places; the others and the noise share what is left."""
        if self.equal_weights:
            return np.full(len(weights), (1.0 - noise_weight) / len(weights)), noise_weight
        if self.weights is None:
            return weights, noise_weight
        free = np.isnan(self.weights)
        left = 1.0 - np.sum(self.weights[~free])
        total = np.sum(weights[free]) + noise_weight
        if total > 0:
            return np.where(free, weights * (left / total), self.weights), noise_weight * (left / total)
        if not free.any():
            return self.weights.copy(), float(left)
        return np.where(free, left / np.sum(free), self.weights), 0.0

    def hold_covariances(self, covariances: Array) -> Array:
        """Covariances with the fixed ones in their places."""
        if self.covariances is None:
            return covariances
        return np.where(np.isnan(self.covariances), covariances, self.covariances)

    def n_held(self, structure: CovarianceStructure) -> int:
        """How many of a mixture's parameters are not free."""
        count = 0
        if self.equal_weights:
            count += self.n_components - 1
        elif self.weights is not None:
            given = ~np.isnan(self.weights)
            count += int(given.sum()) - int(given.all() and np.isclose(self.weights.sum(), 1.0))
        if self.means is not None:
            count += int(self.held_means.sum()) * self.means.shape[1]
        if self.covariances is not None:
            parts = self.covariances[None] if structure.pools_components else self.covariances
            n_given = int((~np.isnan(parts.reshape(len(parts), -1)).any(axis=1)).sum())
            count += structure.n_covariance_parameters(n_given, self.n_features) if n_given else 0
        return count


FREE = FixedParameters()


@dataclass(frozen=True)
class Maximiser:
    """Turns statistics into parameters.

    Parameters
    ----------
    covariance_type : str
    ridge : ndarray of shape (n_features,) or number
        Added to every variance; not where there is a prior, whose scale does its work and whose density would fall.
    column_variance : ndarray of shape (n_features,)
        The scale against which a variance counts as singular.
    floor : float
        Least eigenvalue of a covariance, as a share of the columns' variances.
    prior : ResolvedPrior or None
    fixed : FixedParameters
    noise_bounds : ndarray of shape (2, n_features) or None
        Box of the uniform noise.
    regularises : bool
        Raise a singular covariance instead of SingularCovarianceError.
    """

    covariance_type: str
    ridge: Array | float
    column_variance: Array
    floor: float = 0.0
    prior: ResolvedPrior | None = None
    fixed: FixedParameters = FREE
    noise_bounds: Array | None = None
    regularises: bool = False

    restarts = ()  # a component that collapses is an error here; see optimization/collapse.py

    @property
    def structure(self) -> CovarianceStructure:
        """The row of the covariance table."""
        return STRUCTURES[self.covariance_type]

    def __call__(self, statistics: SufficientStatistics) -> MixtureParameters:
        """Return the parameters of largest objective given the statistics.

        Raises SingularCovarianceError (with `component`, `column`) where a covariance is singular to working precision.
        """
        weights, noise = self.weights(statistics)
        means, covariances = self._means_and_covariances(statistics)
        try:
            factors = self._cholesky(covariances)
        except SingularComponent as singular:
            if not self.regularises:
                raise singular_covariance(singular, weights) from None
            unit = np.where(self.column_variance > 0, self.column_variance, 1.0)
            covariances = self.fixed.hold_covariances(self.structure.floored(covariances, REGULARISED * unit))
            try:
                factors = self._cholesky(covariances)
            except SingularComponent as held:
                raise singular_covariance(held, weights) from None
        return MixtureParameters(weights, means, factors, self.covariance_type, covariances, noise=noise)

    @property
    def least_variance(self) -> Array:
        """What a variance must exceed, (n_features,)."""
        return (VARIANCE_ROUNDINGS * EPS) ** 2 * self.column_variance

    @property
    def least_pivot(self) -> float:
        """What a scaled pivot of a covariance must exceed."""
        return PIVOT_ROUNDINGS * len(self.column_variance) * EPS

    @property
    def is_plain(self) -> bool:
        """Whether covariances get a ridge and nothing else is asked of the M-step."""
        return self.prior is None and self.noise_bounds is None and self.floor == 0 and not self.fixed.holds_any

    def log_prior(self, parameters: MixtureParameters) -> float:
        """Logarithm of the prior's density in nats, but for a constant; 0 without a prior."""
        return 0.0 if self.prior is None else self.prior.log_density(parameters)

    def hold(self, parameters: MixtureParameters) -> MixtureParameters:
        """Return parameters, with covariances, in which the fixed ones have their values."""
        fixed, means, noise = self.fixed, parameters.means, parameters.noise
        factors, covariances = parameters.precisions_cholesky, parameters.covariances
        weights, noise_weight = fixed.hold_weights(parameters.weights, 0.0 if noise is None else noise.weight)
        if noise is not None:
            noise = replace(noise, weight=noise_weight)
        if fixed.means is not None:
            means = np.where(fixed.held_means[:, None], fixed.means, means)
        if fixed.covariances is not None:
            assert covariances is not None
            covariances = fixed.hold_covariances(covariances)
            factors = self.structure.cholesky(covariances)
        return replace(
            parameters, weights=weights, means=means, covariances=covariances, precisions_cholesky=factors, noise=noise
        )

    def _cholesky(self, covariances: Array) -> Array:
        """precisions_cholesky; SingularComponent for a covariance that is singular to working precision."""
        self.structure.check_variances(covariances, self.least_variance)
        return self.structure.cholesky(covariances, rtol=self.least_pivot)

    def weights(self, statistics: SufficientStatistics) -> tuple[Array, UniformNoise | None]:
        """Return the weights of the components, and the noise with its own where there is one."""
        concentration = 1.0 if self.prior is None else self.prior.weight_concentration
        counts = statistics.sum_resp + (concentration - 1.0)
        total = counts.sum() + statistics.noise_resp
        weights, noise_weight = self.fixed.hold_weights(counts / total, float(statistics.noise_resp / total))
        if self.noise_bounds is None:
            return weights, None
        return weights, UniformNoise(noise_weight, self.noise_bounds)

    def _means_and_covariances(self, statistics: SufficientStatistics) -> tuple[Array, Array]:
        structure, old = self.structure, statistics.means
        n_components, n_features = old.shape
        sum_resp, sum_diff, sum_outer = statistics.sum_resp, statistics.sum_diff, statistics.sum_outer
        denominator = structure.denominator(np.maximum(sum_resp, TINY), n_features)
        if self.prior is not None:
            count, diff, outer = self.prior.pseudo_rows(old)
            sum_resp, sum_diff, sum_outer = sum_resp + count, sum_diff + diff, sum_outer + outer
            denominator = denominator + self.prior.exponent(n_components)
        offsets = sum_diff / np.maximum(sum_resp, TINY)[:, None]
        if self.fixed.means is not None:
            held = self.fixed.held_means
            offsets[held] = self.fixed.means[held] - old[held]
        covariances = structure.moved_outer(sum_outer, sum_resp, sum_diff, offsets) / denominator
        if self.prior is None:
            covariances = structure.with_ridge(covariances, np.zeros(n_features) + self.ridge)
        if self.floor > 0:
            unit = np.where(self.column_variance > 0, self.column_variance, 1.0)
            covariances = structure.floored(covariances, self.floor * unit)
        return old + offsets, self.fixed.hold_covariances(covariances)


def singular_covariance(singular: SingularComponent, weights: Array) -> SingularCovarianceError:
    """Describe a singular component; the estimator adds the column's name."""
    pooled = singular.component < 0
    where = "The shared covariance" if pooled else f"Component {singular.component}"
    weight = "" if pooled else f" (weight {weights[singular.component]:.3g})"
    message = f"{ILL_DEFINED} {where}{weight} has no variance left along column {singular.column}."
    return SingularCovarianceError(message, component=singular.component, column=singular.column)
