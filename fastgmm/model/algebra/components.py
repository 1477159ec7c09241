"""The components of a mixture with what the algebra asks of them again and again, each found once."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..covariance import STRUCTURES, SingularComponent
from ..parameters import Array, MixtureParameters, UniformNoise
from ..scoring import GaussianDensity, Scorer

DENSE = "full"
LOG_2_PI = float(np.log(2 * np.pi))
BLOCK_VALUES = 2**21  # numbers of the tables that are worked on at a time: 16 MiB


class SingularError(ValueError):
    """Internal: a covariance is singular to working precision; `component` and `column` say which."""

    def __init__(self, component: int, column: int) -> None:
        self.component, self.column = component, column
        super().__init__(f"covariance of component {component} is singular along column {column}")


@dataclass(frozen=True, eq=False)
class Components:
    """A mixture in float64.

    Attributes
    ----------
    weights : ndarray of shape (n_components,), positive, with the noise's summing to 1
    means : ndarray of shape (n_components, n_features)
    covariances : ndarray of shape (n_components, n_features, n_features)
    noise : UniformNoise or None
    """

    weights: Array
    means: Array
    covariances: Array
    noise: UniformNoise | None = None

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.means.shape[1]

    @cached_property
    def log_weights(self) -> Array:
        """Logarithms of the weights."""
        return np.log(self.weights)

    @cached_property
    def lower(self) -> Array:
        """Lower triangular L with L L^T = covariance."""
        try:
            return np.asarray(np.linalg.cholesky(self.covariances), np.float64)
        except np.linalg.LinAlgError:
            _ = self.upper_precision  # which names the component
            raise SingularError(0, 0) from None

    @cached_property
    def upper_precision(self) -> Array:
        """Upper triangular U with U U^T = precision; its transpose whitens rows."""
        try:
            return STRUCTURES[DENSE].cholesky(np.ascontiguousarray(self.covariances))
        except SingularComponent as error:
            raise SingularError(error.component, error.column) from None

    @cached_property
    def precisions(self) -> Array:
        """Inverses of the covariances."""
        return self.upper_precision @ self.upper_precision.mT

    @cached_property
    def half_log_det(self) -> Array:
        """Half the logarithm of the covariances' determinants."""
        return np.log(self.lower.diagonal(0, 1, 2)).sum(axis=1)

    @cached_property
    def is_diagonal(self) -> bool:
        """Whether no component has correlations."""
        return not (self.covariances * (1 - np.eye(self.n_features))).any()

    @cached_property
    def mean(self) -> Array:
        """Mean of the Gaussians, found about the first so that a common offset costs no digits."""
        return self.means[0] + self.weights @ (self.means - self.means[0]) / self.weights.sum()

    @cached_property
    def _score(self) -> Scorer:
        arrays = (self.weights, np.ascontiguousarray(self.means), self.upper_precision)
        density = GaussianDensity(MixtureParameters(*arrays, DENSE, self.covariances, noise=self.noise))
        return density.scorer(np.dtype(np.float64))

    def log_density(self, X: Array) -> Array:
        """Log-density of rows (n_rows, n_features), in nats."""
        out = np.empty(len(X))
        if len(X):
            self._score(np.ascontiguousarray(X), log_prob_norm=out)
        return out

    def responsibilities(self, X: Array) -> Array:
        """Probability of each component, (n_rows, n_components); the noise has the rest."""
        out = np.empty((len(X), len(self.weights)))
        if len(X):
            self._score(np.ascontiguousarray(X), resp=out)
        return out

    def moved(self, offset: Array) -> "Components":
        """The mixture of rows plus an offset, without noise."""
        return replace(self, means=self.means + offset, noise=None)

    def only(self, keep: NDArray[Any]) -> "Components":
        """Some of the components, their weights as they are."""
        return replace(self, weights=self.weights[keep], means=self.means[keep], covariances=self.covariances[keep])


def symmetrised(matrices: Array) -> Array:
    """Without what rounding makes of symmetry."""
    return 0.5 * (matrices + matrices.mT)


def from_logs(log_weights: Array, means: Array, covariances: Array) -> Components:
    """A mixture of normalised weights; components whose weight underflows are left out."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    keep = weights > 0
    return Components(weights[keep] / weights[keep].sum(), means[keep], symmetrised(covariances[keep]))


def solved(lower: Array, values: Array) -> Array:
    """lower^-1 values for stacks of factors (..., d, d) and vectors (..., d)."""
    return np.asarray(np.linalg.solve(lower, values[..., None])[..., 0], np.float64)


def log_normal(diff: Array, covariances: Array) -> Array:
    """Log-density at diff (..., d) of normal vectors of mean 0 and covariances (..., d, d)."""
    lower = np.asarray(np.linalg.cholesky(covariances), np.float64)
    half_log_det = np.log(lower.diagonal(0, -2, -1)).sum(axis=-1)
    distance = (solved(lower, diff) ** 2).sum(axis=-1)
    return -0.5 * (distance + diff.shape[-1] * LOG_2_PI) - half_log_det


def log_overlaps(a: Components, b: Components) -> Array:
    """Log of the integral of N_i N_j for each component i of a and j of b: N(mean_i; mean_j, S_i + S_j)."""
    out = np.empty((len(a.weights), len(b.weights)))
    step = max(1, BLOCK_VALUES // max(1, b.covariances.size))
    for first in range(0, len(out), step):
        rows = slice(first, first + step)
        diff = a.means[rows, None] - b.means
        out[rows] = log_normal(diff, a.covariances[rows, None] + b.covariances)
    return out
