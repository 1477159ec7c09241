"""Conjugate priors for maximum a posteriori: Dirichlet weights, normal means, inverse-Wishart covariances.

A normal-inverse-Wishart prior (diag, spherical: normal-inverse-gamma) acts as a block of rows seen before the data:
`mean_precision` rows at `mean` and the scatter `scale`, added to every component's statistics. What is left of it is a
power of the determinant, which adds to the denominators (Fraley and Raftery, 2007, section 3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from .covariance import STRUCTURES
from .parameters import Array, MixtureParameters
from .structure import CovarianceStructure


@dataclass(frozen=True)
class ConjugatePrior:
    """What `GaussianMixture(prior=...)` takes; None is replaced by the default of Fraley and Raftery (2007).

    Parameters
    ----------
    weight_concentration : float, default=1
        Of the Dirichlet distribution of the weights, at least 1 (flat); 1 + a adds `a` rows to each component.
    mean_precision : float, default=0.01
        How many rows the prior of each mean is worth; 0 leaves the means alone.
    mean : array-like of shape (n_features,), default: the mean of the rows
    degrees_of_freedom : float, default: n_features + 2
        Of the inverse-Wishart distribution of covariances (of the inverse-gamma distribution of variances, twice its
        shape).
    scale : float or array-like, default: from the rows
        Scatter matrix (n_features, n_features) for full and tied, by default the covariance of the rows divided by
        n_components^(2 / n_features); one number per feature for diag and one number for spherical, by default the
        mean variance of the columns divided by the same. Columns in different units therefore need a `scale` of their
        own with diag. With missing values, variances are those of the values that are there, and correlations those of
        rows filled with column means.

    References
    ----------
    Fraley and Raftery (2007), Bayesian regularization for normal mixture estimation and model-based clustering,
    Journal of Classification 24(2).
    """

    weight_concentration: float = 1.0
    mean_precision: float = 0.01
    mean: ArrayLike | None = None
    degrees_of_freedom: float | None = None
    scale: ArrayLike | None = None

    def resolved(
        self,
        covariance_type: str,
        n_components: int,
        column_mean: Array,
        column_variance: Array,
        covariance: Callable[[], Array],
    ) -> "ResolvedPrior":
        """Put numbers in the place of None; ValueError for one that is out of range or of the wrong shape.

        `covariance()` gives the covariance matrix of the rows, if need be.
        """
        structure, n_features = STRUCTURES[covariance_type], len(column_mean)
        for name, value, low in (
            ("weight_concentration", self.weight_concentration, 1.0),
            ("mean_precision", self.mean_precision, 0.0),
        ):
            if not (np.isfinite(value) and value >= low):
                raise ValueError(f"{name} of the prior must be at least {low:g}. Got {value!r}.")
        dof = n_features + 2.0 if self.degrees_of_freedom is None else float(self.degrees_of_freedom)
        least = n_features - 1 if structure.is_matrix else 0
        if not (np.isfinite(dof) and dof > least):
            raise ValueError(f"degrees_of_freedom of the prior must be greater than {least}. Got {dof!r}.")
        shape = structure.shape(1, n_features)
        shape = shape if structure.pools_components else shape[1:]
        if self.scale is None:
            spread = structure.sample_covariance(np.full(n_features, column_variance.mean()), covariance)
            scale = np.asarray(spread / n_components ** (2 / n_features), np.float64)
        else:
            scale = np.asarray(self.scale, np.float64)
            if scale.shape != shape and scale.ndim == 0 and not structure.is_matrix:
                scale = np.full(shape, scale)
        mean = np.asarray(column_mean if self.mean is None else self.mean, np.float64)
        for name, array, wanted in (("scale", scale, shape), ("mean", mean, (n_features,))):
            if array.shape != wanted:
                raise ValueError(
                    f"{name} of the prior must have shape {wanted} for covariance_type={covariance_type!r} and "
                    f"{n_features} features. Got {array.shape}."
                )
            if not np.isfinite(array).all():
                raise ValueError(f"{name} of the prior must be finite.")
        definite = np.linalg.eigvalsh(scale).min() > 0 if structure.is_matrix else np.all(scale > 0)
        if not definite or (structure.is_matrix and not np.allclose(scale, scale.T)):
            raise ValueError(
                "scale of the prior must be symmetric and positive definite (diag, spherical: positive). By default it "
                "is the covariance of the rows: drop constant or collinear columns, or pass a scale."
            )
        return ResolvedPrior(
            float(self.weight_concentration), float(self.mean_precision), mean, dof, scale, covariance_type
        )


@dataclass(frozen=True)
class ResolvedPrior:
    """A conjugate prior in numbers."""

    weight_concentration: float
    mean_precision: float
    mean: Array
    degrees_of_freedom: float
    scale: Array
    covariance_type: str

    @property
    def _structure(self) -> CovarianceStructure:
        return STRUCTURES[self.covariance_type]

    def pseudo_rows(self, means: Array) -> tuple[Array, Array, Array]:
        """`sum_resp`, `sum_diff` and `sum_outer` about `means` of the rows that the prior stands for."""
        n_components = len(means)
        diff = self.mean - means
        count = np.full(n_components, self.mean_precision)
        outer = self._structure.scatter(np.sqrt(self.mean_precision) * diff, np.arange(n_components))
        return count, self.mean_precision * diff, outer + self.scale

    def exponent(self, n_components: int) -> float:
        """What the densities of the prior add to the denominator of each covariance."""
        n_features = len(self.mean)
        exponent = self._structure.scatter_exponent(self.degrees_of_freedom, n_features)
        return exponent + (self.mean_precision > 0) * self._structure.mean_exponent(n_components, n_features)

    def log_density(self, parameters: MixtureParameters) -> float:
        """Logarithm of the prior's density at these parameters, in nats, but for its normalising constant."""
        structure, factors = self._structure, parameters.precisions_cholesky
        n_components, n_features = parameters.means.shape
        exponent = structure.scatter_exponent(self.degrees_of_freedom, n_features)
        half_log_dets = structure.half_log_dets(factors, n_features)
        total = exponent * half_log_dets.sum() - 0.5 * np.sum(structure.precisions(factors) * self.scale)
        total += np.sum(xlogy(self.weight_concentration - 1, parameters.weights))
        if self.mean_precision > 0:
            log_dets = structure.log_det_precision_chol(factors, n_components, n_features)
            _, _, outer = self.pseudo_rows(parameters.means)
            squares = np.sum(structure.precisions(factors) * (outer - self.scale))
            total += log_dets.sum() - 0.5 * squares
        return float(total)
