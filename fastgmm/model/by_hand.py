"""Parameters that somebody else than a fit has made: attributes set by hand, arrays given to `engine`.

Checked whenever they are used, before compiled code, which trusts sizes, sees them.
"""

from typing import Any

import numpy as np

from .covariance import STRUCTURES
from .factors.parameters import FactorParameters
from .parameters import Array, MixtureParameters

SUM_TOLERANCE = 1e-3  # of the weights' sum; those of float32 models are rounded


def check_mixture(parameters: MixtureParameters, suffix: str = "_", covariances: Array | None = None) -> None:
    """Raise ValueError, naming the array by its name and this suffix, for what is no mixture."""
    structure = STRUCTURES[parameters.covariance_type]
    _check_weights_and_means(parameters, suffix)
    shape = structure.shape(*parameters.means.shape)
    factors = parameters.precisions_cholesky
    _check_array(f"precisions_cholesky{suffix}", factors, shape, parameters.covariance_type)
    diagonal = factors.diagonal(0, -2, -1) if structure.is_matrix else factors
    if not (diagonal > 0).all():
        component = int(np.argwhere(~(diagonal > 0))[0][0]) if diagonal.ndim > 1 else 0
        raise ValueError(
            f"precisions_cholesky{suffix} of component {component} has a diagonal that is not positive; it is the "
            "upper factor U of the precision U U^T."
        )
    if covariances is not None:
        _check_array(f"covariances{suffix}", covariances, shape, parameters.covariance_type)


def check_factors(parameters: FactorParameters, suffix: str = "_") -> None:
    """The same for a mixture of factor analysers."""
    _check_weights_and_means(parameters, suffix)
    means = parameters.means.shape
    if parameters.loadings.ndim != 3:
        raise ValueError(f"loadings{suffix} must have three dimensions, got shape {parameters.loadings.shape}.")
    _check_array(f"loadings{suffix}", parameters.loadings, (*means, parameters.loadings.shape[2]), "")
    _check_array(f"noise_variance{suffix}", parameters.noise_variance, means, "")
    if not (parameters.noise_variance > 0).all():
        row, column = np.argwhere(~(parameters.noise_variance > 0))[0]
        raise ValueError(f"noise_variance{suffix} of component {row}, feature {column} is not positive.")


def _check_weights_and_means(parameters: Any, suffix: str) -> None:
    weights, means = parameters.weights, parameters.means
    if weights.ndim != 1 or means.ndim != 2 or len(weights) != len(means) or means.size == 0:
        raise ValueError(
            f"weights{suffix} of shape {weights.shape} and means{suffix} of shape {means.shape} are of no mixture: "
            "they must be (n_components,) and (n_components, n_features). Set both."
        )
    _check_finite(f"means{suffix}", means)
    total = float(weights.sum()) + (0.0 if parameters.noise is None else parameters.noise.weight)
    if not (weights >= 0).all() or not abs(total - 1) <= SUM_TOLERANCE:  # NaN, too
        raise ValueError(
            f"weights{suffix} must not be negative and sum to 1, the noise's included; got {weights.min():g} and a sum "
            f"of {total:g}."
        )


def _check_array(name: str, array: Array, shape: tuple[int, ...], kind: str) -> None:
    if array.shape != shape:
        owner = f" for covariance_type={kind!r}" if kind else ""
        raise ValueError(f"{name} must have shape {shape}{owner} and these means, got {array.shape}.")
    _check_finite(name, array)


def _check_finite(name: str, array: Array) -> None:
    if not np.isfinite(array).all():
        component = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{name} of component {component} is not finite.")
