"""The M-step of a mixture of factor analysers: means, loadings and noise of each component at once."""

from dataclasses import dataclass, field

import numpy as np

from ..parameters import TINY, Array
from ..resumable import Resumable
from .parameters import FactorParameters
from .statistics import FactorStatistics

# A component with less than this share of an equal part of the weight has died; half of the largest replaces it.
EMPTY = 1e-6
MOST_RESTARTS = 10  # per component
RIDGE = 1e-13  # of the diagonal of E: some roundings


@dataclass(frozen=True)
class NoisePrior:
    """Inverse-gamma density of every free noise variance, proportional to v^-(shape + 1) exp(-scale / v).

    Attributes
    ----------
    shape : float
    scale : float, or ndarray of shape (n_features,)
        The mode is scale / (shape + 1); the prior weighs like 2 shape + 2 rows of that variance.
    """

    shape: float
    scale: Array | float


@dataclass(frozen=True)
class FactorMaximiser(Resumable):
    """Turns statistics into parameters.

    With z~ = (z, 1), the loadings and the mean together solve a regression of the rows on the factors, [L m] = Y E^-1
    (Ghahramani and Hinton, 1996), and the noise is what it leaves.

    Parameters
    ----------
    isotropic : bool
        One noise variance for all features (mixtures of probabilistic principal component analysers, Tipping and
        Bishop, 1999).
    shared : bool
        One noise for all components.
    floor : float
        Least noise variance.
    prior : NoisePrior or None
    """

    changing = ("restarts",)
    isotropic: bool = False
    shared: bool = False
    floor: float = 0.0
    prior: NoisePrior | None = None
    restarts: list[int] = field(default_factory=list)

    def __call__(self, statistics: FactorStatistics) -> FactorParameters:
        """Return the parameters of largest objective given the statistics; dead components come back to life."""
        old = statistics.parameters
        n_factors = old.n_factors
        counts = statistics.latent[:, :, -1, -1]  # (n_components, n_own)
        seen = counts > TINY
        identity = np.eye(n_factors + 1)
        latent = np.where(seen[:, :, None, None], statistics.latent, identity)
        solution = _solve(latent, statistics.cross)
        kept = np.broadcast_to(seen, old.means.shape)
        loadings = np.where(kept[:, :, None], solution[:, :, :-1], old.loadings)
        means = np.where(kept, old.means + solution[:, :, -1], old.means)
        residual = np.maximum(statistics.second - np.einsum("kdl,kdl->kd", solution, statistics.cross), 0.0)
        pooled = self.shared or self.isotropic
        noise = np.where(kept | pooled, self._noise(residual, counts), old.noise_variance)
        weights = statistics.sum_resp / statistics.total_weight
        return self._revived(FactorParameters(weights, means, loadings, np.maximum(noise, self.floor)))

    def log_prior(self, parameters: FactorParameters) -> float:
        """Logarithm of the prior's density in nats, but for a constant; 0 without a prior."""
        if self.prior is None:
            return 0.0
        free = parameters.noise_variance[: 1 if self.shared else None, : 1 if self.isotropic else None]
        return float(-((self.prior.shape + 1) * np.log(free) + self.prior.scale / free).sum())

    @property
    def _pooled_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, pooled in enumerate((self.shared, self.isotropic)) if pooled)

    def _noise(self, residual: Array, counts: Array) -> Array:
        """Noise variances from sums of squared residuals (n_components, n_features) and their numbers of rows."""
        axes = self._pooled_axes
        numerator = residual.sum(axis=axes, keepdims=True)
        denominator = np.broadcast_to(counts, residual.shape).sum(axis=axes, keepdims=True)
        if self.prior is not None:
            numerator = numerator + 2 * self.prior.scale
            denominator = denominator + 2 * self.prior.shape + 2
        return np.broadcast_to(numerator / np.maximum(denominator, TINY), residual.shape)

    def _revived(self, parameters: FactorParameters) -> FactorParameters:
        """Split the largest component along its first loadings for every one that has no rows."""
        weights, n_components = parameters.weights, len(parameters.weights)
        dead = np.flatnonzero(weights * n_components < EMPTY)
        if not len(dead) or n_components == 1:
            return parameters
        weights, means = weights.copy(), parameters.means.copy()
        loadings, noise = parameters.loadings.copy(), parameters.noise_variance.copy()
        for k in dead:
            if self.restarts.count(int(k)) >= MOST_RESTARTS:
                continue
            largest = int(np.argmax(weights))
            step = 0.5 * loadings[largest][:, np.argmax((loadings[largest] ** 2).sum(axis=0))]
            means[k], means[largest] = means[largest] + step, means[largest] - step
            loadings[k], noise[k] = loadings[largest], noise[largest]
            weights[k] = weights[largest] = 0.5 * (weights[largest] + weights[k])
            self.restarts.append(int(k))
        return FactorParameters(weights, means, loadings, noise)


def _solve(latent: Array, cross: Array) -> Array:
    """Y E^-1 for E (n_components, n_own, size, size) and Y (n_components, n_features, size)."""
    try:
        return _solved(latent, cross)
    except np.linalg.LinAlgError:
        # A component of fewer rows than factors, with loadings of 10^8 noise widths: E has directions without digits,
        # along which any loading is as good as another. Scaled by its diagonal, what is added is the rounding of E.
        diagonal = np.einsum("kdll->kdl", latent)
        return _solved(latent + RIDGE * diagonal[..., None] * np.eye(latent.shape[-1]), cross)


def _solved(latent: Array, cross: Array) -> Array:
    if latent.shape[1] == 1:
        return np.asarray(np.swapaxes(np.linalg.solve(latent[:, 0], np.swapaxes(cross, 1, 2)), 1, 2))
    return np.asarray(np.linalg.solve(latent, cross[..., None])[..., 0])
