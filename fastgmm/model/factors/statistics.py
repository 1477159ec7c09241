"""Sufficient statistics of a mixture of factor analysers: expected sums over rows and factors together."""

from dataclasses import dataclass, replace

from ..parameters import Array
from .parameters import FactorParameters


@dataclass(frozen=True)
class FactorStatistics:
    """Responsibility-weighted sums with z~ = (z, 1), the expected factors of a row and a one.

    Where values are missing, each feature has sums of its own, over the rows in which it is present: n_own is then
    n_features. Otherwise n_own is 1.

    Attributes
    ----------
    log_likelihood : float
        Weighted total log-likelihood of the rows, in nats.
    sum_resp : ndarray of shape (n_components,)
    latent : ndarray of shape (n_components, n_own, n_factors + 1, n_factors + 1)
        Sum of r E[z~ z~^T]; its last entry is the sum of r.
    cross : ndarray of shape (n_components, n_features, n_factors + 1)
        Sum of r (x - mean) E[z~]^T.
    second : ndarray of shape (n_components, n_features)
        Sum of r (x - mean)^2.
    parameters : FactorParameters
        What the sums were computed with; its means are those the kernels rounded.
    n_far : int
        Rows whose distance to every component left the floating-point range.
    """

    log_likelihood: float
    sum_resp: Array
    latent: Array
    cross: Array
    second: Array
    parameters: FactorParameters
    n_far: int = 0

    @property
    def total_weight(self) -> float:
        """Weight of all rows."""
        return float(self.sum_resp.sum())

    def about(self, means: Array) -> "FactorStatistics":
        """The sums of the same rows and factors, centred on other means."""
        offset = means - self.parameters.means
        counts = self.latent[:, :, -1, -1]
        return replace(
            self,
            cross=self.cross - offset[:, :, None] * self.latent[:, :, -1],
            second=self.second - 2 * offset * self.cross[:, :, -1] + offset**2 * counts,
            parameters=replace(self.parameters, means=means),
        )

    def __add__(self, other: "FactorStatistics") -> "FactorStatistics":
        """Combine the statistics of two disjoint sets of rows under the same parameters."""
        return FactorStatistics(
            self.log_likelihood + other.log_likelihood,
            self.sum_resp + other.sum_resp,
            self.latent + other.latent,
            self.cross + other.cross,
            self.second + other.second,
            self.parameters,
            self.n_far + other.n_far,
        )
