"""The one table of covariance structures: every choice by covariance type is made here.

A structure knows its shapes, how statistics become covariances, how covariances become `precisions_cholesky` and
back, its number of free parameters, and what its kernels read and return.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from .cholesky import SingularComponent as SingularComponent  # for those who catch what the structures raise
from .cholesky import covariance_of, upper_factor, upper_precision_cholesky
from .parameters import Array, MixtureParameters
from .statistics import SufficientStatistics

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance "
    "caused by singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or "
    "scale the input data."
)
EPS = float(np.finfo(np.float64).eps)
# A scaled Cholesky pivot below this many roundings per feature is what exactly collinear columns leave behind.
PIVOT_ROUNDINGS = 4
# A pooled covariance found as total minus between-component scatter loses this share of its digits at most; beyond,
# the scatter is accumulated pair by pair (1e-16 / 1e-4: the 1e-12 promised for one EM step).
TIED_CANCELLATION = 1e-4


def padded(n_features: int) -> int:
    """Features as the kernels see them: a multiple of four."""
    return -(-n_features // 4) * 4


class CovarianceStructure(ABC):
    """What the layers above need to know of a covariance type."""

    name: str
    is_matrix = False  # covariances are matrices, not variances
    pools_components = False  # one covariance for all: second moments are a sum over components

    @property
    def kernels(self) -> ModuleType:
        """The compiled kernels, imported at first use."""
        return import_module(f"fastgmm.kernels.{self.name}")

    @abstractmethod
    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances, precisions and precisions_cholesky."""

    @abstractmethod
    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the covariances."""

    @abstractmethod
    def flops_per_row(self, n_components: int, n_features: int) -> float:
        """Multiply-adds count two; scores and statistics together (an exp counts sixty)."""

    @abstractmethod
    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the kernels' `factors` and `sum_outer`."""

    @abstractmethod
    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        """`factors` and `offsets` of the kernels, unpadded, for means relative to the shift."""

    @abstractmethod
    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        """`sum_diff` and `sum_outer` from what the kernels accumulated, for means relative to the shift."""

    @abstractmethod
    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        """M-step: covariances about the new means, which lie `offsets` away from the old; `counts` are positive."""

    @abstractmethod
    def scatter(self, diff: Array, starts: NDArray[np.int64]) -> Array:
        """Sum of diff diff^T over each run of rows: one entry per run (one for all if the structure pools them)."""

    @abstractmethod
    def check_variances(self, covariances: Array, floor: Array) -> None:
        """Raise SingularComponent if a variance is not above `floor` (n_features,) of its column."""

    @abstractmethod
    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        """precisions_cholesky of covariances; SingularComponent if a scaled pivot is <= rtol or not positive."""

    @abstractmethod
    def covariances(self, precisions_cholesky: Array) -> Array:
        """Covariances of precisions_cholesky."""

    @abstractmethod
    def precisions(self, precisions_cholesky: Array) -> Array:
        """Precisions of precisions_cholesky."""

    @abstractmethod
    def cholesky_of_precisions(self, precisions: Array) -> Array:
        """precisions_cholesky of precisions; LinAlgError if one is not positive definite."""

    @abstractmethod
    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        """Half the log-determinant of each component's precision, shape (n_components,)."""

    @abstractmethod
    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        """Lower factors L of the covariances, to sample: their diagonals (n_components, n_features), and L itself.

        L is (n_components, n_features, n_features), (1, n_features, n_features) for all, or (1, 1, 1) if diagonal.
        """

    @abstractmethod
    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        """weight[k] diff[k] diff[k]^T of each component; their sum if the structure pools them."""

    @abstractmethod
    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        """One covariance of this structure for all rows, from variances (n_features,) or, if need be, covariances."""

    def identity(self, n_components: int, n_features: int) -> Array:
        """Unit covariances."""
        return np.ones(self.shape(n_components, n_features))

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of the mixture: covariances, means and all weights but one."""
        return self.n_covariance_parameters(n_components, n_features) + n_components * n_features + n_components - 1


def _check_above(variances: Array, floor: Array, pooled: bool = False) -> None:
    """Raise SingularComponent at the first entry of variances (n_components, n_features) not above its floor."""
    low = ~(variances > floor)
    if low.any():
        k, d = np.unravel_index(int(np.argmax(low)), low.shape)
        raise SingularComponent(-1 if pooled else int(k), int(d))


def _symmetrised(upper: Array) -> Array:
    """Mirror the upper triangles."""
    is_lower = np.arange(upper.shape[-1])[:, None] > np.arange(upper.shape[-1])
    return np.where(is_lower, np.swapaxes(upper, -1, -2), upper)


class Full(CovarianceStructure):
    """Each component has its own covariance matrix."""

    name = "full"
    is_matrix = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    def identity(self, n_components: int, n_features: int) -> Array:
        return np.broadcast_to(np.eye(n_features), self.shape(n_components, n_features))

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (2.0 * n_features**2 + 6 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, n_padded, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        factors = parameters.precisions_cholesky
        return factors, -np.einsum("kde,kd->ke", factors, means)

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, _symmetrised(outer - means[:, :, None] * first[:, None, :])

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        covariances = statistics.sum_outer / counts[:, None, None] - offsets[:, :, None] * offsets[:, None, :]
        diagonal = np.einsum("kdd->kd", covariances)
        diagonal += reg_covar
        return covariances

    def scatter(self, diff: Array, starts: NDArray[np.int64]) -> Array:
        return np.stack([run.T @ run for run in np.split(diff, starts[1:])])

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight[:, None, None] * diff[:, :, None] * diff[:, None, :]

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return covariance()

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(np.einsum("kdd->kd", covariances), floor)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        return upper_precision_cholesky(covariances, rtol)

    def covariances(self, precisions_cholesky: Array) -> Array:
        return covariance_of(precisions_cholesky)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ np.swapaxes(precisions_cholesky, -1, -2)

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return upper_factor(precisions)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.log(np.einsum("kdd->kd", precisions_cholesky)).sum(axis=1)

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        lower = np.asarray(np.linalg.cholesky(covariances), np.float64)
        return np.einsum("kdd->kd", lower).copy(), lower


class Tied(CovarianceStructure):
    """All components share one covariance matrix."""

    name = "tied"
    is_matrix = True
    pools_components = True

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

    def identity(self, n_components: int, n_features: int) -> Array:
        return np.broadcast_to(np.eye(n_features), self.shape(n_components, n_features))

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (4.0 * n_features + 60) + 2.0 * n_features**2

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (1, n_padded, n_padded), (1, 1, 1)

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        factor = parameters.precisions_cholesky
        return factor[None], means @ factor

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        """The second moment is minus what the means account for; `StatisticsPass` adds the scatter of the data."""
        sum_diff = first - means * sum_resp[:, None]
        cross = means.T @ sum_diff
        return sum_diff, -((means.T * sum_resp) @ means + cross + cross.T)

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        pooled = statistics.sum_outer - (offsets.T * statistics.sum_resp) @ offsets
        covariance = (pooled + pooled.T) / (2 * statistics.sum_resp.sum())
        covariance.flat[:: len(covariance) + 1] += reg_covar
        return covariance

    def scatter(self, diff: Array, starts: NDArray[np.int64]) -> Array:
        return diff.T @ diff

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return (weight * diff.T) @ diff

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return covariance()

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(np.diagonal(covariances)[None], floor, pooled=True)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        try:
            return upper_precision_cholesky(covariances[None], rtol)[0]
        except SingularComponent as singular:
            raise SingularComponent(-1, singular.column) from None

    def covariances(self, precisions_cholesky: Array) -> Array:
        return covariance_of(precisions_cholesky)

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky @ precisions_cholesky.T

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return upper_factor(precisions)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.full(n_components, np.log(np.diagonal(precisions_cholesky)).sum())

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        lower = np.asarray(np.linalg.cholesky(covariances), np.float64)[None]
        return np.tile(np.diagonal(lower[0]), (n_components, 1)), lower


class _Variances(CovarianceStructure):
    """What structures without correlations share: all arithmetic is elementwise."""

    def covariances(self, precisions_cholesky: Array) -> Array:
        return 1 / precisions_cholesky**2

    def precisions(self, precisions_cholesky: Array) -> Array:
        return precisions_cholesky**2

    def cholesky_of_precisions(self, precisions: Array) -> Array:
        return np.sqrt(precisions)

    def sampling_factors(self, covariances: Array, n_components: int, n_features: int) -> tuple[Array, Array]:
        scales = np.empty((n_components, n_features))
        scales.T[:] = np.sqrt(covariances).T
        return scales, np.zeros((1, 1, 1))


class Diag(_Variances):
    """Each component has its own variance per feature."""

    name = "diag"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (8.0 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shape = (n_components, 1, n_padded)
        return shape, shape

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, :], -means * parameters.precisions_cholesky

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first, outer[:, 0, :]

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        return statistics.sum_outer / counts[:, None] - offsets**2 + reg_covar

    def scatter(self, diff: Array, starts: NDArray[np.int64]) -> Array:
        return np.add.reduceat(diff**2, starts)

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight[:, None] * diff**2

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return variance

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances, floor)

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        _check_above(covariances, np.zeros(covariances.shape[1]))
        return 1 / np.sqrt(covariances)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return np.log(precisions_cholesky).sum(axis=1)


class Spherical(_Variances):
    """Each component has one variance."""

    name = "spherical"

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def flops_per_row(self, n_components: int, n_features: int) -> float:
        return n_components * (8.0 * n_features + 60)

    def kernel_shapes(self, n_components: int, n_padded: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_components, 1, 1), (n_components, 1, 1)

    def kernel_factors(self, parameters: MixtureParameters, means: Array) -> tuple[Array, Array]:
        return parameters.precisions_cholesky[:, None, None], -means * parameters.precisions_cholesky[:, None]

    def centred(self, first: Array, outer: Array, sum_resp: Array, means: Array) -> tuple[Array, Array]:
        return first - means * sum_resp[:, None], outer[:, 0, 0]

    def estimate_covariances(
        self, statistics: SufficientStatistics, counts: Array, offsets: Array, reg_covar: float
    ) -> Array:
        return (statistics.sum_outer / counts - (offsets**2).sum(axis=1)) / offsets.shape[1] + reg_covar

    def scatter(self, diff: Array, starts: NDArray[np.int64]) -> Array:
        return np.add.reduceat((diff**2).sum(axis=1), starts)

    def pooled_outer(self, diff: Array, weight: Array) -> Array:
        return weight * np.mean(diff**2, axis=1)

    def sample_covariance(self, variance: Array, covariance: Callable[[], Array]) -> Array:
        return variance.mean()

    def check_variances(self, covariances: Array, floor: Array) -> None:
        _check_above(covariances[:, None], floor.mean(keepdims=True))

    def cholesky(self, covariances: Array, rtol: float = 0.0) -> Array:
        _check_above(covariances[:, None], np.zeros(1))
        return 1 / np.sqrt(covariances)

    def log_det_precision_chol(self, precisions_cholesky: Array, n_components: int, n_features: int) -> Array:
        return n_features * np.log(precisions_cholesky)


STRUCTURES: dict[str, CovarianceStructure] = {s.name: s for s in (Full(), Tied(), Diag(), Spherical())}
