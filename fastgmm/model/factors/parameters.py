"""A mixture of factor analysers: its parameters, and what the kernels need to know of its covariances."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np

from ..parameters import Array, UniformNoise
from ..structure import KernelStructure

MOST_SIGNAL = 2.0**18  # |W|^2 up to which float32 knows log-densities to a few hundredths of a nat


@dataclass(frozen=True)
class FactorParameters:
    """Components x = mean + loadings z + e, z ~ N(0, I), e ~ N(0, diag(noise)): always float64 inside the library.

    Attributes
    ----------
    weights : ndarray of shape (n_components,)
    means : ndarray of shape (n_components, n_features)
    loadings : ndarray of shape (n_components, n_features, n_factors)
    noise_variance : ndarray of shape (n_components, n_features)
        Repeated where components or features share it.
    """

    weights: Array
    means: Array
    loadings: Array
    noise_variance: Array

    # What a `MixtureParameters` may have besides.
    log_weights: ClassVar[Array | None] = None
    noise: ClassVar[UniformNoise | None] = None

    @property
    def n_factors(self) -> int:
        """Columns of the loadings."""
        return self.loadings.shape[2]

    @cached_property
    def scaled_loadings(self) -> Array:
        """W = loadings / sd, in the notation of kernels/low_rank.py."""
        return self.loadings / np.sqrt(self.noise_variance)[:, :, None]

    def precision(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """What the kernels compute in: float64 where float32 has no digits left for rows of `dtype`.

        A row of a component has |u|^2 of about |W|^2, of which a few units remain: float32 takes 1e-7 of it.
        """
        if (self.scaled_loadings**2).sum(axis=(1, 2)).max() <= MOST_SIGNAL:
            return dtype
        return np.dtype(np.float64)

    @cached_property
    def cholesky(self) -> Array:
        """Lower C with C C^T = M = I + W^T W, (n_components, n_factors, n_factors)."""
        W, identity = self.scaled_loadings, np.eye(self.n_factors)
        try:
            return np.asarray(np.linalg.cholesky(identity + np.swapaxes(W, 1, 2) @ W), np.float64)
        except np.linalg.LinAlgError:
            # W^2 beyond 10^16 hides the identity, so that parallel loadings make M singular. [W; I] = Q C^T has it all.
            stacked = np.concatenate([W, np.broadcast_to(identity, (len(W), *identity.shape))], axis=1)
            R = np.linalg.qr(stacked, mode="r")
            return np.swapaxes(R, 1, 2) * np.where(np.einsum("kll->kl", R) < 0, -1.0, 1.0)[:, None]

    @cached_property
    def inverse_cholesky(self) -> Array:
        """C^-1, (n_components, n_factors, n_factors)."""
        identity = np.broadcast_to(np.eye(self.n_factors), self.cholesky.shape)
        return np.asarray(np.linalg.solve(self.cholesky, identity), np.float64)

    @cached_property
    def projection(self) -> Array:
        """A^T = W C^-T, (n_components, n_features, n_factors)."""
        return self.scaled_loadings @ np.swapaxes(self.inverse_cholesky, 1, 2)

    @cached_property
    def half_log_det_precision(self) -> Array:
        """Half the log-determinant of each precision, (n_components,)."""
        diagonal = np.einsum("kll->kl", self.cholesky)
        return -0.5 * np.log(self.noise_variance).sum(axis=1) - np.log(diagonal).sum(axis=1)

    def with_observation_noise(self, variance: float) -> "FactorParameters":
        """The mixture of the same rows observed with independent noise of this variance more."""
        return replace(self, noise_variance=self.noise_variance + variance) if variance else self


class LowRank(KernelStructure):
    """The row of the covariance table for loadings loadings^T + diag(noise)."""

    name = "low_rank"

    def __init__(self, n_factors: int) -> None:
        self.n_factors = max(4, n_factors + n_factors % 2)  # the kernels take four and pairs

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (2.0 * n_features * (self.n_factors + 2) + 60)

    def block_size(self, n_samples: int, n_padded: int, n_components: int, itemsize: int) -> int:
        # One chunk, so that it and its whitened copy stay in the second-level cache; no sums end with a block here.
        return 256 // itemsize

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_components, n_padded, self.n_factors + 2), (0,)

    def kernel_factors(self, parameters: FactorParameters, means: Array) -> tuple[Array, Array]:
        scale = 1.0 / np.sqrt(parameters.noise_variance)
        return np.concatenate([np.stack([scale, -means * scale], axis=2), parameters.projection], axis=2), means

    def half_log_det_precision(self, parameters: FactorParameters) -> Array:
        return parameters.half_log_det_precision

    def squared_norm(self, diff: Array, factor: Array, unit: float) -> Array:
        white = diff * (factor[:, 0] / unit)
        return np.maximum((white**2).sum(axis=1) - ((white @ factor[:, 2:]) ** 2).sum(axis=1), 0.0)

    def largest_scale(self, factors: Array) -> float:
        return float(factors[:, :, 0].max())  # the offsets, -mean / sd, multiply nothing


@cache
def low_rank(n_factors: int) -> LowRank:
    """The structure of mixtures with so many factors."""
    return LowRank(n_factors)
