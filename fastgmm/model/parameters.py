"""The parameters of a mixture, always float64 inside the library."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TINY = 1e-300  # stands for 0 in logarithms of weights and in denominators


@dataclass(frozen=True)
class UniformNoise:
    """A component of rows that belong to no Gaussian: uniform over a box.

    Attributes
    ----------
    weight : float
    bounds : ndarray of shape (2, n_features)
        Lower and upper corner.
    beta : float
        Power of the weighted density that stands in its place (annealed EM); 1 otherwise.
    """

    weight: float
    bounds: Array
    beta: float = 1.0

    @property
    def log_weighted_density(self) -> float:
        """Logarithm of the weight times the density within the box, times beta; finite for a weight of 0."""
        log_density = -float(np.log(self.bounds[1] - self.bounds[0]).sum())
        return self.beta * (float(np.log(max(self.weight, TINY))) + log_density)


@dataclass(frozen=True)
class MixtureParameters:
    """A Gaussian mixture.

    Attributes
    ----------
    weights : ndarray of shape (n_components,)
    means : ndarray of shape (n_components, n_features)
    precisions_cholesky : ndarray
        Upper triangular U with U U^T = precision, shaped as `covariance_type` says: full (n_components, n_features,
        n_features), tied (n_features, n_features), diag (n_components, n_features), spherical (n_components,).
    covariance_type : str
    covariances : ndarray or None
        Same shape. None where only densities are wanted.
    log_weights : ndarray of shape (n_components,) or None
        What densities use in place of the logarithms of the weights: the expected log-weights of a variational
        posterior, which are not normalised (model/variational_prior.py). None: log(weights).
    noise : UniformNoise or None
        The weights and its weight sum to 1.
    """

    weights: Array
    means: Array
    precisions_cholesky: Array
    covariance_type: str
    covariances: Array | None = None
    log_weights: Array | None = None
    noise: UniformNoise | None = None
